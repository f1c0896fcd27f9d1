"""Streams that wrap streams: other sample rates, shifted copies, several channel groups.

A stream takes a waveform in blocks (``push``) and gives what has become final; after the last block ``finish`` yields
the rest. As many samples come out as went in, only later. Whatever separates — masks, a Wiener filter, one day a
network on waveforms — is such a stream, and nothing here knows which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from dsp.blocks import Fifo, common, in_step
from dsp.resample import StreamResampler


class Stream(Protocol):
    """``[C, n]`` in, stems ``[S, C, m]`` out; all float32."""

    def push(self, block: np.ndarray) -> np.ndarray: ...

    def finish(self) -> Iterator[np.ndarray]: ...


class LockStep:
    """Several streams side by side; what comes out is equally long for all of them."""

    def __init__(self, streams: Sequence[Stream]):
        self._streams = streams
        self._ready = [Fifo() for _ in streams]

    def push(self, blocks: Sequence[np.ndarray]) -> list[np.ndarray]:
        """One block for each stream; returns one array ``[S, C, m]`` of each."""
        for stream, ready, block in zip(self._streams, self._ready, blocks, strict=True):
            ready.push(stream.push(block))
        return common(self._ready)

    def finish(self) -> Iterator[list[np.ndarray]]:
        """The rest."""
        return in_step([stream.finish() for stream in self._streams], self._ready)


class Resampled:
    """A stream that runs at another sample rate than its surroundings."""

    def __init__(self, stream: Stream, outer: int, inner: int, channels: int, sources: int):
        self._stream = stream
        self._in = StreamResampler(outer, inner, channels)
        self._out = StreamResampler(inner, outer, sources * channels)
        self._shape = (sources, channels)
        # there and back may round to a sample less than came in; what is too much is cut off at the end
        self._tail = np.zeros((channels, 2 + outer // inner), np.float32)
        self._missing = 0

    def push(self, block: np.ndarray) -> np.ndarray:
        """Block at the outer rate, stems at the outer rate."""
        self._missing += block.shape[-1]
        return self._back(self._stream.push(self._in.push(block)))

    def finish(self) -> Iterator[np.ndarray]:
        """The rest, exactly as long as the input."""
        yield self._back(self._stream.push(self._in.push(self._tail, last=True)))
        for stems in self._stream.finish():
            yield self._back(stems)
        yield self._back(np.zeros((*self._shape, 0), np.float32), last=True)

    def _back(self, stems: np.ndarray, last: bool = False) -> np.ndarray:
        sources, channels, samples = stems.shape
        out = self._out.push(stems.reshape(sources * channels, samples), last)[:, : self._missing]
        self._missing -= out.shape[-1]
        return out.reshape(sources, channels, out.shape[-1])


class Delayed:
    """A stream that sees its input ``offset`` samples late; the output is moved back."""

    def __init__(self, stream: Stream, offset: int):
        self._stream = stream
        self._offset = self._skip = offset

    def push(self, block: np.ndarray) -> np.ndarray:
        """Stems in step with the input, not with the delayed copy of it."""
        if self._offset:
            block = np.pad(block, [(0, 0), (self._offset, 0)])
            self._offset = 0
        return self._cut(self._stream.push(block))

    def finish(self) -> Iterator[np.ndarray]:
        """The rest."""
        for stems in self._stream.finish():
            yield self._cut(stems)

    def _cut(self, stems: np.ndarray) -> np.ndarray:
        dropped = min(self._skip, stems.shape[-1])
        self._skip -= dropped
        return stems[..., dropped:]


class Averaged:
    """Mean of several streams over the same input."""

    def __init__(self, streams: Sequence[Stream]):
        self._count = len(streams)
        self._all = LockStep(streams)

    def push(self, block: np.ndarray) -> np.ndarray:
        """The mean of what all streams have finished."""
        return self._mean(self._all.push([block] * self._count))

    def finish(self) -> Iterator[np.ndarray]:
        """The rest."""
        for blocks in self._all.finish():
            yield self._mean(blocks)

    def _mean(self, blocks: list[np.ndarray]) -> np.ndarray:
        total = blocks[0].copy()
        for block in blocks[1:]:
            total += block
        total *= np.float32(1 / self._count)
        return total


class SideBySide:
    """Several streams over the same input, each with stems of its own: all of them, one stream's after the other's."""

    def __init__(self, streams: Sequence[Stream]):
        self._count = len(streams)
        self._all = LockStep(streams)

    def push(self, block: np.ndarray) -> np.ndarray:
        """What all streams have finished."""
        return np.concatenate(self._all.push([block] * self._count))

    def finish(self) -> Iterator[np.ndarray]:
        """The rest."""
        return (np.concatenate(blocks) for blocks in self._all.finish())


class Chosen:
    """Some of the stems of a stream."""

    def __init__(self, stream: Stream, sources: Sequence[int]):
        self._stream, self._sources = stream, list(sources)

    def push(self, block: np.ndarray) -> np.ndarray:
        """Their stems."""
        return self._stream.push(block)[self._sources]

    def finish(self) -> Iterator[np.ndarray]:
        """The rest."""
        return (stems[self._sources] for stems in self._stream.finish())


def mixed(stems: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    """One of ``[S, C, n]``, or the sum of several: ``[C, n]``."""
    return stems[rows[0]] if len(rows) == 1 else stems[list(rows)].sum(axis=0)


class Chained:
    """The stems of a stream, and behind them what further streams make of some of them.

    Args:
        stream: where the stems come from
        links: for each further stream, which has one stem, the rows of the stems whose sum it takes
    """

    def __init__(self, stream: Stream, links: Sequence[tuple[Sequence[int], Stream]]):
        self._stream, self._rows = stream, [rows for rows, _ in links]
        self._further = LockStep([further for _, further in links])
        self._held = Fifo()  # stems for which the further streams still owe theirs

    def push(self, block: np.ndarray) -> np.ndarray:
        """The stems ``[S + links, C, m]`` of all that is final everywhere."""
        return self._passed(self._stream.push(block))

    def finish(self) -> Iterator[np.ndarray]:
        """The rest."""
        for stems in self._stream.finish():
            yield self._passed(stems)
        for parts in self._further.finish():
            yield self._joined(parts)

    def _passed(self, stems: np.ndarray) -> np.ndarray:
        self._held.push(stems)
        return self._joined(self._further.push([mixed(stems, rows) for rows in self._rows]))

    def _joined(self, parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([self._held.pop(parts[0].shape[-1]), *parts])


# Order of the speakers in WAV and FLAC files: FL FR FC LFE BL BR (BC) SL SR. A pair is what stereo mixing treats as one
# picture; centre and effects channel belong to no side.
_SPEAKERS = {
    3: ((0, 1), (2,)),
    4: ((0, 1), (2, 3)),
    5: ((0, 1), (2,), (3, 4)),
    6: ((0, 1), (2,), (3,), (4, 5)),
    7: ((0, 1), (2,), (3,), (4,), (5, 6)),
    8: ((0, 1), (2,), (3,), (4, 5), (6, 7)),
}


def channel_groups(channels: int, width: int) -> tuple[tuple[int, ...], ...]:
    """Which channels a network that takes ``width`` channels sees together.

    A stereo network gets the left and right speakers of each row as pairs, the centre and the low-frequency channel
    alone (5.1: FL+FR, FC, LFE, BL+BR); layouts without a convention are cut into consecutive pairs.
    """
    if width == 2 and channels in _SPEAKERS:
        return _SPEAKERS[channels]
    return tuple(tuple(range(i, min(i + width, channels))) for i in range(0, channels, width))


class ChannelGroups:
    """Any number of channels through streams of fixed width; a lone channel is duplicated and its copies averaged."""

    def __init__(self, streams: Sequence[Stream], groups: Sequence[Sequence[int]], width: int):
        self._groups, self._width = groups, width
        self._all = LockStep(streams)

    def push(self, block: np.ndarray) -> np.ndarray:
        """``[C, n]`` with every channel of the layout -> ``[S, C, m]``."""
        parts = [block[[*group, *group[-1:] * (self._width - len(group))]] for group in self._groups]
        return self._join(self._all.push(parts))

    def finish(self) -> Iterator[np.ndarray]:
        """The rest."""
        for parts in self._all.finish():
            yield self._join(parts)

    def _join(self, parts: list[np.ndarray]) -> np.ndarray:
        if len(self._groups) == 1 and len(self._groups[0]) == self._width:
            return parts[0]
        out = np.empty((len(parts[0]), sum(map(len, self._groups)), parts[0].shape[-1]), np.float32)
        for group, part in zip(self._groups, parts, strict=True):
            alone = len(group) == 1 and self._width > 1
            out[:, list(group)] = part.mean(axis=1, keepdims=True) if alone else part[:, : len(group)]
        return out
