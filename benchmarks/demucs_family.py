"""Hybrid Transformer, hybrid and time-domain Demucs at their published sizes, beside the package ``demucs`` in PyTorch.

Two units of work: separating a quarter of a minute of stereo music as ``apply_model`` does it (chunks, overlap 0.25, no
shift), and one training step (forward, L1, backward, Adam) on one segment. Same weights, same threads; what both sides
compute is compared before anything is timed.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import weights
from benchmarks.harness import Pair, Row, Side, compare, serve

MODULE, RATE = "benchmarks.demucs_family", 44100
NETWORKS = ("htdemucs", "hdemucs", "demucs")
SECONDS = {"separate": 15.6, "train": 7.8}
QUICK = {"separate": 7.8, "train": 2.0}


def music(seconds: float) -> np.ndarray:
    """Deterministic noise with the slope of music, ``[1, 2, N]``."""
    rng = np.random.default_rng(0)
    count = int(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal((2, count)))
    spectrum /= np.sqrt(1 + np.arange(spectrum.shape[1]) / 200)
    wave = np.fft.irfft(spectrum, count)
    return (wave / np.abs(wave).max()).astype(np.float32)[None]


def targets(mix: np.ndarray, sources: int) -> np.ndarray:
    """Estimates that the training step is to make, ``[1, S, 2, N]``."""
    shares = np.random.default_rng(1).dirichlet(np.ones(sources)).astype(np.float32)
    return shares[None, :, None, None] * mix[:, None]


def paddle_side(network: str, state: Path, unit: str, seconds: float, output: Path) -> None:
    from runtime import device

    device.activate(device.select("cpu"))
    import paddle

    import models
    from inference import Separator
    from pretrained import load_reference_state

    model = models.create(network)
    load_reference_state(model, weights.read(state))
    mix = music(seconds)
    if unit == "separate":
        separator = Separator.from_model(model, engine="auto", shifts=0)
        serve(_once(output, lambda: np.stack(list(separator.separate(mix[0], RATE).values()))))
        return
    model.train()
    adam = paddle.optimizer.Adam(3e-4, parameters=model.parameters())
    x, y = paddle.to_tensor(mix), paddle.to_tensor(targets(mix, len(model.description.sources)))

    def step() -> dict:
        loss = (model(x) - y).abs().mean()
        loss.backward()
        adam.step()
        adam.clear_grad()
        return {"loss": float(loss)}

    serve(step)


def torch_side(network: str, state: Path, unit: str, seconds: float, output: Path) -> None:
    import torch
    from demucs.apply import apply_model

    model = _torch_network(network)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.read(state).items()})
    mix = music(seconds)
    if unit == "separate":
        model.eval()

        def separate() -> np.ndarray:
            # the normalisation that the original's own interface does around the call
            reference = torch.from_numpy(mix[0]).mean(0)
            mean, deviation = reference.mean(), reference.std() + 1e-8
            with torch.no_grad():
                stems = apply_model(model, (torch.from_numpy(mix) - mean) / deviation, shifts=0)[0]
            return (stems * deviation + mean).numpy()

        serve(_once(output, separate))
        return
    model.train()
    adam = torch.optim.Adam(model.parameters(), 3e-4)
    x, y = torch.from_numpy(mix), torch.from_numpy(targets(mix, len(model.sources)))

    def step() -> dict:
        loss = (model(x) - y).abs().mean()
        loss.backward()
        adam.step()
        adam.zero_grad()
        return {"loss": loss.item()}

    serve(step)


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


def _once(output: Path, separate: Callable[[], np.ndarray]) -> Callable[[], None]:
    """A unit of work that leaves its stems in a file the first time."""

    def unit() -> None:
        stems = separate()
        if not output.exists():
            np.save(output, stems)

    return unit


def measure(quick: bool = False) -> Iterator[Row]:
    """Two rows a network, with the peak memory of both processes in the note."""
    runs = 3 if quick else 5
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for network in NETWORKS:
            state = weights.write(network, folder / f"{network}.npz")
            for unit in ("separate", "train"):
                seconds = (QUICK if quick else SECONDS)[unit]
                yield _row(folder, state, network, unit, seconds, runs)


def _row(folder: Path, state: Path, network: str, unit: str, seconds: float, runs: int) -> Row:
    outputs = [folder / f"{network}-{side}.npy" for side in ("paddle", "torch")]
    sides = [
        Side(path.stem, MODULE, path.stem.rpartition("-")[2], network, str(state), unit, str(seconds), str(path))
        for path in outputs
    ]
    first = [side.work() for side in sides]
    pair: Pair = compare(*sides, runs=runs, warmup=0 if unit == "separate" else 1)
    memory = " and ".join(f"{found['peak_mib']:.0f}" for found in first)
    if unit == "separate":
        ours, rival = (np.load(path) for path in outputs)
        error = float(np.abs(ours - rival).max() / np.abs(rival).max())
        agreement = f"{seconds:g} s of music, stems differ by {error:.1e} of the peak"
    else:
        losses = [found["loss"] for found in first]
        agreement = f"{seconds:g} s, first losses {losses[0]:.7f} and {losses[1]:.7f}"
    what = "separation" if unit == "separate" else "training step"
    return Row(f"{what}, {network}", pair, f"{agreement}; peak memory {memory} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("side", choices=["paddle", "torch"])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("weights", type=Path)
    parser.add_argument("unit", choices=list(SECONDS))
    parser.add_argument("seconds", type=float)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    run = {"paddle": paddle_side, "torch": torch_side}[given.side]
    run(given.network, given.weights, given.unit, given.seconds, given.output)
