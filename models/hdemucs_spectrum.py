"""The spectrograms of the hybrid networks, complex numbers as real pairs, and what makes them of magnitudes."""

import paddle

from models import card
from models.layers import total
from models.spectrum import STFT

_WINDOW = 300  # frames that share the statistics of a Wiener filter
_SCALE, _FLOOR = 10.0, 1e-10  # of open-unmix: what a large mixture is divided by, and the energy that is always there


class Spectrogram:
    """Spectrograms with one frame a started hop, without the highest bin, and their inverse.

    Args:
        nfft: window, samples; the hop is a quarter
        hybrid: frames as convolutions of that kernel and stride would see them, with a margin of (window − hop) / 2;
            otherwise frames centred on multiples of the hop
        old: misplaced margins of zeros, as early networks had them
        short: what lets an input be reflected that is shorter than its margin: zeros ``both`` take part of the
            margins' place, ``right`` come after the input and move nothing
    """

    def __init__(self, nfft: int, hybrid: bool = True, old: bool = False, short: str = "both"):
        self.nfft, self.hop, self.hybrid, self.old, self.short = nfft, nfft // 4, hybrid, old, short
        self.margin = self.hop // 2 * 3
        self.analysis = STFT(nfft, self.hop, center=False, normalized=True)
        self.synthesis = STFT(nfft, self.hop, normalized=True)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """``[..., N] -> [..., 2, nfft / 2, frames]``; ⌈N / hop⌉ frames where hybrid."""
        length = x.shape[-1]
        if self.hybrid:
            whole = -(-length // self.hop) * self.hop
            x = self._lengthen(x, self.margin, self.margin + whole - length)
            # frames in the middle of the margins, which the original computes and drops, are never computed
            x = card.cut(x, x.ndim - 1, 0, whole - self.hop + self.nfft)
        else:
            x = self._lengthen(x, self.nfft // 2, self.nfft // 2)
        z = self.analysis.forward(x)
        return card.cut(z, z.ndim - 2, 0, self.nfft // 2)

    def inverse(self, z: paddle.Tensor, length: int) -> paddle.Tensor:
        """``[..., 2, nfft / 2, frames] -> [..., length]``."""
        z = card.pad(z, 0, 1, axis=-2)
        if not self.hybrid:
            return self.synthesis.inverse(z, length)
        z = card.pad(z, 2, 2)
        whole = -(-length // self.hop) * self.hop
        first = 0 if self.old else self.margin
        x = self.synthesis.inverse(z, whole + 2 * first)
        return card.cut(x, x.ndim - 1, first, first + length)

    def _lengthen(self, x: paddle.Tensor, before: int, after: int) -> paddle.Tensor:
        if self.old:
            return card.pad(x, before, after)
        missing = max(before, after) - x.shape[-1] + 1
        if missing <= 0:
            return card.pad(x, before, after, mode="reflect")
        if self.short == "right":
            return card.pad(card.pad(x, 0, missing), before, after, mode="reflect")
        right = min(after, missing)
        left = missing - right
        return card.pad(card.pad(x, left, right), before - left, after - right, mode="reflect")


def with_phase_of(z: paddle.Tensor, magnitude: paddle.Tensor, softly: bool) -> paddle.Tensor:
    """Magnitudes ``[B, S, C, F, T]`` with the phases of ``z`` ``[B, C, 2, F, T]``: ``[B, S, C, 2, F, T]``.

    Args:
        softly: divide by a little more than the magnitude of ``z``, so that nothing comes of nothing
    """
    real, imaginary = z.split(2, axis=2)
    if softly:
        direction = z / ((real.square() + imaginary.square() + 1e-38).sqrt() + 1e-8)
    else:
        largest = paddle.maximum(real.detach().abs(), imaginary.detach().abs())
        silent = (largest.flatten() <= paddle.zeros([largest.size], z.dtype)).reshape(largest.shape).astype(z.dtype)
        largest = largest + silent  # squares of the smallest numbers would vanish
        real, imaginary = real / largest + silent, imaginary / largest  # silence has the phase 0
        direction = paddle.concat([real, imaginary], axis=2) / (real.square() + imaginary.square()).sqrt()
    return direction.unsqueeze(1) * magnitude.unsqueeze(3)


def wiener(z: paddle.Tensor, magnitude: paddle.Tensor, iterations: int, residual: bool) -> paddle.Tensor:
    """Spectrograms of the sources by the Wiener filter of open-unmix 1.3, in windows of 300 frames.

    Args:
        z: the mixture, ``[B, C, 2, F, T]`` with one or two channels
        magnitude: of the sources, ``[B, S, C, F, T]``
        iterations: of the expectation maximisation; 0: magnitudes with the mixture's phases
        residual: what the sources leave of the mixture is a source, too, though not returned

    Returns:
        ``[B, S, C, 2, F, T]``
    """
    estimates = with_phase_of(z, magnitude, softly=False)
    if iterations == 0:
        return estimates
    sources, frames = magnitude.shape[1], z.shape[-1]
    if residual:
        estimates = paddle.concat([estimates, (z - estimates.sum(axis=1)).unsqueeze(1)], axis=1)
    done = []
    for first in range(0, frames, _WINDOW):
        last = min(first + _WINDOW, frames)
        done.append(_refine(card.cut(z, 4, first, last), card.cut(estimates, 5, first, last), iterations))
    return card.cut(paddle.concat(done, axis=-1), 1, 0, sources)


def _refine(z: paddle.Tensor, y: paddle.Tensor, iterations: int) -> paddle.Tensor:
    """Expectation maximisation of a window: mixture ``[B, C, 2, F, T]``, estimates ``[B, S, C, 2, F, T]``."""
    loudest = z.square().sum(axis=2).flatten(1).max(axis=1).sqrt()  # of each example by itself
    scale = (loudest * (1 / _SCALE)).clip(min=1.0).reshape([-1, 1, 1, 1, 1])
    z, y = z / scale, y / scale.unsqueeze(1)
    for _ in range(iterations):
        y = _separate(z, y)
    return y * scale.unsqueeze(1)


def _separate(z: paddle.Tensor, y: paddle.Tensor) -> paddle.Tensor:
    """One iteration: variances and covariances of the sources, and what they make of the mixture."""
    channels = y.shape[2]
    pairs = [(a, b) for a in range(channels) for b in range(channels)]
    part = _parts(y, 2)  # channels, each a pair of [B, S, F, T]
    variance = y.square().sum(axis=3).mean(axis=2)  # [B, S, F, T]
    energy = variance.sum(axis=-1, keepdim=True) + _FLOOR
    # [B, S, F, 1]: products of a channel with the conjugate of another, over all frames
    covariance = {
        (a, b): tuple(each.sum(axis=-1, keepdim=True) / energy for each in _times(part[a], _conjugate(part[b])))
        for a, b in pairs
    }
    mixture = {}
    for a, b in pairs:
        real, imaginary = ((variance * each).sum(axis=1) for each in covariance[a, b])  # [B, F, T]
        mixture[a, b] = (real + _FLOOR**0.5, imaginary) if a == b else (real, imaginary)
    inverse = _inverse(mixture, channels)
    mixed = _parts(z, 1)
    whitened = [_total([_times(inverse[a, b], mixed[b]) for b in range(channels)]) for a in range(channels)]
    whitened = [tuple(each.unsqueeze(1) for each in pair) for pair in whitened]
    separated = []
    for a in range(channels):
        real, imaginary = _total([_times(covariance[a, b], whitened[b]) for b in range(channels)])
        separated.append(paddle.stack([real * variance, imaginary * variance], axis=2))  # [B, S, 2, F, T]
    return paddle.stack(separated, axis=2)


Pair = tuple[paddle.Tensor, paddle.Tensor]


def _parts(x: paddle.Tensor, axis: int) -> list[Pair]:
    """The channels on an axis, each as its real and its imaginary parts from the axis behind it."""
    channels = [channel.squeeze(axis) for channel in x.split(x.shape[axis], axis)]
    return [tuple(part.squeeze(axis) for part in channel.split(2, axis)) for channel in channels]


def _times(a: Pair, b: Pair) -> Pair:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _conjugate(a: Pair) -> Pair:
    return a[0], -a[1]


def _total(pairs: list[Pair]) -> Pair:
    real, imaginary = pairs[0]
    for other in pairs[1:]:
        real, imaginary = real + other[0], imaginary + other[1]
    return real, imaginary


def _inverse(matrix: dict[tuple[int, int], Pair], size: int) -> dict[tuple[int, int], Pair]:
    """The inverse of a matrix of one or two rows."""
    if size == 1:
        return {(0, 0): _reciprocal(matrix[0, 0])}
    first, second = _times(matrix[0, 0], matrix[1, 1]), _times(matrix[0, 1], matrix[1, 0])
    over = _reciprocal((first[0] - second[0], first[1] - second[1]))
    minus = -over[0], -over[1]
    return {
        (0, 0): _times(over, matrix[1, 1]),
        (0, 1): _times(minus, matrix[0, 1]),
        (1, 0): _times(minus, matrix[1, 0]),
        (1, 1): _times(over, matrix[0, 0]),
    }


def _reciprocal(a: Pair) -> Pair:
    energy = a[0] * a[0] + a[1] * a[1]
    return a[0] / energy, -a[1] / energy


def standardise(x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """Each example of ``[B, ...]`` to mean 0 and deviation 1, and the two numbers ``[B, 1, …]`` that it had."""
    flat = x.flatten(1)
    count = flat.shape[1]
    mean = total(flat) * (1 / count)  # a product, because a card has no kernel for the quotient
    flat = flat - mean
    deviation = (total(flat.square()) * (1 / max(count - 1, 1))).sqrt()
    shape = [-1, *[1] * (x.ndim - 1)]
    return (flat / (deviation + 1e-5)).reshape(x.shape), mean.reshape(shape), deviation.reshape(shape)
