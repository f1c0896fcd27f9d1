"""From how much each pitch is sung to the one that is: local averages of cents, Viterbi's path, and hertz.

A salience is ``[T, 360]``: frame by frame, how likely each of 360 pitches 20 cents apart is, between 0 and 1. Cents are
counted from 10 Hz. As in yxlllc/RMVPE and, for the path, ``librosa.sequence.viterbi``.
"""

from __future__ import annotations

import functools

import numpy as np

BINS = 360
CENTS_PER_BIN = 20.0
FIRST_CENTS = 1997.3794084376191  # of bin 0: 31.70 Hz
_REFERENCE = 10.0  # Hz, where cents begin
_REACH = 4  # bins on each side that the average takes
_FARTHEST = 30  # bins that a voice does not leap from one frame to the next


def bin_to_cents(index: np.ndarray) -> np.ndarray:
    """Cents of bins, which may be between two, any shape."""
    return CENTS_PER_BIN * np.asarray(index, np.float64) + FIRST_CENTS


def cents_to_bin(cents: np.ndarray) -> np.ndarray:
    """Bins of cents, not rounded, any shape."""
    return (np.asarray(cents, np.float64) - FIRST_CENTS) / CENTS_PER_BIN


def cents_to_hz(cents: np.ndarray) -> np.ndarray:
    """Hertz of cents, any shape; 0 is no pitch and stays 0."""
    cents = np.asarray(cents, np.float64)
    return np.where(cents > 0, _REFERENCE * 2.0 ** (cents / 1200.0), 0.0)


def hz_to_cents(frequency: np.ndarray) -> np.ndarray:
    """Cents of hertz, any shape; 0 Hz is no pitch and stays 0."""
    frequency = np.asarray(frequency, np.float64)
    voiced = frequency > 0
    return np.where(voiced, 1200.0 * np.log2(np.where(voiced, frequency, _REFERENCE) / _REFERENCE), 0.0)


def to_f0(salience: np.ndarray, threshold: float = 0.03, viterbi: bool = False) -> np.ndarray:
    """Pitch of each frame: ``[T, 360] -> [T]`` float64, Hz, 0 where nothing is sung.

    Args:
        salience: see above
        threshold: frames whose highest salience is lower are unvoiced
        viterbi: follow the likeliest path instead of the highest salience of each frame

    Raises:
        ValueError: no ``[T, 360]``
    """
    salience = _checked(salience)
    return f0_around(salience, _centres(salience, viterbi), threshold)


def f0_around(salience: np.ndarray, centres: np.ndarray, threshold: float = 0.03) -> np.ndarray:
    """Like :func:`to_f0`, where the bins ``centres [T]`` that the averages are taken around are known."""
    cents, _ = _average(_checked(salience), centres)
    return np.where(salience.max(axis=1, initial=0) >= threshold, cents_to_hz(cents), 0.0)


def to_cents(salience: np.ndarray, threshold: float = 0.03, viterbi: bool = False) -> np.ndarray:
    """Like :func:`to_f0` in cents, with the rule of the originals' evaluation for what is sung.

    That is voiced whose highest salience *among those averaged* is *above* the threshold.
    """
    salience = _checked(salience)
    cents, highest = _average(salience, _centres(salience, viterbi))
    return np.where(highest > threshold, cents, 0.0)


def viterbi_path(salience: np.ndarray) -> np.ndarray:
    """The likeliest sequence of bins, ``[T, 360] -> [T]``.

    From one frame to the next a bin at a distance of d is likely in proportion to max(30 - d, 0); the first may be any.
    Frames without any salience say nothing.

    Raises:
        ValueError: no ``[T, 360]``
    """
    stream = PathStream()
    return np.concatenate([stream.push(salience), stream.finish()])


class PathStream:
    """:func:`viterbi_path` of a salience that comes in pieces: the same bins, as soon as nothing later can change them.

    That is where the likeliest ways to all bins of the last frame part; they share what lies before.

    Args:
        limit: frames that may wait, so that memory does not grow where nothing is likelier than anything else, as in
            silence: the first half of them then goes the way that is the likeliest so far. None is no limit
    """

    def __init__(self, limit: int | None = None):
        self._limit = limit
        near = _transitions()[0]
        self._padded = np.full(BINS + near.shape[1] - 1, -np.inf)
        self._value = self._padded[_FARTHEST - 1 : _FARTHEST - 1 + BINS]  # of the likeliest way to each bin
        self._windows = np.lib.stride_tricks.sliding_window_view(self._padded, near.shape[1])  # [to, from near by]
        self._came_from = np.zeros((0, BINS), np.int16)  # of each frame that is not settled: the bin before each bin
        self._begun = False

    def push(self, salience: np.ndarray) -> np.ndarray:
        """Takes the next frames ``[t, 360]``; returns the bins of those that are settled, earlier ones first.

        Raises:
            ValueError: no ``[t, 360]``
        """
        salience = _checked(salience)
        sums = salience.sum(axis=1, keepdims=True)
        share = np.where(sums > 0, salience / np.where(sums > 0, sums, 1), np.float32(1 / BINS))
        observed = np.log(share + _least())
        came_from = np.empty((len(salience), BINS), np.int16)
        for step, frame in enumerate(observed):
            came_from[step] = self._step(frame)
        self._came_from = np.concatenate([self._came_from, came_from])
        ways = np.arange(BINS)
        for step in range(len(self._came_from) - 1, 0, -1):
            ways = np.unique(self._came_from[step, ways])
            if len(ways) == 1:
                return self._settle(self._way(step - 1, int(ways[0])))
        if self._limit is not None and len(self._came_from) > self._limit:
            return self._settle(self._likeliest()[: -self._limit // 2])
        return np.zeros(0, np.int64)

    def finish(self) -> np.ndarray:
        """The bins of all other frames: those of the likeliest way to the last one."""
        if not len(self._came_from):
            return np.zeros(0, np.int64)
        return self._settle(self._likeliest())

    def _step(self, observed: np.ndarray) -> np.ndarray:
        """Goes on to the next frame; returns where each of its bins was reached from."""
        if not self._begun:
            self._begun = True
            self._value[:] = observed + np.log(1.0 / BINS + _least())
            return np.arange(BINS)
        near, far = _transitions()
        inner = np.arange(BINS)
        scores = self._windows + near
        best = scores.argmax(axis=1)
        highest, origin = scores[inner, best], best + inner - (_FARTHEST - 1)
        farthest = int(self._value.argmax())  # all leaps are as unlikely as each other
        leaps = self._value[farthest] + far
        leap = (leaps > highest) | ((leaps == highest) & (farthest < origin))
        self._value[:] = observed + np.where(leap, leaps, highest)
        return np.where(leap, farthest, origin)

    def _likeliest(self) -> np.ndarray:
        return self._way(len(self._came_from) - 1, int(self._value.argmax()))

    def _way(self, last: int, bin_there: int) -> np.ndarray:
        """The way that leads to a bin of frame ``last``, counted from the first that is not settled."""
        path = np.empty(last + 1, np.int64)
        path[last] = bin_there
        for step in range(last, 0, -1):
            path[step - 1] = self._came_from[step, path[step]]
        return path

    def _settle(self, path: np.ndarray) -> np.ndarray:
        self._came_from = self._came_from[len(path) :].copy()
        return path


@functools.cache
def _transitions() -> tuple[np.ndarray, float]:
    """Logarithms of the transitions ``[to, from]``, where from counts bins that are near, and of all others."""
    offsets = np.arange(1 - _FARTHEST, _FARTHEST)
    origin = np.arange(BINS)[:, None] + offsets
    likely = np.maximum(_FARTHEST - np.abs(np.subtract.outer(np.arange(BINS), np.arange(BINS))), 0).sum(axis=1)
    inside = (origin >= 0) & (origin < BINS)
    near = (_FARTHEST - np.abs(offsets)) / likely[np.clip(origin, 0, BINS - 1)]
    return np.where(inside, np.log(near + _least()), -np.inf), float(np.log(_least()))


def _least() -> np.float32:
    """What librosa adds to probabilities so that they have logarithms."""
    return np.finfo(np.float32).tiny


def _checked(salience: np.ndarray) -> np.ndarray:
    salience = np.asarray(salience, np.float32)
    if salience.ndim != 2 or salience.shape[1] != BINS:
        raise ValueError(f"a salience is [frames, {BINS}], not {list(salience.shape)}")
    return salience


def _centres(salience: np.ndarray, viterbi: bool) -> np.ndarray:
    return viterbi_path(salience) if viterbi else salience.argmax(axis=1)


def _average(salience: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cents around each centre, weighted by their salience (0 if there is none), and the highest of these."""
    bins = centres[:, None] + np.arange(-_REACH, _REACH + 1)
    inside = (bins >= 0) & (bins < BINS)
    weights = np.take_along_axis(salience, np.clip(bins, 0, BINS - 1), axis=1).astype(np.float64) * inside
    total = weights.sum(axis=1)
    cents = (weights * bin_to_cents(bins)).sum(axis=1) / np.where(total > 0, total, 1.0)
    return cents, weights.max(axis=1)
