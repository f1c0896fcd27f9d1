"""Changing the sample rate: soxr for whole songs and streams, windowed sinc kernels where a network expects them."""

from __future__ import annotations

import functools
import math

import numpy as np
import soxr

# 28 bits, no delay. Gain error below 3e-5 up to 0.6, below 1e-3 (0.009 dB) up to 0.91 of the lower Nyquist frequency.
QUALITY = "VHQ"
_BLOCK = 1 << 16  # samples handed to soxr at once; fixed, so that whole signals take the path of streams
_BLOCK_VALUES = 1 << 21  # float32 values of a block of gathered input of the sinc resampler


def resampled_length(samples: int, old: int, new: int) -> int:
    """``round(samples · new / old)`` in integers, halves up."""
    return (2 * samples * new + old) // (2 * old)


class StreamResampler:
    """Resamples a signal that arrives in blocks; delay compensated, memory bounded.

    All outputs together have exactly ``round(N · new / old)`` samples, and do not depend on how the signal was cut.

    Args:
        old: sample rate of the input, Hz
        new: sample rate of the output, Hz
        channels: of the signal
    """

    def __init__(self, old: int, new: int, channels: int):
        if old <= 0 or new <= 0:
            raise ValueError(f"sample rates must be positive, not {old} and {new}")
        self.old, self.new, self.channels = old, new, channels
        self._soxr = None if old == new else soxr.ResampleStream(old, new, channels, dtype="float32", quality=QUALITY)
        self._taken = self._given = 0

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Takes ``block [C, n]`` float32 (n may be 0), returns the samples ``[C, m]`` that are ready (m may be 0)."""
        self._taken += block.shape[-1]
        if self._soxr is None:
            return np.array(block, np.float32)
        rows = np.ascontiguousarray(block.T, np.float32)
        pieces = [self._soxr.resample_chunk(rows[i : i + _BLOCK]) for i in range(0, len(rows), _BLOCK)]
        if last and self._taken:
            pieces.append(self._soxr.resample_chunk(rows[:0], last=True))
        out = np.concatenate(pieces).T if pieces else np.zeros((self.channels, 0), np.float32)
        wanted = resampled_length(self._taken, self.old, self.new) - self._given
        if last:  # the filter's end may be a sample off the rounded length
            out = np.pad(out[:, :wanted], [(0, 0), (0, max(0, wanted - out.shape[-1]))])
        self._given += out.shape[-1]
        return np.ascontiguousarray(out)


def resample(x: np.ndarray, old: int, new: int) -> np.ndarray:
    """``x [C, N]`` float32 at ``old`` Hz → ``[C, round(N · new / old)]`` at ``new`` Hz, the same bits as streamed."""
    return StreamResampler(old, new, x.shape[0]).push(x, last=True)


def sinc_resample(
    x: np.ndarray, old: int, new: int, zeros: int = 24, rolloff: float = 0.945, length: int | None = None
) -> np.ndarray:
    """julius's ``resample_frac``, which Demucs uses inside the network: ``x [..., N]`` → ``[..., floor(N·new/old)]``.

    Args:
        x: float32 signal; its ends are continued with the first and last sample
        old: sample rate of the input, Hz
        new: sample rate of the output, Hz
        zeros: zero crossings of the sinc on each side
        rolloff: cut-off as a part of the lower Nyquist frequency
        length: output length instead of the rounded-down one, at most ``ceil(N·new/old)``

    Raises:
        ValueError: for a ``length`` out of range
    """
    divisor = math.gcd(old, new)
    old, new = old // divisor, new // divisor
    samples = x.shape[-1]
    longest = -(-samples * new // old)
    wanted = samples * new // old if length is None else length
    if not 0 <= wanted <= longest:
        raise ValueError(f"the length must lie in 0 … {longest}, not {wanted}")
    if old == new or wanted == 0:
        return np.asarray(x, np.float32)[..., :wanted]
    return _interpolated(x, *_sinc_kernel(old, new, zeros, rolloff), old, wanted, "edge")


def torchaudio_resample(x: np.ndarray, old: int, new: int, zeros: int = 128, rolloff: float = 0.99) -> np.ndarray:
    """``torchaudio.transforms.Resample``, which the pitch networks expect: ``x [..., N] -> [..., ceil(N·new/old)]``.

    Args:
        x: float32 signal; before and after it there is silence
        old: sample rate of the input, Hz
        new: sample rate of the output, Hz
        zeros: zero crossings of the sinc on each side (``lowpass_filter_width``)
        rolloff: cut-off as a part of the lower Nyquist frequency
    """
    divisor = math.gcd(old, new)
    old, new = old // divisor, new // divisor
    wanted = -(-x.shape[-1] * new // old)
    if old == new or wanted == 0:
        return np.asarray(x, np.float32)
    return _interpolated(x, *_torchaudio_kernel(old, new, zeros, rolloff), old, wanted, "constant")


def _interpolated(x: np.ndarray, kernel: np.ndarray, width: int, old: int, wanted: int, ends: str) -> np.ndarray:
    """So many samples, of which each period of the kernel ``[taps, new]`` makes ``new`` out of every ``old``.

    ``ends``: what is beyond the signal, a mode of ``numpy.pad``.
    """
    signal = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(width, width + old)], ends).astype(np.float32, copy=False)
    windows = np.lib.stride_tricks.sliding_window_view(signal, kernel.shape[0], axis=-1)[..., ::old, :]
    new = kernel.shape[1]
    periods = -(-wanted // new)
    out = np.empty((*x.shape[:-1], periods, new), np.float32)
    step = max(1, _BLOCK_VALUES // (kernel.shape[0] * math.prod(x.shape[:-1])))
    for start in range(0, periods, step):
        part = slice(start, min(start + step, periods))
        np.matmul(windows[..., part, :], kernel, out=out[..., part, :])
    return out.reshape(*x.shape[:-1], -1)[..., :wanted]


@functools.lru_cache(maxsize=16)
def _sinc_kernel(old: int, new: int, zeros: int, rolloff: float) -> tuple[np.ndarray, int]:
    """Weights ``[taps, new]`` of one period of the output, and how far they reach to the left.

    Column j evaluates the input at time j / new; a cosine² window ends the sinc after ``zeros`` crossings, and every
    column sums to 1, so that a constant stays what it is.
    """
    cutoff = min(old, new) * rolloff
    width = math.ceil(zeros * old / cutoff)
    kernel = _windowed_sinc(old, np.arange(new) / new, cutoff, zeros, width)
    return (kernel / kernel.sum(axis=0)).astype(np.float32), width


@functools.lru_cache(maxsize=16)
def _torchaudio_kernel(old: int, new: int, zeros: int, rolloff: float) -> tuple[np.ndarray, int]:
    """The same with columns that sum to about 1, at times that are rounded to float32 as in the original."""
    cutoff = min(old, new) * rolloff
    width = math.ceil(zeros * old / cutoff)
    times = np.arange(new, dtype=np.float32) / np.float32(new)
    return (_windowed_sinc(old, times, cutoff, zeros, width) * (cutoff / old)).astype(np.float32), width


def _windowed_sinc(old: int, times: np.ndarray, cutoff: float, zeros: int, width: int) -> np.ndarray:
    """Values ``[taps, times]`` between ``width`` inputs before and after each period of ``old``, float64."""
    taps = np.arange(-width, width + old) / old
    phase = np.clip((taps[:, None] - times) * cutoff, -zeros, zeros)
    return np.sinc(phase) * np.cos(np.pi * phase / (2 * zeros)) ** 2
