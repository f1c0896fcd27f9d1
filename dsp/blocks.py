"""Blocks of a waveform: joined along time and cut anew, and several streams of them side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np


class Fifo:
    """Blocks ``[..., n]`` joined along time and taken out in other sizes."""

    def __init__(self):
        self._blocks: deque[np.ndarray] = deque()
        self._nothing: np.ndarray | None = None
        self.samples = 0

    @property
    def started(self) -> bool:
        """Whether there was any block, be it an empty one; before that the axes are not known."""
        return self._nothing is not None

    def push(self, block: np.ndarray) -> None:
        """Append a block, which must not change afterwards."""
        if self._nothing is None:
            self._nothing = block[..., :0].copy()
        if block.shape[-1]:
            self._blocks.append(block)
            self.samples += block.shape[-1]

    def pop(self, samples: int) -> np.ndarray:
        """The oldest ``samples`` samples, which must be there."""
        self.samples -= samples
        taken = []
        while samples:
            block = self._blocks.popleft()
            if block.shape[-1] > samples:
                self._blocks.appendleft(block[..., samples:])
                block = block[..., :samples]
            taken.append(block)
            samples -= block.shape[-1]
        return taken[0] if len(taken) == 1 else np.concatenate(taken or [self._nothing], axis=-1)


def common(ready: Sequence[Fifo]) -> list[np.ndarray]:
    """What all of them have, taken out of each."""
    samples = min(fifo.samples for fifo in ready)
    return [fifo.pop(samples) for fifo in ready]


def in_step(rests: Sequence[Iterator[np.ndarray]], ready: Sequence[Fifo] | None = None) -> Iterator[list[np.ndarray]]:
    """Iterators over blocks ``[..., n]`` of any sizes, side by side: what comes out is equally long for all of them.

    Always asks the one that is behind, so that no other has to be buffered. ``ready`` holds what each of them gave
    before. An empty block tells that there was progress, though not for all.
    """
    ready = [Fifo() for _ in rests] if ready is None else ready
    running = set(range(len(rests)))
    while running:
        behind = min(running, key=lambda i: ready[i].samples)
        block = next(rests[behind], None)
        if block is None:
            running.discard(behind)
        else:
            ready[behind].push(block)
            if all(fifo.started for fifo in ready):
                yield common(ready)


def mean(streams: Sequence[Iterator[np.ndarray]]) -> Iterator[np.ndarray]:
    """Block after block the mean of iterators over equally long streams of blocks ``[..., n]``; one passes as it is."""
    if len(streams) == 1:
        yield from streams[0]
        return
    for blocks in in_step(streams):
        total = added(blocks)
        total /= np.float32(len(streams))
        yield total


def added(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of equally long blocks, added in their order."""
    total = blocks[0].copy()
    for block in blocks[1:]:
        total += block
    return total
