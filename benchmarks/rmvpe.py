"""RMVPE at its published size, beside the original's layers in PyTorch.

Two units of work: following the pitch of half a minute at 16 kHz, from the waveform (ours in chunks, as for songs of
any length, the rival in one piece), and one training step (forward, cross-entropy, backward, Adam) on eight excerpts of
128 frames. Same weights, same threads; what both sides compute is compared before anything is timed. In the training
step nothing is dropped out, since each side would draw other numbers.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import weights
from benchmarks.harness import Row, Task, race, serve_results, serve_steps, take_side
from benchmarks.sounds import music

NETWORK, RATE, FRAMES = "rmvpe", 16000, 128
UNITS = {"follow": ("pitch of a song", "s", 30), "train": ("training step", "excerpts", 8)}  # what it is, how much
QUICK = {"follow": 5, "train": 2}
OPTIONS = {"dropout": 0.0}


def song(seconds: float) -> np.ndarray:
    """Mono, ``[1, N]``."""
    return music(seconds, RATE, 1)[0]


def batch(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Excerpts ``[B, 128, T]`` and their targets ``[B, T, 360]``: pitches that glide through the network's range."""
    from data.pitch_segments import bells
    from dsp.mel import LogMel

    mel = LogMel()(song(count * FRAMES / 100))[0, :, : count * FRAMES]
    f0 = np.geomspace(60, 1000, count * FRAMES)
    excerpts = mel.reshape(len(mel), count, FRAMES).transpose(1, 0, 2)
    return np.ascontiguousarray(excerpts), bells(f0).reshape(count, FRAMES, -1)


def paddle_side(task: Task) -> None:
    from runtime import device

    device.activate(device.select("cpu"))
    import paddle

    import models
    from inference.pitch import PitchTracker
    from pretrained import load_reference_state
    from training.recipes.rmvpe import cross_entropy

    model = models.create(NETWORK, **OPTIONS)
    load_reference_state(model, weights.read(task.weights))
    if task.unit == "follow":
        model.eval()
        tracker, audio = PitchTracker.from_model(model), song(task.options["amount"])

        def follow() -> np.ndarray:
            track = tracker.track([audio], RATE)
            return np.stack([track.f0, track.confidence])

        serve_results(task.output, follow)
        return
    model.train()
    adam = paddle.optimizer.Adam(5e-4, parameters=model.parameters())
    mel, target = (paddle.to_tensor(each) for each in batch(task.options["amount"]))
    serve_steps(lambda: cross_entropy(model(mel, logits=True), target).mean(), adam.step, adam.clear_grad)


def torch_side(task: Task) -> None:
    import torch

    from benchmarks.torch_rmvpe import TorchRMVPE
    from models import describe

    model = TorchRMVPE(describe(NETWORK, **OPTIONS).config, weights.read(task.weights))
    if task.unit == "follow":
        model.eval()
        audio = torch.from_numpy(song(task.options["amount"]))
        with torch.inference_mode():
            serve_results(task.output, lambda: torch.stack(model.track(audio)).numpy())
        return
    model.train()
    adam = torch.optim.Adam(model.parameters(), 5e-4)
    mel, target = (torch.from_numpy(each) for each in batch(task.options["amount"]))
    serve_steps(lambda: torch.nn.functional.binary_cross_entropy(model(mel), target), adam.step, adam.zero_grad)


def agreement(ours: np.ndarray, rival: np.ndarray) -> str:
    """Says how far the salience is apart, and in how many frames the pitch: ``[f0 | highest salience, T]``."""
    apart = np.abs(ours[1] - rival[1]).max()
    cents = 1200 * np.abs(np.log2(ours[0] / rival[0]))  # with random weights every frame is voiced
    return f"salience differs by {apart:.1e}, {100 * np.mean(cents < 1):.1f} % of the pitches agree within a cent"


def measure(quick: bool = False) -> Iterator[Row]:
    """A row a unit of work."""
    with tempfile.TemporaryDirectory() as scratch:
        state = weights.write(NETWORK, Path(scratch, "weights.npz"), **OPTIONS)
        for unit, (what, of, usual) in UNITS.items():
            amount = QUICK[unit] if quick else usual
            pair, note = race(__name__, unit, state, {"amount": amount}, agreement, runs=3 if quick else 5)
            yield Row(f"{what}, {NETWORK}", pair, f"{amount} {of}, {note}")


if __name__ == "__main__":
    take_side(paddle_side, torch_side)
