"""Hybrid Transformer, hybrid and time-domain Demucs at their published sizes, beside the package ``demucs`` in PyTorch.

Two units of work: separating a quarter of a minute of stereo music as ``apply_model`` does it (chunks, overlap 0.25, no
shift), and one training step (forward, L1, backward, Adam) on one segment. Same weights, same threads; what both sides
compute is compared before anything is timed.
"""

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import weights
from benchmarks.harness import Row, Task, off_by, race, serve_results, serve_steps, take_side
from benchmarks.sounds import RATE, music

NETWORKS = ("htdemucs", "hdemucs", "demucs")
UNITS = {"separate": ("separation", 15.6), "train": ("training step", 7.8)}  # what it is, seconds
QUICK = {"separate": 7.8, "train": 2.0}


def targets(mix: np.ndarray, sources: int) -> np.ndarray:
    """Estimates that the training step is to make, ``[1, S, 2, N]``."""
    shares = np.random.default_rng(1).dirichlet(np.ones(sources)).astype(np.float32)
    return shares[None, :, None, None] * mix[:, None]


def paddle_side(task: Task) -> None:
    from runtime import device

    device.activate(device.select("cpu"))
    import paddle

    import models
    from inference import Separator
    from pretrained import load_reference_state

    model = models.create(task.options["network"])
    load_reference_state(model, weights.read(task.weights))
    mix = music(task.options["seconds"])
    if task.unit == "separate":
        separator = Separator.from_model(model, engine="auto", shifts=0)
        serve_results(task.output, lambda: np.stack(list(separator.separate(mix[0], RATE).values())))
        return
    model.train()
    adam = paddle.optimizer.Adam(3e-4, parameters=model.parameters())
    x, y = paddle.to_tensor(mix), paddle.to_tensor(targets(mix, len(model.description.sources)))
    serve_steps(lambda: (model(x) - y).abs().mean(), adam.step, adam.clear_grad)


def torch_side(task: Task) -> None:
    import torch
    from demucs.apply import apply_model

    model = _torch_network(task.options["network"])
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.read(task.weights).items()})
    mix = music(task.options["seconds"])
    if task.unit == "separate":
        model.eval()

        def separate() -> np.ndarray:
            # the normalisation that the original's own interface does around the call
            reference = torch.from_numpy(mix[0]).mean(0)
            mean, deviation = reference.mean(), reference.std() + 1e-8
            with torch.no_grad():
                stems = apply_model(model, (torch.from_numpy(mix) - mean) / deviation, shifts=0)[0]
            return (stems * deviation + mean).numpy()

        serve_results(task.output, separate)
        return
    model.train()
    adam = torch.optim.Adam(model.parameters(), 3e-4)
    x, y = torch.from_numpy(mix), torch.from_numpy(targets(mix, len(model.sources)))
    serve_steps(lambda: (model(x) - y).abs().mean(), adam.step, adam.zero_grad)


def _torch_network(network: str) -> Any:
    """The original with the options of our network of this name."""
    import inspect

    from demucs.demucs import Demucs
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs

    from models import describe

    klass = {"demucs": Demucs, "hdemucs": HDemucs, "htdemucs": HTDemucs}[network]
    known = inspect.signature(klass).parameters
    options = {name: value for name, value in describe(network).config.items() if name in known}
    return klass(**{**options, "sources": list(options["sources"]), "segment": Fraction(options["segment"])})


def measure(quick: bool = False) -> Iterator[Row]:
    """Two rows a network."""
    with tempfile.TemporaryDirectory() as scratch:
        for network in NETWORKS:
            state = weights.write(network, Path(scratch, f"{network}.npz"))
            for unit, (what, usual) in UNITS.items():
                seconds = QUICK[unit] if quick else usual
                options = {"network": network, "seconds": seconds}
                pair, note = race(__name__, unit, state, options, off_by("stems"), runs=3 if quick else 5)
                yield Row(f"{what}, {network}", pair, f"{seconds:g} s of music, {note}")


if __name__ == "__main__":
    take_side(paddle_side, torch_side)
