"""One optimiser step of Spleeter at its published size, beside the same step in PyTorch.

Forward, backward and Adam on one segment of 512 frames by 1024 bins, two instruments, same weights, same threads. The
first losses of both sides are compared, so that what is timed is the same computation.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import weights
from benchmarks.harness import Row, Side, compare, serve_steps

MODULE = "benchmarks.training_step"


def batch() -> tuple[np.ndarray, np.ndarray]:
    """A mixture ``[1, 2, 512, 1024]`` and its targets ``[1, 2, 2, 512, 1024]``."""
    rng = np.random.default_rng(0)
    mixture = np.abs(rng.standard_normal((1, 2, 512, 1024), dtype=np.float32))
    share = rng.random((1, 1, 2, 512, 1024), dtype=np.float32)
    return mixture, np.concatenate([share, 1 - share], axis=1) * mixture[:, None]


def paddle_side(path: Path) -> None:
    from runtime import device

    device.activate(device.select("cpu"))
    import paddle

    import models
    from pretrained import load_reference_state
    from training.recipes.spleeter import magnitude_loss

    model = models.create("spleeter_2stems")
    load_reference_state(model, weights.read(path))
    adam = paddle.optimizer.Adam(1e-4, parameters=model.parameters())
    mixture, targets = (paddle.to_tensor(a) for a in batch())
    serve_steps(lambda: magnitude_loss(model(mixture), targets)[0], adam.step, adam.clear_grad)


def torch_side(path: Path) -> None:
    import torch

    from benchmarks.torch_spleeter import TorchSpleeter

    model = TorchSpleeter(weights.read(path), ["vocals", "accompaniment"], elu=False, softmax=False).train()
    adam = torch.optim.Adam([p.requires_grad_() for p in model.parameters()], 1e-4)
    mixture, targets = (torch.from_numpy(a) for a in batch())

    def loss() -> torch.Tensor:
        outputs = model(mixture)
        return sum((outputs[:, i] - targets[:, i]).abs().mean() for i in range(targets.shape[1]))

    serve_steps(loss, adam.step, adam.zero_grad)


def measure(quick: bool = False) -> list[Row]:
    """Rows of the table: with and without the oneDNN path of eager mode."""
    rows, runs = [], 3 if quick else 7
    with tempfile.TemporaryDirectory() as folder:
        path = str(weights.write("spleeter_2stems", Path(folder) / "weights.npz"))
        for what, switch in (("", "1"), (", Paddle's own convolutions", "0")):
            ours = Side("paddle", MODULE, "paddle", path, environment={"PADDLESTEMS_ONEDNN": switch})
            rival = Side("torch", MODULE, "torch", path)
            losses = ours.work()["loss"], rival.work()["loss"]
            pair = compare(ours, rival, runs)
            note = f"first losses {losses[0]:.7f} and {losses[1]:.7f}"
            rows.append(Row(f"training step, 2 stems{what}", pair, note))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("side", choices=["paddle", "torch"])
    parser.add_argument("weights", type=Path)
    arguments = parser.parse_args()
    {"paddle": paddle_side, "torch": torch_side}[arguments.side](arguments.weights)
