"""BandSplitRNN's recipe: distances of spectrograms and waveforms, Adam, and the SDR of the validation examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

import models
from data.index import Index, Song, load_stem
from metrics.sdr import usdr
from models.bsrnn_config import BSRNNConfig
from training import network
from training.optimizers import adam
from training.prepare import plain
from training.recipes import Batch

TERMS = ("real", "imag", "wave")
_FRAME = 1.0  # seconds, of a frame of cSDR


def losses(
    model: paddle.nn.Layer, mixture: paddle.Tensor, target: paddle.Tensor
) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
    """Distance of the estimate from the target (Luo and Yu, 2022): the sum of three mean absolute differences.

    Args:
        model: the network, perhaps wrapped
        mixture, target: waveforms ``[B, C, N]``

    Returns:
        The loss and its terms, scalars: ``real`` and ``imag`` parts of the spectrograms, and ``wave``. As in
        amanteur/BandSplitRNN-Pytorch the target's waveform is that of its spectrogram, too.
    """
    each, _, _ = _compared(model, mixture, target)
    mean = each.mean(axis=1)  # [3]
    return mean.sum(), {name: mean[k] for k, name in enumerate(TERMS)}


def _compared(
    model: paddle.nn.Layer, mixture: paddle.Tensor, target: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """The three terms of every example ``[3, B]``, and the waveforms of estimate and target ``[B, C, N]``."""
    bare = getattr(model, "_layers", model)  # what data parallelism wraps
    wave, spectrum = model(mixture, spectrum=True)
    wanted = bare.transform(target)  # [B, C, 2, F, T]
    goal = bare.inverse(wanted, target.shape[-1])
    # one axis at a time: over a million values at once float32 loses digits
    parts = (spectrum - wanted).abs().mean(axis=-1).mean(axis=-1).mean(axis=1)  # [B, 2]
    estimate = wave.squeeze(1)
    apart = (estimate - goal).abs().mean(axis=-1).mean(axis=-1, keepdim=True)  # [B, 1]
    return paddle.concat([parts, apart], axis=1).transpose([1, 0]), estimate, goal


class BSRNNRecipe:
    """Training of BandSplitRNN with the keys of ``configs/bsrnn/base.yaml``.

    Args:
        cfg: the whole configuration
    """

    scores = ("loss", *TERMS, "usdr", "csdr")

    def __init__(self, cfg: Any):
        self.cfg = cfg
        self.sample_rate = int(cfg.model.sr)
        self.notes = (bands_used(cfg),)

    def build_model(self) -> paddle.nn.Layer:
        """The network with its initial weights."""
        return network.build(self.cfg)

    def optimizer(self, model: paddle.nn.Layer) -> paddle.optimizer.Optimizer:
        """Adam."""
        return adam(self.cfg.train, model)

    def loss(self, model: paddle.nn.Layer, batch: Batch) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
        """See :func:`losses`; of ``mixture`` and ``target [B, C, N]``."""
        return losses(model, paddle.to_tensor(batch["mixture"]), paddle.to_tensor(batch["target"]))

    def validate(self, model: paddle.nn.Layer, batch: Batch) -> dict[str, np.ndarray]:
        """The :attr:`scores` of every example, float64 ``[B]``; SDR in dB.

        ``usdr`` is that of the whole example. ``csdr`` is the median over its whole seconds in which there is some
        target (without one it is not a number): what BSS Eval v4 calls SDR, of one source. The scores of songs, which
        `-m evaluate` gives, are of other frames.
        """
        each, estimate, goal = _compared(model, paddle.to_tensor(batch["mixture"]), paddle.to_tensor(batch["target"]))
        terms = each.numpy().astype(np.float64)  # [3, B]
        target, found = goal.numpy(), estimate.numpy()
        frame = round(_FRAME * self.sample_rate)
        return {
            "loss": terms.sum(axis=0),
            **dict(zip(TERMS, terms, strict=True)),
            "usdr": usdr(target, found),
            "csdr": np.array([chunk_sdr(*pair, frame) for pair in zip(target, found, strict=True)]),
        }

    def listen(self, model: paddle.nn.Layer, index: Index, song: Song) -> dict[str, np.ndarray]:
        """The middle of a song and the target in it, ``[C, N]`` each."""
        description = model.description
        count = round(self.cfg.train.audio_seconds * description.sample_rate)
        length = description.segment if description.fixed_length else max(count, description.segment)
        whole = min(length * song.sample_rate // description.sample_rate, song.frames)
        place = (song.frames - whole) // 2, whole
        mixture = load_stem(index, song, "mixture", *place, description.sample_rate, description.channels)
        padded = np.pad(mixture, [(0, 0), (0, max(length - mixture.shape[1], 0))])[:, :length]
        with paddle.no_grad():
            estimate = model(paddle.to_tensor(padded[None]))[0, 0].numpy()
        return {"mixture": mixture[:, :length], self.cfg.train_dataset.target: estimate[:, : mixture.shape[1]]}


def bands_used(cfg: Any) -> str:
    """Which bands a network has; a target may be trained with those of another, but that should be meant."""
    options, usual = BSRNNConfig(**plain(cfg.model)), models.describe(cfg.network).config["bandsplits"]
    used, named = options.bandsplits, isinstance(options.bandsplits, str)
    text = f"network: {cfg.network}, {len(options.widths())} bands" + f" ({used})" * named
    return f"{text}; the usual ones of this target are model=bandsplitrnn{usual}" if named and used != usual else text


def chunk_sdr(target: np.ndarray, estimate: np.ndarray, frame: int) -> float:
    """Median over frames of ``10 log10(Σ target² / Σ (target − estimate)²)`` in dB, without those of a silent target.

    Args:
        target, estimate: ``[C, N]``
        frame: samples; what does not fill one at the end does not count, but for a signal shorter than one

    Returns:
        Not a number if the target is silent in all frames.
    """
    frame = min(frame, target.shape[1])
    count = target.shape[1] // frame
    cut = [np.asarray(x[:, : count * frame], np.float64).reshape(len(x), count, frame) for x in (target, estimate)]
    level, error = ((x**2).sum(axis=(0, 2)) for x in (cut[0], cut[0] - cut[1]))
    sounding = level > 0
    with np.errstate(divide="ignore"):
        ratios = 10 * np.log10(level[sounding] / error[sounding])
    return float(np.median(ratios)) if sounding.any() else float("nan")
