"""By how many samples one recording of a sound is late against another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

LONGEST = 1 << 14  # samples of the pieces that are compared
_AUDIBLE = 1e-9  # of the strongest frequency's power: below, there is nothing but rounding
_DOUBT = 0.1  # keeps frequencies that agree entirely from deciding alone
_TIE = 0.98  # of the peak: what reaches this at no lag has none, as far as so narrow a sound can tell


@dataclass(frozen=True)
class Lag:
    """How late the second sound is.

    Attributes:
        samples: positive if it is late; None if one of the two is silent
        likeness: 0 for sounds that have nothing in common, 1 for one that is the other, filtered or not, at another
            time; negative if it is the other upside down
    """

    samples: int | None
    likeness: float


def measure_lag(x: np.ndarray, y: np.ndarray) -> Lag:
    """How late ``y [C, N]`` is against ``x [C, N]``, up to half of `LONGEST` samples; lengths may differ.

    Cross-correlation of all pieces together, in which every frequency weighs by how sure its phase is: its peak stays
    narrow for music with strong basses, and what a codec left out or made up does not count (the maximum likelihood
    estimate of Knapp and Carter 1976).
    """
    length = min(x.shape[1], y.shape[1])
    size = min(LONGEST, max(1 << max(2 * length - 1, 1).bit_length(), 64))
    window = np.hanning(min(size, max(length, 1)) + 2)[1:-1].astype(np.float32)
    last = length - len(window)  # whole pieces only: where one were cut off, both sounds would be alike for that
    cross = np.zeros(size // 2 + 1, np.complex128)
    powers = np.zeros((2, size // 2 + 1))
    for start in sorted({*range(0, last, max(len(window) // 2, 1)), max(last, 0)}):
        pieces = [_piece(sound[:, :length], start, window, size) for sound in (x, y)]
        cross += np.sum(pieces[1] * pieces[0].conj(), axis=0)
        powers += [np.sum(np.abs(piece) ** 2, axis=0) for piece in pieces]
    heard = np.all(powers > _AUDIBLE * powers.max(axis=1, keepdims=True), axis=0)
    if not powers.max(axis=1).all() or not heard.any():
        return Lag(None, 0.0)
    agreement = np.where(heard, cross / np.sqrt(np.where(heard, powers[0] * powers[1], 1)), 0)
    certainty = np.abs(agreement) / (1 + _DOUBT - np.minimum(np.abs(agreement) ** 2, 1))
    correlation = np.abs(scipy.fft.irfft(agreement * certainty, size))
    place = 0 if correlation[0] >= _TIE * correlation.max() else int(correlation.argmax())
    likeness = float(scipy.fft.irfft(agreement, size)[place] * size / (2 * np.count_nonzero(heard)))
    return Lag(place if place <= size // 2 else place - size, likeness)


def _piece(x: np.ndarray, start: int, window: np.ndarray, size: int) -> np.ndarray:
    piece = x[:, start : start + len(window)]
    return scipy.fft.rfft(piece * window[: piece.shape[1]], size, axis=1)
