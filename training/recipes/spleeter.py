"""Spleeter's recipe: the summed L1 distance of magnitudes, Adam, and the same distance for validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle

from data.index import Index, Song, load_stem
from dsp.stft import SpleeterSTFT
from runtime.errors import UserError
from training import network
from training.optimizers import adam
from training.recipes import Batch

LOSSES = ("L1_mask", "weighted_L1_mask")


def magnitude_loss(
    outputs: paddle.Tensor, targets: paddle.Tensor, kind: str = "L1_mask", names: Sequence[str] | None = None
) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
    """Sum over the instruments of the mean absolute difference between predicted and true magnitude (Spleeter).

    Args:
        outputs: predicted magnitudes ``[B, S, C, T, F]``.
        targets: true magnitudes, same shape.
        kind: ``L1_mask``, or ``weighted_L1_mask``: the error of each segment times the mean level of its target.
        names: the S instruments, keys of the terms; their numbers if not given.

    Returns:
        The loss (a scalar) and its terms by instrument (scalars that sum to it).

    Raises:
        UserError: ``kind`` is not known.
    """
    per_instrument = segment_losses(outputs, targets, kind).mean(axis=0)  # [S]
    names = names or [str(index) for index in range(outputs.shape[1])]
    return per_instrument.sum(), {name: per_instrument[index] for index, name in enumerate(names)}


def segment_losses(outputs: paddle.Tensor, targets: paddle.Tensor, kind: str = "L1_mask") -> paddle.Tensor:
    """The terms of :func:`magnitude_loss` before the mean over the batch: ``[B, S, C, T, F] -> [B, S]``."""
    if kind not in LOSSES:
        raise UserError(f"train.loss={kind}: choose one of {', '.join(LOSSES)}")
    difference = _level((outputs - targets).abs())
    return difference * _level(targets) if kind == "weighted_L1_mask" else difference


def _level(x: paddle.Tensor) -> paddle.Tensor:
    """Mean over all but the first two axes, one axis at a time: over a million values at once float32 loses 3e-4."""
    while x.ndim > 2:
        x = x.mean(axis=-1)
    return x


class SpleeterRecipe:
    """Training of the U-Nets as deezer/spleeter does it, with the options of ``configs/spleeter/base.yaml``.

    Args:
        cfg: the whole configuration
    """

    def __init__(self, cfg: Any):
        self.cfg = cfg
        self.instruments = tuple(cfg.model.instruments)
        self.scores = ("loss", *self.instruments)
        self.sample_rate = cfg.model.sample_rate
        self.notes = ()

    def build_model(self) -> paddle.nn.Layer:
        """The network with its initial weights."""
        return network.build(self.cfg)

    def optimizer(self, model: paddle.nn.Layer) -> paddle.optimizer.Optimizer:
        """Adam.

        Paddle adds epsilon to the root of the bias-corrected second moment (as torch does), TensorFlow 1 to the root
        of the uncorrected one: there it counts up to 32 times more in the first thousand steps, and the same later.
        """
        return adam(self.cfg.train, model)

    def loss(self, model: paddle.nn.Layer, batch: Batch) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
        """Distance between the predicted and the true magnitudes; one term an instrument."""
        outputs = model(paddle.to_tensor(batch["mixture"]))  # [B, S, C, T, F]
        return magnitude_loss(outputs, paddle.to_tensor(batch["targets"]), self.cfg.train.loss, self.instruments)

    def validate(self, model: paddle.nn.Layer, batch: Batch) -> dict[str, np.ndarray]:
        """The loss of every segment and its terms, float64 ``[B]``."""
        outputs = model(paddle.to_tensor(batch["mixture"]))  # [B, S, C, T, F]
        losses = segment_losses(outputs, paddle.to_tensor(batch["targets"]), self.cfg.train.loss)
        losses = losses.numpy().astype(np.float64)  # [B, S]
        return {"loss": losses.sum(axis=1)} | dict(zip(self.instruments, losses.T, strict=True))

    def listen(self, model: paddle.nn.Layer, index: Index, song: Song) -> dict[str, np.ndarray]:
        """The middle of a song, ``[C, N]`` each: the predicted magnitudes with the phase of the mixture."""
        shape = self.cfg.model
        count = min(round(self.cfg.train.audio_seconds * song.sample_rate), song.frames)
        start = (song.frames - count) // 2
        mixture = load_stem(index, song, "mixture", start, count, shape.sample_rate, shape.channels)
        stft = SpleeterSTFT(shape.frame_length, shape.frame_step)
        spectrum = stft.forward(mixture)  # [C, T, bins]
        frames, bins = spectrum.shape[1], shape.frequency_bins
        seen = spectrum[..., :bins]
        magnitude = np.pad(np.abs(seen), [(0, 0), (0, -frames % 64), (0, 0)])  # the network halves T six times
        with paddle.no_grad():
            outputs = model(paddle.to_tensor(magnitude[None]))[0, :, :, :frames].numpy()  # [S, C, T, F]
        stems = np.zeros((len(self.instruments), *spectrum.shape), np.complex64)
        stems[..., :bins] = outputs * np.exp(1j * np.angle(seen))
        waves = [stft.inverse(stem, mixture.shape[1]) for stem in stems]
        return {"mixture": mixture, **dict(zip(self.instruments, waves, strict=True))}
