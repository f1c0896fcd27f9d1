"""Streaming with a network on waveforms: the song is normalised as a whole, so it waits on disk until it is over.

Normalisation as in ``demucs.api``: by mean and deviation of the mono mix, taken back afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from dsp.chunks import silence_around
from inference.chunked import Member, Splitting, separated
from inference.spool import Spool

_EPSILON = 1e-8  # what the original adds to the deviation


class Level:
    """Mean and deviation of a signal that comes in blocks (merged as by Chan, Golub and LeVeque, 1979)."""

    def __init__(self):
        self.samples = 0
        self.mean = 0.0
        self._squares = 0.0  # sum of the squared distances from the mean

    def push(self, block: np.ndarray) -> None:
        """One more block ``[n]``."""
        count = len(block)
        if not count:
            return
        block = block.astype(np.float64)
        mean = block.mean()
        apart, total = mean - self.mean, self.samples + count
        self._squares += ((block - mean) ** 2).sum() + apart**2 * self.samples * count / total
        self.mean += apart * count / total
        self.samples = total

    @property
    def deviation(self) -> float:
        """Of the sample, as torch computes it (n - 1); 0 for fewer than two samples."""
        return math.sqrt(self._squares / (self.samples - 1)) if self.samples > 1 else 0.0


class SpooledSong:
    """A song on disk, normalised as it is read; see `dsp.chunks.Song`."""

    def __init__(self, spool: Spool, mean: float, scale: float):
        self._spool, self._mean, self._scale = spool, np.float32(mean), np.float32(scale)
        self.samples = spool.rows

    def read(self, start: int, stop: int) -> np.ndarray:
        """``[1, C, stop - start]``; what lies outside of the song is silent after the normalisation."""
        first, last = (min(max(0, place), self.samples) for place in (start, stop))
        part = self._spool.read_at(first, last - first).T
        return silence_around((part - self._mean) / self._scale, start, stop)[None]


class WaveStream:
    """Separation by networks on waveforms: ``[C, n]`` in, stems ``[S, C, m]`` out once the song is over.

    Memory does not depend on the length of the song (but for ``split=False``).

    Args:
        members: networks, weights and delays
        how: chunks and their overlap
        folder: where the song waits
    """

    def __init__(self, members: Sequence[Member], how: Splitting, folder: Path | None = None):
        self._members, self._how, self._folder = members, how, folder
        network = members[0].network
        self._spool = Spool((network.channels,), folder)
        self._level = Level()
        self._nothing = np.zeros((network.sources, network.channels, 0), np.float32)

    def push(self, block: np.ndarray) -> np.ndarray:
        """Nothing comes out yet."""
        self._spool.write(block.T)
        self._level.push(block.mean(axis=0))
        return self._nothing

    def finish(self) -> Iterator[np.ndarray]:
        """All stems, block after block; together as long as what was pushed."""
        mean, scale = np.float32(self._level.mean), np.float32(self._level.deviation + _EPSILON)
        with closing(self._spool):
            for (block,) in separated(SpooledSong(self._spool, mean, scale), self._members, self._how):
                block *= scale
                block += mean
                yield block
