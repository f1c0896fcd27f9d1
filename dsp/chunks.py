"""Something that takes a song in chunks: with their real surroundings, cross-faded, over delayed copies, averaged.

The rules are those of ``demucs.apply`` (PyPI demucs 4.1.0) for one network; the song may be an array or a file on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, islice
from typing import NamedTuple, Protocol

import numpy as np

from dsp.blocks import mean
from dsp.overlap_add import OverlapAdd, chunks, transition_window

MAX_SHIFT = 0.5  # s; the random delays
Run = Callable[[np.ndarray], np.ndarray]
"""Mixtures ``[B, C, N]`` float32 -> estimates ``[B, S, C, N]`` float32."""


class Song(Protocol):
    """A mixture of ``samples`` samples that can be read anywhere, by one thread."""

    samples: int

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples ``[B, C, stop - start]`` float32; zeros before 0 and from ``samples`` on."""
        ...


class ArraySong:
    """A song ``[B, C, N]`` in memory."""

    def __init__(self, mix: np.ndarray):
        self._mix = np.asarray(mix, np.float32)
        self.samples = mix.shape[-1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """See `Song`."""
        return silence_around(self._mix[..., max(0, start) : max(0, stop)], start, stop)


def silence_around(part: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Zeros where the excerpt ``start … stop`` of a song leaves it; ``part [..., n]`` is what lies inside."""
    before = min(max(0, -start), stop - start)
    after = stop - start - before - part.shape[-1]
    return np.pad(part, [(0, 0)] * (part.ndim - 1) + [(before, after)]) if before or after else part


@dataclass(frozen=True)
class Chunking:
    """How a song is cut.

    Attributes:
        size: samples of a chunk; None is the whole song at once
        valid_length: samples of a chunk -> samples to take with it, not fewer: what is around it
        overlap: share of a chunk that overlaps the next, 0 … below 1
        power: of the triangle that chunks are cross-faded with, at least 1
        batch: chunks a call
        jobs: calls at the same time, in threads
    """

    size: int | None
    valid_length: Callable[[int], int]
    overlap: float = 0.0
    power: float = 1.0
    batch: int = 1
    jobs: int = 1

    def places(self, length: int) -> tuple[int, int, list[Place]]:
        """Samples of a chunk, from chunk to chunk, and the chunks of a song of so many samples."""
        size, hop = (length, length) if self.size is None else (self.size, hop_of(self.size, self.overlap))
        return size, hop, [Place(start, count, self.valid_length(count)) for start, count in chunks(length, size, hop)]


class Place(NamedTuple):
    """A chunk: its first sample, its samples, and how many it is brought to with what is around it."""

    start: int
    count: int
    target: int


def hop_of(size: int, overlap: float) -> int:
    """Samples from chunk to chunk."""
    return int((1 - overlap) * size)


def draw_delays(generator: np.random.Generator, sample_rate: int, shifts: int) -> tuple[int, ...]:
    """Delays in samples of ``shifts`` passes; without shifts there is one pass without a delay."""
    longest = int(MAX_SHIFT * sample_rate)
    return tuple(generator.integers(0, longest, shifts, endpoint=True).tolist()) if shifts else (0,)


def separated(song: Song, run: Run, how: Chunking, delays: Sequence[int] = (0,)) -> Iterator[np.ndarray]:
    """Estimates ``[B, S, C, n]`` of a song, block after block; together exactly as long as the song.

    The mean over passes, of which each sees the song later by one of the ``delays`` (samples). All passes run in step,
    so what is held does not depend on the length of the song (but for a chunk that is the whole song). Empty blocks
    come, too, after steps that finish nothing yet.
    """
    return mean([_pass(song, run, how, delay) for delay in delays] if song.samples else [iter(())])


def _pass(song: Song, run: Run, how: Chunking, delay: int) -> Iterator[np.ndarray]:
    """One pass over the song as if it began ``delay`` samples later; the estimates are moved back."""
    size, hop, places = how.places(song.samples + delay)
    places = [place._replace(start=place.start - delay) for place in places]
    adder, skip = OverlapAdd(transition_window(size, how.power), hop), delay
    for estimate in _estimates(song, run, places, how):
        block = adder.push(estimate)
        dropped = min(skip, block.shape[-1])
        skip -= dropped
        yield block[..., dropped:]
    yield adder.flush()


def _estimates(song: Song, run: Run, places: Sequence[Place], how: Chunking) -> Iterator[np.ndarray]:
    """Estimates of the chunks, in order."""
    with ExitStack() as stack:
        each = map if how.jobs == 1 else stack.enter_context(ThreadPoolExecutor(how.jobs, "separate")).map
        waiting = _batches(places, how.batch)
        while batches := list(islice(waiting, how.jobs)):
            inputs = [np.concatenate([centred(song, *place) for place in batch]) for batch in batches]
            for batch, outputs in zip(batches, each(run, inputs), strict=True):
                for place, estimate in zip(batch, np.split(outputs, len(batch)), strict=True):
                    yield _trimmed(estimate, place.count)


def _batches(places: Sequence[Place], most: int) -> Iterator[list[Place]]:
    """Groups of at most ``most`` neighbours that are brought to the same length."""
    for _, same in groupby(places, key=lambda place: place.target):
        while batch := list(islice(same, most)):
            yield batch


def centred(song: Song, start: int, count: int, target: int) -> np.ndarray:
    """A chunk in the middle of ``target`` samples of the song: what is around it is real as far as the song goes."""
    begin = start - (target - count) // 2
    return song.read(begin, begin + target)


def _trimmed(estimate: np.ndarray, count: int) -> np.ndarray:
    """The middle ``count`` samples."""
    begin = (estimate.shape[-1] - count) // 2
    return estimate[..., begin : begin + count]
