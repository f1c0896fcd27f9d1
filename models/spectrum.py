"""Spectra as pairs of real numbers: the short-time Fourier transform, its inverse, and what networks do with them.

A pair has an axis of its own, ``[..., 2, bins, frames]``: real parts, then imaginary parts; reshaping joins it with the
channels. Plug-in devices such as SDAA have neither complex numbers nor a Fourier transform (:func:`models.card.holds`):
there both are products with matrices, elsewhere Paddle's own transforms are taken.

The matrices are those of the first step of Cooley and Tukey (1965). With size = n1·n2 a frame is n1 rows of n2 samples:
a transform of length n1 down the columns, then for each of its n1 frequencies one of length n2 along the row, with the
twiddle factors in its matrix. So a frame of 4096 samples takes 1.1 million multiplications instead of 16.8, and all
there is are large products and transpositions, in float32 (unless HIGH_PERFORMANCE_GEMM=1 makes a card round them to
float16, as it always does with convolutions, which could have had the waves as filters).
"""

import functools
import math
from typing import Literal

import numpy as np
import paddle

from models import card


class STFT:
    """The short-time Fourier transform of real signals, as ``torch.stft`` defines it, and its inverse.

    In a program that is being exported all shapes must be known. Paddle's own pair asks its window there for a length
    that it does not have, so frames are cut, transformed and added up one step after the other, as on a card.

    Args:
        size: samples of a frame; a size without divisors near its root costs more on a card
        hop: samples between the beginnings of frames, at most ``size``
        window: ``[size]``; a periodic Hann window unless given
        center: frames are centred on multiples of the hop; the signal is lengthened by size // 2 at both ends
        pad_mode: how it is lengthened
        normalized: divide by the root of the size
    """

    def __init__(
        self,
        size: int,
        hop: int,
        window: np.ndarray | None = None,
        center: bool = True,
        pad_mode: Literal["reflect", "constant"] = "reflect",
        normalized: bool = False,
    ):
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
        self.size, self.hop = size, hop
        self.window = np.asarray(hann if window is None else window, np.float32)
        self.center, self.pad_mode, self.normalized = center, pad_mode, normalized

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Samples ``[..., N]`` to ``[..., 2, size // 2 + 1, frames]``."""
        flat = x.reshape([-1, x.shape[-1]])
        if self.center:
            flat = card.pad(flat, self.size // 2, self.size // 2, mode=self.pad_mode)
        if paddle.in_dynamic_mode() and not card.holds(x):
            window = paddle.to_tensor(self.window)
            whole = paddle.signal.stft(
                flat, self.size, self.hop, window=window, center=False, normalized=self.normalized
            )
            spectrum = paddle.stack([whole.real(), whole.imag()], axis=1)
        else:
            frames = cut_frames(flat, self.size, self.hop) * self._tensor(self.window * self._scale, x)
            spectrum = _transform(frames)
        return spectrum.reshape([*x.shape[:-1], *spectrum.shape[1:]])

    def inverse(self, spectrum: paddle.Tensor, length: int | None = None) -> paddle.Tensor:
        """``[..., 2, size // 2 + 1, frames]`` to samples ``[..., length]``.

        Frames are windowed, added up, and divided by the sum of the squared windows. Without a ``length`` all samples
        that there are, less those that ``center`` added.

        Raises:
            ValueError: the windows leave a gap
        """
        flat = spectrum.reshape([-1, *spectrum.shape[-3:]])
        even = self.size % 2 == 0  # Paddle's inverse knows no other size
        if even and paddle.in_dynamic_mode() and not card.holds(spectrum):
            x = paddle.signal.istft(
                paddle.complex(flat[:, 0], flat[:, 1]),
                self.size,
                self.hop,
                window=paddle.to_tensor(self.window),
                center=self.center,
                normalized=self.normalized,
                length=length,
            )
        else:
            x = self._add_up(_inverse_transform(flat, self.size), length)
        return x.reshape([*spectrum.shape[:-3], x.shape[-1]])

    @property
    def _scale(self) -> float:
        return self.size**-0.5 if self.normalized else 1.0

    def _add_up(self, frames: paddle.Tensor, length: int | None) -> paddle.Tensor:
        """Frames ``[R, T, size]`` to samples ``[R, length]``."""
        count = frames.shape[1]
        whole = (count - 1) * self.hop + self.size
        first, last = (self.size // 2, whole - self.size // 2) if self.center else (0, whole)
        last = last if length is None else min(first + length, whole)
        weight = np.zeros(whole)
        for frame in range(count):
            weight[frame * self.hop : frame * self.hop + self.size] += np.square(self.window, dtype=np.float64)
        if weight[first:last].min() < 1e-11:
            raise ValueError("the windows of neighbouring frames leave samples without weight: choose a smaller hop")
        added = add_frames(frames * self._tensor(self.window / self._scale, frames), self.hop)
        return card.cut(added, 1, first, last) * self._tensor(1.0 / weight[first:last], frames)

    @staticmethod
    def _tensor(values: np.ndarray, like: paddle.Tensor) -> paddle.Tensor:
        values = values.astype(np.float32)
        return paddle.to_tensor(values, place=like.place) if paddle.in_dynamic_mode() else paddle.to_tensor(values)


# -------------------------------------------------------------------------------------------------------------- frames


def cut_frames(x: paddle.Tensor, size: int, hop: int) -> paddle.Tensor:
    """``[R, N] -> [R, frames, size]``, a frame every ``hop`` samples; joined from blocks of one hop."""
    count, blocks = (x.shape[1] - size) // hop + 1, -(-size // hop)
    length = (count - 1 + blocks) * hop
    x = card.cut(x, 1, 0, length) if x.shape[1] > length else card.pad(x, 0, length - x.shape[1])
    x = x.reshape([x.shape[0], -1, hop])
    widths = [min(hop, size - block * hop) for block in range(blocks)]
    parts = [paddle.slice(x, [1, 2], [block, 0], [block + count, width]) for block, width in enumerate(widths)]
    return paddle.concat(parts, axis=2)


def add_frames(frames: paddle.Tensor, hop: int) -> paddle.Tensor:
    """``[R, frames, size] -> [R, N]``: the sum of frames that begin every ``hop`` samples."""
    rows, count, size = frames.shape
    blocks = -(-size // hop)
    frames = card.pad(frames, 0, blocks * hop - size)
    parts = [card.cut(frames, 2, block * hop, (block + 1) * hop) for block in range(blocks)]
    shifted = [card.pad(part, block, blocks - 1 - block, axis=1) for block, part in enumerate(parts)]
    x = functools.reduce(paddle.add, shifted).reshape([rows, -1])
    return card.cut(x, 1, 0, (count - 1) * hop + size)


# ------------------------------------------------------------------------------------------------------ the transforms


def _transform(frames: paddle.Tensor) -> paddle.Tensor:
    """``[R, T, size] -> [R, 2, size // 2 + 1, T]``: on a card by its matrices, in a program by Paddle's operator."""
    if card.holds(frames):
        with paddle.amp.auto_cast(False):  # which would compute products of matrices in float16
            return _product_with_matrices(frames)
    whole = paddle.fft.rfft(frames)
    return paddle.stack([whole.real(), whole.imag()], axis=1).transpose([0, 1, 3, 2])


def _inverse_transform(spectrum: paddle.Tensor, size: int) -> paddle.Tensor:
    """``[R, 2, size // 2 + 1, T] -> [R, T, size]``, in the same ways."""
    if card.holds(spectrum):
        with paddle.amp.auto_cast(False):
            return _product_with_inverses(spectrum, size)
    return paddle.fft.irfft(paddle.complex(spectrum[:, 0], spectrum[:, 1]).transpose([0, 2, 1]), size)


def _product_with_matrices(frames: paddle.Tensor) -> paddle.Tensor:
    rows, count, size = frames.shape
    n1, n2 = factors(size)
    columns, along, _ = _matrices_for(frames, size)
    y = paddle.matmul(columns, frames.reshape([-1, n1, n2]))  # [R·T, n1·2, n2]
    y = y.reshape([-1, n1, 2 * n2]).transpose([1, 0, 2])
    y = paddle.matmul(y, along)  # [n1, R·T, 2·k2]
    y = y.reshape([n1, rows, count, 2, -1]).transpose([1, 3, 4, 0, 2])  # the frequency is k1 + n1·k2
    return card.cut(y.reshape([rows, 2, -1, count]), 2, 0, size // 2 + 1)


def _product_with_inverses(spectrum: paddle.Tensor, size: int) -> paddle.Tensor:
    rows, _, bins, count = spectrum.shape
    n1, n2 = factors(size)
    columns, _, along = _matrices_for(spectrum, size)
    y = card.pad(spectrum, 0, (n2 // 2 + 1) * n1 - bins, axis=2)
    y = y.reshape([rows, 2, -1, n1, count]).transpose([3, 0, 4, 1, 2]).reshape([n1, rows * count, -1])
    y = paddle.matmul(y, along)  # [n1, R·T, 2·n2]
    y = y.transpose([1, 0, 2]).reshape([-1, 2 * n1, n2])
    return paddle.matmul(columns, y, transpose_x=True).reshape([rows, count, size])


def factors(size: int) -> tuple[int, int]:
    """n1 ≥ n2 with n1·n2 = size, as near to each other as can be."""
    n2 = next(n for n in range(math.isqrt(size), 0, -1) if size % n == 0)
    return size // n2, n2


def _matrices(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices ``[n1·2, n1]`` of both transforms, ``[n1, 2·n2, 2·k2]`` forward and ``[n1, 2·k2, 2·n2]`` inverse.

    They hold k2 = n2 // 2 + 1 of the n2 multiples of n1: real signals need no more.
    """
    n1, n2 = factors(size)
    k1, k2 = np.arange(n1), np.arange(n2 // 2 + 1)
    angle = 2 * np.pi / n1 * (k1[:, None] * k1 % n1)
    columns = np.stack([np.cos(angle), -np.sin(angle)], axis=1).reshape(2 * n1, n1)

    frequency = k1[:, None] + n1 * k2  # [n1, k2]
    angle = 2 * np.pi / size * (np.arange(n2)[:, None] * frequency[:, None] % size)  # [n1, n2, k2]
    cos, sin = np.cos(angle), np.sin(angle)
    along = np.block([[cos, -sin], [sin, cos]])

    # frequencies above the half are the conjugates of those below, which count twice
    share = np.where(2 * frequency > size, 0, np.where((frequency == 0) | (2 * frequency == size), 1, 2)) / size
    back = np.tile(share, 2)[:, :, None] * along.swapaxes(1, 2)
    return columns.astype(np.float32), along.astype(np.float32), back.astype(np.float32)


_HELD: dict[tuple[int, str], tuple[paddle.Tensor, ...]] = {}


def _matrices_for(x: paddle.Tensor, size: int) -> tuple[paddle.Tensor, ...]:
    """The matrices on the device of ``x``, made once."""
    key = size, str(x.place)
    if key not in _HELD:
        _HELD[key] = tuple(paddle.to_tensor(each, place=x.place) for each in _matrices(size))
    return _HELD[key]


# ----------------------------------------------------------------------------------------------------------- pairs


def product(a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
    """Complex product of two tensors of pairs, ``[..., 2, bins, frames]``."""
    a_real, a_imaginary = paddle.split(a, 2, axis=-3)
    b_real, b_imaginary = paddle.split(b, 2, axis=-3)
    real = a_real * b_real - a_imaginary * b_imaginary
    return paddle.concat([real, a_real * b_imaginary + a_imaginary * b_real], axis=-3)


def magnitude(z: paddle.Tensor) -> paddle.Tensor:
    """``[..., 2, bins, frames] -> [..., bins, frames]``; the gradient at zero is zero."""
    return paddle.sqrt(z.square().sum(axis=-3) + 1e-20)  # the root of zero has no slope


def phase(z: paddle.Tensor) -> paddle.Tensor:
    """``[..., 2, bins, frames] -> [..., bins, frames]``, radians in [−π, π]."""
    real, imaginary = paddle.split(z, 2, axis=-3)
    return card.atan2(imaginary, real).squeeze(-3)
