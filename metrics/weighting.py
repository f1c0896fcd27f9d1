"""Perceptual weighting filters (FIR) that the spectral metrics rest on."""

from __future__ import annotations

import functools

import numpy as np
import scipy.signal


def filtered(signal: np.ndarray, taps: np.ndarray, delay: int) -> np.ndarray:
    """``signal [C, N]`` through an FIR, its delay of ``delay`` samples taken out; silence outside; same length."""
    length = signal.shape[-1]
    padded = np.concatenate([signal, np.zeros((len(signal), delay))], axis=1)
    return scipy.signal.oaconvolve(padded, taps[None], axes=1)[:, delay : delay + length]


@functools.cache
def hearing_filter(sample_rate: int = 44100) -> np.ndarray:
    """Zero-phase sensitivity-of-hearing filter of log-WMSE, 4000 taps; tap 1999 is time zero.

    High shelf +5 dB at 1.5 kHz, second-order high-pass at 120 Hz, +2.5 dB bell at 500 Hz, first-order low-pass at
    10 kHz run forwards and backwards (nomonosound/log-wmse-audio-quality, after Fenton and Lee, 2017).  The magnitude
    is read on a grid of π·k/4097 and transformed as if it were one of π·k/4096; that is part of the published taps,
    which this equals within 1e-8.
    """
    half = 4096
    grid = np.pi * np.arange(half + 1) / (half + 1)
    magnitude = np.abs(scipy.signal.freqz(*_high_shelf(1500.0, 5.0, 2**-0.5, sample_rate), grid)[1])
    magnitude *= np.abs(scipy.signal.freqz(*_bell(500.0, 2.5, 1.5 * 2**-0.5, sample_rate), grid)[1])
    magnitude *= np.abs(scipy.signal.freqz(*scipy.signal.butter(2, 120.0, "highpass", fs=sample_rate), grid)[1])
    magnitude *= np.abs(scipy.signal.freqz(*scipy.signal.butter(1, 10000.0, fs=sample_rate), grid)[1]) ** 2
    response = np.fft.fftshift(np.fft.irfft(magnitude))
    return response[half - 1999 : half + 2001]


@functools.cache
def a_weighting(sample_rate: int = 44100, taps: int = 101) -> np.ndarray:
    """Linear-phase fit to the A-weighting curve (IEC 61672) as in auraloss; tap ``taps // 2`` is time zero."""
    # poles in Hz: two double ones and two single ones; four zeros at 0 Hz; gain 0 dB at 1 kHz
    low, second, third, high = 20.598997, 107.65265, 737.86223, 12194.217
    poles = -2 * np.pi * np.array([low, low, second, third, high, high])
    gain = (2 * np.pi * high) ** 2 * 10 ** (1.9997 / 20)
    digital = scipy.signal.bilinear([gain, 0, 0, 0, 0], np.poly(poles), fs=sample_rate)
    frequencies, response = scipy.signal.freqz(*digital, worN=512, fs=sample_rate)
    return scipy.signal.firls(taps, frequencies, np.abs(response), fs=sample_rate)


def _high_shelf(frequency: float, gain_db: float, q: float, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Biquad coefficients of the Audio EQ Cookbook (Bristow-Johnson)."""
    gain, cos, alpha = _biquad(frequency, gain_db, q, sample_rate)
    slope = 2 * np.sqrt(gain) * alpha
    up, down = gain + 1, gain - 1
    numerator = gain * np.array([up + down * cos + slope, -2 * (down + up * cos), up + down * cos - slope])
    return numerator, np.array([up - down * cos + slope, 2 * (down - up * cos), up - down * cos - slope])


def _bell(frequency: float, gain_db: float, q: float, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Biquad coefficients of the Audio EQ Cookbook (Bristow-Johnson)."""
    gain, cos, alpha = _biquad(frequency, gain_db, q, sample_rate)
    return (
        np.array([1 + alpha * gain, -2 * cos, 1 - alpha * gain]),
        np.array([1 + alpha / gain, -2 * cos, 1 - alpha / gain]),
    )


def _biquad(frequency: float, gain_db: float, q: float, sample_rate: int) -> tuple[float, float, float]:
    angle = 2 * np.pi * frequency / sample_rate
    return 10 ** (gain_db / 40), np.cos(angle), np.sin(angle) / (2 * q)
