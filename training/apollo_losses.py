"""What Apollo and its discriminator are trained with: tensors in, scalars out.

Least-squares adversaries, distances of the discriminator's maps, and of magnitudes at seven resolutions, as
``look2hear.losses`` of JusperLee/Apollo has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import paddle

from models.layers import total
from models.spectrum import STFT, magnitude

WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)  # samples of the frames of :func:`frequency_error`
LEVEL_WINDOWS = (512, 2048)  # of :func:`level_error`
SdrKind = Literal["snr", "sisdr", "sdsdr"]
SDR_KINDS: tuple[SdrKind, ...] = ("snr", "sisdr", "sdsdr")

_EPSILON = 1e-8
_MAGNITUDE_EPSILON = 2.0**-23
_SDR_EPSILON = 1e-8
_SOFTEST = 1e-5  # -100 dB

Maps = Sequence[Sequence[paddle.Tensor]]


def discriminator_loss(real: Sequence[paddle.Tensor], fake: Sequence[paddle.Tensor]) -> paddle.Tensor:
    """How far verdicts are from 1 for real music and from 0 for fakes, squared; mean over the resolutions.

    Args:
        real, fake: verdicts of the discriminator at each resolution, any shapes
    """
    return _mean([(verdict - 1).square().mean() for verdict in real]) + _mean(
        [verdict.square().mean() for verdict in fake]
    )


def adversarial_loss(fake: Sequence[paddle.Tensor]) -> paddle.Tensor:
    """How far the verdicts on fakes are from 1, squared; mean over the resolutions."""
    return _mean([(verdict - 1).square().mean() for verdict in fake])


def feature_matching(fake: Maps, real: Maps, eps: float = _EPSILON) -> paddle.Tensor:
    """Mean distance of the discriminator's maps in shares of the real ones' mean; no gradient reaches the latter."""
    shares = []
    for fake_maps, real_maps in zip(fake, real, strict=True):
        for ours, theirs in zip(fake_maps, real_maps, strict=True):
            theirs = theirs.detach()
            shares.append((ours - theirs).abs().mean() / (theirs.abs().mean() + eps))
    return _mean(shares)


def frequency_error(output: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
    """Mean distance of magnitudes in shares of the target's mean magnitude, ``[..., N]``; mean over seven windows.

    N must be more than half the longest window.
    """
    shares = []
    for size in WINDOWS:
        transform = STFT(size, size // 2)
        ours, theirs = magnitude(transform.forward(output)), magnitude(transform.forward(target))
        shares.append((ours - theirs).abs().mean() / (theirs.mean() + _MAGNITUDE_EPSILON))
    return _mean(shares)


def waveform_error(output: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
    """Mean distance of waveforms ``[..., N]`` in shares of the target's mean."""
    return (output - target).abs().mean() / (target.abs().mean() + _EPSILON)


def level_error(output: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
    """Mean distance of levels of spectra ``[..., N]`` in nepers (8.7 dB), so that soft bands count as loud ones do.

    Levels are those of a full-scale sine and softer ones, down to `_SOFTEST`. N must be more than half of 2048.
    """
    distances = []
    for size in LEVEL_WINDOWS:
        transform = STFT(size, size // 4)
        ours, theirs = (magnitude(transform.forward(x)) * (4 / size) + _SOFTEST for x in (output, target))
        distances.append((paddle.log(ours) - paddle.log(theirs)).abs().mean())
    return _mean(distances)


def generator_loss(
    fake_verdicts: Sequence[paddle.Tensor],
    fake_maps: Maps,
    real_maps: Maps,
    output: paddle.Tensor,
    target: paddle.Tensor,
    eps: float = _EPSILON,
) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
    """The loss of the generator, and the terms that it is the sum of.

    Args:
        fake_verdicts, fake_maps: what the discriminator makes of ``output``
        real_maps: what it makes of ``target``
        output, target: waveforms ``[..., N]``
        eps: see :func:`feature_matching`
    """
    terms = {
        "freq_mae": frequency_error(output, target),
        "adversarial": adversarial_loss(fake_verdicts),
        "features": feature_matching(fake_maps, real_maps, eps),
    }
    return terms["freq_mae"] + terms["adversarial"] + terms["features"], terms


def negative_sdr(
    estimates: paddle.Tensor,
    targets: paddle.Tensor,
    kind: SdrKind = "sisdr",
    zero_mean: bool = True,
    take_log: bool = True,
) -> paddle.Tensor:
    """Minus the mean ratio of signal to noise of the channels, ``[B, C, N]``, dB; the less the better.

    Args:
        estimates, targets: waveforms ``[B, C, N]``
        kind: noise is what differs from the target (``snr``), or from its multiple that is nearest (``sisdr``);
            ``sdsdr`` takes the signal of the latter and the noise of the former
        zero_mean: without the mean of each channel
        take_log: dB, or else plain ratios

    Raises:
        ValueError: an unknown kind, or shapes that differ
    """
    if kind not in SDR_KINDS:
        raise ValueError(f"kind={kind!r} is not one of {', '.join(SDR_KINDS)}")
    if estimates.shape != targets.shape or targets.ndim != 3:
        raise ValueError(f"estimates {estimates.shape} and targets {targets.shape} must be of one shape [B, C, N]")
    if zero_mean:
        estimates, targets = (x - total(x) * (1 / x.shape[2]) for x in (estimates, targets))
    nearest = targets
    if kind != "snr":
        nearest = total(estimates * targets) * targets / (total(targets.square()) + _SDR_EPSILON)
    noise = estimates - (nearest if kind == "sisdr" else targets)
    ratio = total(nearest.square()) / (total(noise.square()) + _SDR_EPSILON)
    if take_log:
        ratio = paddle.log(ratio + _SDR_EPSILON) * (10 / math.log(10))  # cards know no log10
    return -ratio.mean()


def _mean(values: Sequence[paddle.Tensor]) -> paddle.Tensor:
    return sum(values[1:], values[0]) * (1 / len(values))
