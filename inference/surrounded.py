"""Streaming with networks whose chunks are only right in the middle, such as Apollo.

What such a network gives for a sample depends on what is around it, up to a known distance. So the ends of a chunk are
thrown away, as many samples as that, and what is left of the chunks is cross-faded. The song's own beginning and end
are those of the first and the last chunk: all of it is as if the song had been one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from dsp.chunks import Run
from dsp.overlap_add import OverlapAdd, inner_window
from inference.windowed import together


@dataclass(frozen=True)
class Surrounded:
    """How a stream is cut.

    Attributes:
        size: samples of a chunk
        hop: samples from chunk to chunk; no more than ``size`` without both margins
        margin: samples at both ends of a chunk that are thrown away
        unit: what the length of the last chunk is rounded up to; ``size`` is a multiple of it
        batch: chunks a call of the network
        jobs: calls at the same time, in threads
    """

    size: int
    hop: int
    margin: int
    unit: int = 1
    batch: int = 1
    jobs: int = 1

    @cached_property
    def weights(self) -> np.ndarray:
        """Of the chunks within the song, ``[size]`` float32."""
        return inner_window(self.size, self.hop, self.margin)

    def window(self, first: bool, last: bool) -> np.ndarray:
        """The weights of a chunk; those at the ends of the song count to their ends."""
        weights, half = self.weights.copy(), self.size // 2
        if first:
            weights[:half] = 1
        if last:
            weights[half:] = 1
        return weights

    def stream(self, run: Run, sources: int, channels: int) -> SurroundedStream:
        """Separation of one song; arguments as for `SurroundedStream`."""
        return SurroundedStream(run, sources, channels, self)


class SurroundedStream:
    """Separation by one network: ``[C, n]`` in, stems ``[S, C, m]`` out, as soon as they are final.

    Which chunks are computed together depends on the song alone, so blocks of any sizes give the same bits. Memory is a
    chunk, and those that wait for one call of the network.

    Args:
        run: computes ``[B, C, n]`` -> ``[B, S, C, n]`` for chunks, and for a shorter last one
        sources, channels: how many
        how: chunks and batches
    """

    def __init__(self, run: Run, sources: int, channels: int, how: Surrounded):
        self._run, self._how, self._adder = run, how, OverlapAdd(how.weights, how.hop)
        self._nothing = np.zeros((sources, channels, 0), np.float32)
        self._held = np.zeros((channels, 0), np.float32)  # from the next chunk's beginning on
        self._first = True  # whether the next chunk to be added is the first
        self._missing = 0  # samples that have come in, but not out
        self._waiting: list[np.ndarray] = []

    def push(self, block: np.ndarray) -> np.ndarray:
        """What is final now."""
        self._missing += block.shape[-1]
        self._held = np.concatenate([self._held, block], axis=1)
        how, final = self._how, [self._nothing]
        while self._held.shape[1] > how.size:  # a chunk that reaches the end may be the last
            self._waiting.append(self._held[:, : how.size].copy())
            self._held = self._held[:, how.hop :]
            if len(self._waiting) == how.batch * how.jobs:
                final += self._estimates()
        return np.concatenate(final, axis=-1)

    def finish(self) -> Iterator[np.ndarray]:
        """The rest; together as long as what was pushed."""
        yield from self._estimates()
        if count := self._held.shape[1]:
            self._waiting = [np.pad(self._held, [(0, 0), (0, -count % self._how.unit)])]
            yield from self._estimates(last=True)
            yield self._adder.flush()[..., : self._missing]

    def _estimates(self, last: bool = False) -> Iterator[np.ndarray]:
        """What the chunks that wait make final."""
        batch = self._how.batch
        groups = [np.stack(self._waiting[i : i + batch]) for i in range(0, len(self._waiting), batch)]
        self._waiting = []
        for chunk in chain.from_iterable(together(self._run, groups, self._how.jobs)):
            final = self._adder.push(chunk, self._how.window(self._first, last))[..., : self._missing]
            self._first, self._missing = False, self._missing - final.shape[-1]
            yield final
