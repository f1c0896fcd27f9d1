"""Streaming with networks that take overlapping chunks of a stream, each at its own level, such as BandSplitRNN.

Nothing waits: a sample is final when all chunks that contain it have been computed. The grid of chunks begins
``size - hop`` samples before the song, so that its first and last samples are in as many chunks as all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from dsp.chunks import Run
from dsp.overlap_add import OverlapAdd, rounded_window

NORMALISED, REFERENCE = "normalised", "reference"
_SHAPES = ("hann", "hamming", "blackman", "bartlett")  # what the reference's setting may name, of torch's windows
WINDOWS = (NORMALISED, REFERENCE, *(f"{REFERENCE}:{shape}" for shape in _SHAPES))


@dataclass(frozen=True)
class Windowing:
    """How a stream is cut, and how the chunks become one again.

    ``normalised`` divides by the sum of the windows, so that a network that changes nothing changes nothing. Its window
    is a squared sine, which hides where chunks begin and end: with a network of random weights on music, the estimate
    strays from that of a hop eight times shorter by at most 4 times as much from sample to sample there as elsewhere,
    with equal weights by 10 times as much. A triangle is as good.

    ``reference`` is what amanteur/BandSplitRNN-Pytorch does: a sum of chunks that are divided by ``size / hop``. That
    is no whole number, so the level rises and falls with every hop (by -1.0 to +0.6 dB for its 5.6 chunks).
    ``reference:hann`` (and other shapes) is the same program with a window set: the sum of windowed chunks as it is,
    which is louder than the song where hops are short.

    Attributes:
        size: samples of a chunk
        hop: samples from chunk to chunk, at most ``size``
        window: one of `WINDOWS`
        batch: chunks a call of the network
        jobs: calls at the same time, in threads
    """

    size: int
    hop: int
    window: str = NORMALISED
    batch: int = 1
    jobs: int = 1

    @cached_property
    def weights(self) -> np.ndarray:
        """``[size]`` float32."""
        if self.window == NORMALISED:
            return rounded_window(self.size)
        if self.window == REFERENCE:
            return np.full(self.size, self.hop / self.size, np.float32)
        from scipy.signal import get_window

        return get_window(self.window.partition(":")[2], self.size).astype(np.float32)  # periodic, as torch's are

    def adder(self) -> OverlapAdd:
        """For one stream."""
        return OverlapAdd(self.weights, self.hop, mean=self.window == NORMALISED)

    def stream(self, run: Run, sources: int, channels: int) -> WindowedStream:
        """Separation of one song; arguments as for `WindowedStream`."""
        return WindowedStream(run, sources, channels, self)


class WindowedStream:
    """Separation by one network: ``[C, n]`` in, stems ``[S, C, m]`` out, as soon as they are final.

    Which chunks are computed together depends on the song's beginning alone, so blocks of any sizes give the same bits.
    Memory is a chunk, and those that wait for one call of the network.

    Args:
        run: computes ``[B, C, size]`` -> ``[B, S, C, size]``
        sources, channels: how many
        how: chunks, window, batches
    """

    def __init__(self, run: Run, sources: int, channels: int, how: Windowing):
        self._run, self._how, self._adder = run, how, how.adder()
        self._nothing = np.zeros((sources, channels, 0), np.float32)
        self._held = np.zeros((channels, how.size - how.hop), np.float32)  # from the next chunk's beginning on
        self._next = self._place = how.hop - how.size  # where the next chunk begins, and what comes out next
        self._samples = 0
        self._waiting: list[np.ndarray] = []

    def push(self, block: np.ndarray) -> np.ndarray:
        """What is final now."""
        self._samples += block.shape[-1]
        self._held = np.concatenate([self._held, block], axis=1)
        return np.concatenate([self._nothing, *self._computed()], axis=-1)

    def finish(self) -> Iterator[np.ndarray]:
        """The rest; together as long as what was pushed."""
        chunks = -(-(self._samples - self._next) // self._how.hop)  # all that begin before the song ends
        if self._samples and chunks > 0:
            needed = (chunks - 1) * self._how.hop + self._how.size
            self._held = np.pad(self._held, [(0, 0), (0, needed - self._held.shape[1])])
        yield from chain(self._computed(), self._estimates())

    def _computed(self) -> Iterator[np.ndarray]:
        """Cuts all chunks that are complete, and computes them group after group."""
        how = self._how
        while self._held.shape[1] >= how.size:
            self._waiting.append(self._held[:, : how.size].copy())
            self._held, self._next = self._held[:, how.hop :], self._next + how.hop
            if len(self._waiting) == how.batch * how.jobs:
                yield from self._estimates()

    def _estimates(self) -> Iterator[np.ndarray]:
        """What the chunks that wait make final, without what lies outside of the song."""
        batch = self._how.batch
        groups = [np.stack(self._waiting[i : i + batch]) for i in range(0, len(self._waiting), batch)]
        self._waiting = []
        for chunk in chain.from_iterable(together(self._run, groups, self._how.jobs)):
            final = self._adder.push(chunk)
            start, self._place = self._place, self._place + final.shape[-1]
            yield final[..., max(0, -start) : max(0, self._samples - start)]


def together(run: Run, groups: Sequence[np.ndarray], jobs: int) -> list[np.ndarray]:
    """What ``run`` makes of each of the groups, at most ``jobs`` of them at the same time."""
    if len(groups) < 2:
        return [run(group) for group in groups]
    with ThreadPoolExecutor(jobs, "separate") as pool:
        return list(pool.map(run, groups))
