"""From salience to pitch while more of it is coming: frame by frame, or along the likeliest path."""

from __future__ import annotations

import numpy as np

from dsp.salience import BINS, to_f0

_CORE, _MARGIN = 4096, 1024  # frames that a path is followed for at once, and those on each side that are thrown away


class FrameDecoder:
    """Each frame by itself: see :func:`dsp.salience.to_f0`."""

    def __init__(self, threshold: float):
        self._threshold = threshold

    def push(self, salience: np.ndarray) -> np.ndarray:
        """f0 ``[t]`` in Hz of ``[t, 360]``."""
        return to_f0(salience, self._threshold)

    def finish(self) -> np.ndarray:
        """Nothing is left."""
        return np.zeros(0)


class PathDecoder:
    """Along Viterbi's path, in windows that overlap so far that the paths through them have met: constant memory."""

    def __init__(self, threshold: float):
        self._threshold = threshold
        self._salience = np.zeros((0, BINS), np.float32)
        self._known = 0  # frames at its beginning whose pitch came out before

    def push(self, salience: np.ndarray) -> np.ndarray:
        """f0 of the frames that have enough of the future behind them."""
        self._salience = np.concatenate([self._salience, salience])
        pieces = [np.zeros(0)]
        while len(self._salience) >= self._known + _CORE + _MARGIN:
            pieces.append(self._decode(self._known + _CORE + _MARGIN)[self._known : self._known + _CORE])
            done = self._known + _CORE
            self._known = min(done, _MARGIN)
            self._salience = self._salience[done - self._known :].copy()
        return np.concatenate(pieces)

    def finish(self) -> np.ndarray:
        """The rest."""
        return self._decode(len(self._salience))[self._known :]

    def _decode(self, frames: int) -> np.ndarray:
        return to_f0(self._salience[:frames], self._threshold, viterbi=True)
