"""The two ways in which Apollo's originals cut a song that is in memory, kept for comparison with what they give.

JusperLee/Apollo cross-fades the ends of chunks in straight lines. Its training fork lets chunks overlap several times;
which of their ends are faded is settled for a whole batch. So nothing is final before the song is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dsp import chunks
from inference.windowed import REFERENCE
from runtime.errors import UserError

Run = Callable[[np.ndarray], np.ndarray]
"""Chunks ``[B, C, N]`` float32 -> restored ``[B, C, N]`` float32."""


OVERLAPPED, CROSS_FADED = REFERENCE, f"{REFERENCE}:linear"
WAYS = {OVERLAPPED: 0.75, CROSS_FADED: 0.1}  # with the share of a chunk that overlaps the next there


def cross_faded(run: Run, mix: np.ndarray, size: int, overlap: int, batch: int = 1) -> np.ndarray:
    """As JusperLee/Apollo: ``[C, N] -> [C, N]``.

    Args:
        run: the network; the last chunk is followed by zeros
        mix: the song; one no longer than a chunk is restored as it is
        size: samples of a chunk
        overlap: samples that a chunk has in common with the next, at most half of ``size``
        batch: chunks a call
    """
    length = mix.shape[1]
    if length <= size:
        return run(mix[None])[0]
    hop = size - overlap
    starts = range(0, length - size + hop, hop)
    added = _Sum(mix.shape)
    for first, group in _groups(starts, batch):
        for place, chunk in enumerate(run(_cut(mix, group, size)), first):
            count = min(size, length - starts[place])
            weights, ramp = np.ones(count, np.float32), np.linspace(0, 1, min(overlap, count), dtype=np.float32)
            if place > 0:
                weights[: len(ramp)] = ramp
            if place < len(starts) - 1:
                weights[count - len(ramp) :] = ramp[::-1]
            added.put(starts[place], chunk[:, :count], weights)
    return added.mean()


def overlapped(run: Run, mix: np.ndarray, size: int, overlap: int, batch: int = 1) -> np.ndarray:
    """As the training fork: ``[C, N] -> [C, N]``.

    The song is mirrored at both ends, if it is long enough. Chunks fade over a tenth of their length: at both ends, but
    for the first batch if it is one chunk, and the last batch. What no chunk weighs is silent.

    Args:
        run: the network
        mix: the song
        size: samples of a chunk
        overlap: chunks that each sample is in
        batch: chunks a call
    """
    hop, length = size // overlap, mix.shape[1]
    border = size - hop
    if mirrored := 0 < 2 * border < length:
        mix = np.pad(mix, ((0, 0), (border, border)), "reflect")
    fade = size // 10
    rising = np.ones(size, np.float32)
    rising[:fade] = np.linspace(0, 1, fade, dtype=np.float32)
    starts, added = range(0, mix.shape[1], hop), _Sum(mix.shape)
    for first, group in _groups(starts, batch):
        weights = rising * rising[::-1]
        if group[-1] == 0:
            weights = rising[::-1]
        elif first + len(group) == len(starts):
            weights = rising
        for start, chunk in zip(group, run(_cut(mix, group, size, reflect=True)), strict=True):
            count = min(size, mix.shape[1] - start)
            added.put(start, chunk[:, :count], weights[:count])
    restored = added.mean()
    return restored[:, border:-border] if mirrored else restored


@dataclass(frozen=True)
class Original:
    """How a song is cut in one of these ways.

    Attributes:
        way: one of `WAYS`
        size: samples of a chunk
        share: of a chunk that overlaps the next, 0 … below 1
        batch: chunks a call of the network
    """

    way: str
    size: int
    share: float
    batch: int = 1

    def __post_init__(self) -> None:
        if self.way == CROSS_FADED and not 0 <= self.share <= 0.5:
            raise UserError(f"chunks that are cross-faded overlap by half at most, not by {self.share:g} (--overlap)")

    def restored(self, run: Run, mix: np.ndarray) -> np.ndarray:
        """``[C, N] -> [C, N]``."""
        if self.way == CROSS_FADED:
            return cross_faded(run, mix, self.size, round(self.share * self.size), self.batch)
        return overlapped(run, mix, self.size, round(1 / (1 - self.share)), self.batch)

    def stream(self, run: chunks.Run, sources: int, channels: int) -> HeldStream:
        """Restoration of one song by a network with one source."""
        del sources
        return HeldStream(lambda mix: self.restored(lambda batch: run(batch).squeeze(1), mix), channels)


class HeldStream:
    """A stream of one stem that keeps the song in memory until it is over; ``restore`` is ``[C, N] -> [C, N]``."""

    def __init__(self, restore: Run, channels: int):
        self._restore = restore
        self._blocks = [np.zeros((channels, 0), np.float32)]

    def push(self, block: np.ndarray) -> np.ndarray:
        """Nothing comes out yet."""
        self._blocks.append(block.copy())
        return self._blocks[0][None]

    def finish(self) -> Iterator[np.ndarray]:
        """All of it, ``[1, C, N]``."""
        song = np.concatenate(self._blocks, axis=1)
        yield self._restore(song)[None] if song.shape[1] else song[None]


def _groups(starts: Sequence[int], batch: int) -> Iterator[tuple[int, Sequence[int]]]:
    """The starts of each batch, and the number of the first of them."""
    for first in range(0, len(starts), batch):
        yield first, starts[first : first + batch]


def _cut(mix: np.ndarray, starts: Sequence[int], size: int, reflect: bool = False) -> np.ndarray:
    """Chunks ``[B, C, size]``; those that leave the song go on with zeros, or, if ``reflect`` and more than half of one
    is there, mirrored."""
    chunks = []
    for start in starts:
        chunk = mix[:, start : start + size]
        mode = "reflect" if reflect and chunk.shape[1] > size // 2 + 1 else "constant"
        chunks.append(np.pad(chunk, ((0, 0), (0, size - chunk.shape[1])), mode))
    return np.stack(chunks)


class _Sum:
    """Weighted chunks, added up, and what they weigh."""

    def __init__(self, shape: tuple[int, int]):
        self._values, self._weights = np.zeros(shape, np.float32), np.zeros(shape[1], np.float32)

    def put(self, start: int, chunk: np.ndarray, weights: np.ndarray) -> None:
        """One more chunk ``[C, n]``."""
        self._values[:, start : start + len(weights)] += chunk * weights
        self._weights[start : start + len(weights)] += weights

    def mean(self) -> np.ndarray:
        """``[C, N]``, zero where nothing has a weight."""
        return np.divide(self._values, self._weights, out=np.zeros_like(self._values), where=self._weights > 0)
