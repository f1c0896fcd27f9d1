"""How far the logarithms of two spectra are from each other, and above which frequency a codec has left nothing.

Log-spectral distance as in Liu et al., "Neural vocoder is all you need for speech super-resolution" (Interspeech 2022,
LSD and LSD-HF: Hann window of 2048), in dB, and with a floor that makes digital silence finite.
"""

from __future__ import annotations

import math

import numpy as np

from metrics.spectral import cut, magnitudes

SIZE, HOP = 2048, 512
FLOOR = -100.0  # dB; 0 dB is a full-scale sine. What is softer cannot be heard in music of usual loudness
GONE = 0.01  # share of the original's energy (-20 dB) of which no more is left above the cut-off


def log_spectral_distance(reference: np.ndarray, estimate: np.ndarray, above: float = 0.0) -> float:
    """Log-spectral distance in dB: rms over bins of the difference of levels, mean over frames and channels.

    Less is better. Levels below `FLOOR` are raised to it.

    Args:
        reference, estimate: ``[C, N]``, full scale 1, cut to the shorter one
        above: frequency from which on bins count, cycles per sample

    Raises:
        ValueError: too short for one frame
    """
    reference, estimate = cut(reference, estimate)
    first = math.ceil(above * SIZE)
    total, count = 0.0, 0
    for r, e in magnitudes([reference, estimate], SIZE, HOP):
        distance = np.sqrt(np.square(_level(r[:, first:]) - _level(e[:, first:])).mean(axis=1))
        total += float(distance.sum())
        count += distance.size
    return total / count


def cutoff(reference: np.ndarray, codec: np.ndarray) -> float | None:
    """Above which frequency a codec has left nothing, cycles per sample; None if there is no such frequency.

    The lowest bin at which, and above which altogether, no more than `GONE` of the reference's long-term energy is
    left where there was some to be heard (`FLOOR`). So it is None of what was not cut off, of what the reference has
    not, and of sounds that are too short for one frame.

    Args:
        reference, codec: ``[C, N]``, full scale 1, cut to the shorter one
    """
    reference, codec = cut(reference, codec)
    if reference.shape[1] <= SIZE // 2:
        return None
    energy, frames = np.zeros((2, SIZE // 2 + 1)), 0
    for block in magnitudes([reference, codec], SIZE, HOP):
        energy += [np.square(each).sum(axis=(0, 2)) for each in block]
        frames += block[0].shape[0] * block[0].shape[2]
    energy /= frames
    energy[:, _level(np.sqrt(energy[0])) <= FLOOR] = 0
    before, left = energy
    before_above, left_above = (np.cumsum(each[::-1])[::-1] for each in (before, left))
    gone = (before > 0) & (left <= GONE * before) & (left_above <= GONE * before_above)
    return float(np.argmax(gone) / SIZE) if gone.any() else None


def levels(signal: np.ndarray) -> np.ndarray:
    """The spectrogram of ``[C, N]``, mean of the channels, in dB of a full-scale sine, at least `FLOOR`: ``[F, T]``."""
    blocks = magnitudes(cut(signal), SIZE, HOP)
    return _level(np.sqrt(np.concatenate([np.square(block).mean(axis=0) for (block,) in blocks], axis=1)))


def _level(magnitude: np.ndarray) -> np.ndarray:
    """dB of a full-scale sine, at least `FLOOR`."""
    return np.maximum(20 * np.log10(np.maximum(magnitude, 1e-10) * 4 / SIZE), FLOOR)
