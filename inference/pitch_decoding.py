"""From salience to pitch while more of it is coming: frame by frame, or along the likeliest path."""

from __future__ import annotations

import numpy as np

from dsp.salience import BINS, PathStream, f0_around, to_f0

_WAITING = 8192  # frames at most whose path is still open: 17 MiB


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
    """Along Viterbi's path: a frame comes out as soon as nothing that follows can change it, or it has waited long."""

    def __init__(self, threshold: float):
        self._threshold = threshold
        self._path = PathStream(_WAITING)
        self._waiting = np.zeros((0, BINS), np.float32)

    def push(self, salience: np.ndarray) -> np.ndarray:
        """f0 of the frames that are settled."""
        self._waiting = np.concatenate([self._waiting, salience])
        return self._decode(self._path.push(salience))

    def finish(self) -> np.ndarray:
        """The rest."""
        return self._decode(self._path.finish())

    def _decode(self, centres: np.ndarray) -> np.ndarray:
        f0 = f0_around(self._waiting[: len(centres)], centres, self._threshold)
        self._waiting = self._waiting[len(centres) :].copy()
        return f0
