"""BandSplitRNN for vocals at its published size, beside the layers of the original in PyTorch.

Two units of work: the network's pass over three seconds (263 frames, one chunk), and one training step (forward, the
three losses, backward, Adam) on one second, because PyTorch keeps 40 MB a frame for the gradient. Same weights, same
threads; what both sides compute is compared before anything is timed.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import weights
from benchmarks.demucs_family import RATE, music
from benchmarks.harness import Pair, Row, Side, compare, serve

MODULE, NETWORK = "benchmarks.bsrnn", "bsrnn_vocals"
FRAMES = {"separate": 263, "train": 88}
QUICK = {"t_timesteps": 88, "num_layers": 3}


def audio(config: Any) -> tuple[np.ndarray, np.ndarray]:
    """A mixture, and the target that the training step is to find in it, ``[1, 2, N]`` each."""
    mixture = music(config.segment / RATE + 1)[..., : config.segment]
    return mixture, mixture * np.float32(0.4) * np.linspace(0, 1, config.segment, dtype=np.float32)


def paddle_side(options: dict[str, Any], state: Path, unit: str, output: Path) -> None:
    from runtime import device

    device.activate(device.select("cpu"))
    import paddle

    import models
    from pretrained import load_reference_state
    from training.recipes.bsrnn import losses

    model = models.create(NETWORK, **options)
    load_reference_state(model, weights.read(state))
    mixture, target = (paddle.to_tensor(each) for each in audio(model.config))
    if unit == "separate":
        model.eval()

        def separate() -> None:
            with paddle.no_grad():
                _keep(output, model(mixture)[:, 0].numpy())

        serve(separate)
        return
    model.train()
    adam = paddle.optimizer.Adam(1e-3, parameters=model.parameters())

    def step() -> dict:
        loss, _ = losses(model, mixture, target)
        loss.backward()
        adam.step()
        adam.clear_grad()
        return {"loss": float(loss)}

    serve(step)


def torch_side(options: dict[str, Any], state: Path, unit: str, output: Path) -> None:
    import torch

    from benchmarks.torch_bsrnn import TorchBSRNN, loss
    from models.bsrnn_config import BSRNN, BSRNNConfig

    config = BSRNNConfig(**{**BSRNN[NETWORK], **options})
    model = TorchBSRNN(vars(config), config.widths(), weights.read(state))
    mixture, target = (torch.from_numpy(each) for each in audio(config))
    if unit == "separate":
        model.eval()

        def separate() -> None:
            with torch.inference_mode():
                _keep(output, model(mixture)[1].numpy())

        serve(separate)
        return
    model.train()
    adam = torch.optim.Adam(model.parameters(), 1e-3)

    def step() -> dict:
        value = loss(model, mixture, target)
        value.backward()
        adam.step()
        adam.zero_grad()
        return {"loss": value.item()}

    serve(step)


def _keep(output: Path, waveform: np.ndarray) -> None:
    """Leaves the first result in a file."""
    if not output.exists():
        np.save(output, waveform)


def measure(quick: bool = False) -> Iterator[Row]:
    """A row a unit of work, with the peak memory of both processes in the note."""
    with tempfile.TemporaryDirectory() as scratch:
        for unit, frames in FRAMES.items():
            options = QUICK if quick else {"t_timesteps": frames}
            folder = Path(scratch, unit)
            folder.mkdir()
            yield _row(folder, options, unit, runs=3 if quick else 5)


def _row(folder: Path, options: dict[str, Any], unit: str, runs: int) -> Row:
    state = weights.write(NETWORK, folder / "weights.npz", **options)
    outputs = [folder / f"{side}.npy" for side in ("paddle", "torch")]
    order = json.dumps(options), str(state), unit
    sides = [Side(path.stem, MODULE, path.stem, *order, str(path)) for path in outputs]
    first = [side.work() for side in sides]
    pair: Pair = compare(*sides, runs=runs, warmup=0 if unit == "separate" else 1)
    if unit == "separate":
        ours, rival = (np.load(path) for path in outputs)
        error = float(np.abs(ours - rival).max() / np.abs(rival).max())
        agreement = f"waveforms differ by {error:.1e} of the peak"
    else:
        losses = [found["loss"] for found in first]
        agreement = f"first losses {losses[0]:.7f} and {losses[1]:.7f}"
    what = "network, one chunk" if unit == "separate" else "training step"
    memory = " and ".join(f"{found['peak_mib']:.0f}" for found in first)
    note = f"{options['t_timesteps']} frames, {agreement}; peak memory {memory} MiB"
    return Row(f"{what}, {NETWORK}", pair, note)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("side", choices=["paddle", "torch"])
    parser.add_argument("options", type=json.loads)
    parser.add_argument("weights", type=Path)
    parser.add_argument("unit", choices=list(FRAMES))
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    run = {"paddle": paddle_side, "torch": torch_side}[given.side]
    run(given.options, given.weights, given.unit, given.output)
