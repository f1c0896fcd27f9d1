"""Spectral metrics of the Music-Source-Separation-Training project (MSST), without torch.

All take ``reference`` and ``estimate`` ``[C, N]`` (log-WMSE the mixture too) at a nominal 44.1 kHz; signals of
different lengths are cut to the shortest.  Higher is better.  All is float64 and runs over blocks of STFT frames.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from metrics.weighting import a_weighting, filtered, hearing_filter

_BLOCK_FRAMES = 256


def l1_freq(reference: np.ndarray, estimate: np.ndarray) -> float:
    """``100 / (1 + 10·mean |difference of STFT magnitudes|)``: rectangular window of 2048, hop 1024; perfect: 100."""
    reference, estimate = cut(reference, estimate)
    total, count = 0.0, 0
    for r, e in magnitudes((reference, estimate), 2048, 1024, window=None):
        total += np.abs(r - e).sum()
        count += r.size
    return 100 / (1 + 10 * total / count)


def log_wmse(mixture: np.ndarray, reference: np.ndarray, estimate: np.ndarray, fir: np.ndarray | None = None) -> float:
    """Log of the frequency-weighted mean square error, as torch_log_wmse 0.3 gives it through MSST; perfect: 73.68.

    The error of each channel is scaled by the weighted RMS of each channel of the *mixture* in turn, and the C x C
    values are averaged: MSST passes channels where the package expects stems.  ``fir``: weighting taps, by default
    :func:`metrics.weighting.hearing_filter`.
    """
    mixture, reference, estimate = cut(mixture, reference, estimate)
    taps = hearing_filter() if fir is None else np.asarray(fir, np.float64)
    delay = len(taps) // 2 - 1
    # the package derives the length from seconds, which now and then loses a sample to rounding
    length = math.floor(reference.shape[1] / 44100 * 44100)
    weighted_mixture = filtered(mixture, taps, delay)[:, :length]
    error = filtered(reference - estimate, taps, delay)[:, :length]
    inaudible = 10 ** (-68 / 20)
    values = []
    for level in np.sqrt((weighted_mixture**2).mean(axis=1)):
        scaled = error / (level + 1e-8)
        scaled[np.abs(scaled) < inaudible] = 0
        values.append(-4 * np.log((scaled**2).mean(axis=1) + 1e-8))
    return float(np.mean(values))


def aura_stft(reference: np.ndarray, estimate: np.ndarray) -> float:
    """``100 / (1 + 10·loss)`` of auraloss' `STFTLoss` (Hann 1024, hop 256): spectral convergence + log magnitude."""
    reference, estimate = cut(reference, estimate)
    return 100 / (1 + 10 * _stft_loss(reference, estimate, 1024, 256))


def aura_mrstft(reference: np.ndarray, estimate: np.ndarray, sample_rate: int = 44100) -> float:
    """``100 / (1 + 10·loss)`` of auraloss' `MultiResolutionSTFTLoss`: A-weighted, 128 mel bands, Hann 1024 … 4096."""
    taps = a_weighting(sample_rate)
    reference, estimate = (filtered(x, taps, len(taps) // 2) for x in cut(reference, estimate))
    losses = []
    for size in (1024, 2048, 4096):
        losses.append(_stft_loss(reference, estimate, size, size // 4, _mel(sample_rate, size, 128)))
    return 100 / (1 + 10 * float(np.mean(losses)))


def bleedless_fullness(reference: np.ndarray, estimate: np.ndarray, sample_rate: int = 44100) -> tuple[float, float]:
    """How little the estimate adds (bleedless) and how little it lacks (fullness): ``100 / (1 + mean excess in dB)``.

    Differences of dB spectra in 512 mel bands (4096-sample Hann, hop 1024); levels more than 80 dB below the loudest of
    each signal are raised to that floor.  The means are over the bins that exceed, or lack, more than 1e-6 dB: below
    that the float32 levels of the original are equal.
    """
    signals = cut(reference, estimate)
    mel = _mel(sample_rate, 4096, 512)
    spectra = functools.partial(magnitudes, signals, 4096, 1024, padding="constant")
    loudest = np.max([[_db(mel @ x).max() for x in block] for block in spectra()], axis=0)
    sums, counts = np.zeros(2), np.zeros(2)
    for block in spectra():
        r, e = (np.maximum(_db(mel @ x), top - 80) for x, top in zip(block, loudest, strict=True))
        difference = e - r
        for index, part in enumerate((difference[difference > 1e-6], -difference[difference < -1e-6])):
            sums[index] += part.sum()
            counts[index] += part.size
    excess = sums / np.maximum(counts, 1)
    return float(100 / (excess[0] + 1)), float(100 / (excess[1] + 1))


def cut(*signals: np.ndarray) -> list[np.ndarray]:
    length = min(np.shape(signal)[-1] for signal in signals)
    cut = [np.asarray(signal, np.float64)[..., :length] for signal in signals]
    if any(signal.ndim != 2 or signal.shape != cut[0].shape for signal in cut):
        raise ValueError(f"expected signals [channels, samples] alike, got {[np.shape(signal) for signal in signals]}")
    return cut


def magnitudes(
    signals: list[np.ndarray], size: int, hop: int, window: str | None = "hann", padding: str = "reflect"
) -> Iterator[list[np.ndarray]]:
    """Blocks of centred STFT magnitudes ``[C, F, frames]``, one per signal (conventions of ``torch.stft``)."""
    length, half = signals[0].shape[1], size // 2
    if padding == "reflect" and length <= half:
        raise ValueError(f"needs more than {half} samples for an STFT of {size}, got {length}")
    padded = [np.pad(signal, [(0, 0), (half, half)], mode=padding) for signal in signals]
    taper = 1.0 if window is None else np.hanning(size + 1)[:-1]
    frames = [sliding_window_view(x, size, axis=1)[:, ::hop] for x in padded]
    for start in range(0, frames[0].shape[1], _BLOCK_FRAMES):
        block = slice(start, start + _BLOCK_FRAMES)
        yield [np.abs(scipy.fft.rfft(x[:, block] * taper)).swapaxes(1, 2) for x in frames]


def _stft_loss(
    reference: np.ndarray, estimate: np.ndarray, size: int, hop: int, mel: np.ndarray | None = None
) -> float:
    """Spectral convergence + mean |log ratio|; the estimate is in the denominator because MSST passes it as target."""
    difference = energy = logarithms = 0.0
    count = 0
    for block in magnitudes([reference, estimate], size, hop):
        r, e = (np.maximum(x, 1e-4) for x in block)  # auraloss clamps the power at 1e-8
        if mel is not None:
            r, e = mel @ r, mel @ e
        difference += ((e - r) ** 2).sum()
        energy += (e**2).sum()
        logarithms += np.abs(np.log(r) - np.log(e)).sum()
        count += r.size
    return math.sqrt(difference) / math.sqrt(energy) + logarithms / count


@functools.cache
def _mel(sample_rate: int, size: int, bands: int) -> np.ndarray:
    """Slaney mel filters ``[bands, size / 2 + 1]``."""
    from librosa.filters import mel  # heavy; only these metrics need it

    return mel(sr=sample_rate, n_fft=size, n_mels=bands).astype(np.float64)


def _db(magnitude: np.ndarray) -> np.ndarray:
    return 20 * np.log10(np.maximum(magnitude, 1e-10))
