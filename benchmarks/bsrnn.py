"""BandSplitRNN for vocals at its published size, beside the layers of the original in PyTorch.

Two units of work: the network's pass over three seconds (263 frames, one chunk), and one training step (forward, the
three losses, backward, Adam) on one second, because PyTorch keeps 40 MB a frame for the gradient. Same weights, same
threads; what both sides compute is compared before anything is timed.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import weights
from benchmarks.harness import Row, Task, off_by, race, serve_results, serve_steps, take_side
from benchmarks.sounds import RATE, music

NETWORK = "bsrnn_vocals"
UNITS = {"separate": ("network, one chunk", 263), "train": ("training step", 88)}  # what it is, frames
QUICK = {"t_timesteps": 88, "num_layers": 3}


def audio(config: Any) -> tuple[np.ndarray, np.ndarray]:
    """A mixture, and the target that the training step is to find in it, ``[1, 2, N]`` each."""
    mixture = music(config.segment / RATE + 1)[..., : config.segment]
    return mixture, mixture * np.float32(0.4) * np.linspace(0, 1, config.segment, dtype=np.float32)


def paddle_side(task: Task) -> None:
    from runtime import device

    device.activate(device.select("cpu"))
    import paddle

    import models
    from pretrained import load_reference_state
    from training.recipes.bsrnn import losses

    model = models.create(NETWORK, **task.options)
    load_reference_state(model, weights.read(task.weights))
    mixture, target = (paddle.to_tensor(each) for each in audio(model.config))
    if task.unit == "separate":
        model.eval()
        with paddle.no_grad():
            serve_results(task.output, lambda: model(mixture)[:, 0].numpy())
        return
    model.train()
    adam = paddle.optimizer.Adam(1e-3, parameters=model.parameters())
    serve_steps(lambda: losses(model, mixture, target)[0], adam.step, adam.clear_grad)


def torch_side(task: Task) -> None:
    import torch

    from benchmarks.torch_bsrnn import TorchBSRNN, loss
    from models.bsrnn_config import BSRNN, BSRNNConfig

    config = BSRNNConfig(**{**BSRNN[NETWORK], **task.options})
    model = TorchBSRNN(vars(config), config.widths(), weights.read(task.weights))
    mixture, target = (torch.from_numpy(each) for each in audio(config))
    if task.unit == "separate":
        model.eval()
        with torch.inference_mode():
            serve_results(task.output, lambda: model(mixture)[1].numpy())
        return
    model.train()
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    serve_steps(lambda: loss(model, mixture, target), adam.step, adam.zero_grad)


def measure(quick: bool = False) -> Iterator[Row]:
    """A row a unit of work."""
    with tempfile.TemporaryDirectory() as scratch:
        for unit, (what, frames) in UNITS.items():
            options = QUICK if quick else {"t_timesteps": frames}
            state = weights.write(NETWORK, Path(scratch, f"{unit}.npz"), **options)
            pair, note = race(__name__, unit, state, options, off_by("waveforms"), runs=3 if quick else 5)
            yield Row(f"{what}, {NETWORK}", pair, f"{options['t_timesteps']} frames, {note}")


if __name__ == "__main__":
    take_side(paddle_side, torch_side)
