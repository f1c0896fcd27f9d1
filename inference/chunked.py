"""A network on waveforms over a whole song: chunks with real context around them, cross-faded, shifted, averaged.

The rules are those of ``demucs.apply`` (PyPI demucs 4.1.0); the song may be an array or a file on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any, Protocol

import numpy as np

from dsp.overlap_add import OverlapAdd, chunks, transition_window
from inference.streams import in_step
from runtime.errors import UserError

MAX_SHIFT = 0.5  # s; the random delays of the shifts
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
class WaveNetwork:
    """A network as this module needs it.

    Attributes:
        run: computes
        sources, channels: how many
        sample_rate: Hz
        segment: natural length of a chunk, samples; a bag may choose another than the network's own
        valid_length: samples of a chunk -> samples to give the network
        fixed_length: whether it takes no more than ``segment`` samples
        name: for messages
    """

    run: Run
    sources: int
    channels: int
    sample_rate: int
    segment: int
    valid_length: Callable[[int], int]
    fixed_length: bool = False
    name: str = "the network"

    @classmethod
    def of(cls, model: Any, run: Run, seconds: float | None = None) -> WaveNetwork:
        """Of a network of the registry that eats waveforms, run by ``run`` on chunks of ``seconds`` or its own."""
        facts = model.description
        own = seconds is None or seconds == facts.segment / facts.sample_rate
        segment = facts.segment if own else int(facts.sample_rate * seconds)
        rest = (facts.channels, facts.sample_rate, segment, model.valid_length, facts.fixed_length, facts.name)
        return cls(run, len(facts.sources), *rest)


@dataclass(frozen=True)
class Chunking:
    """How a song is cut; the defaults are those of Demucs.

    Attributes:
        split: in chunks, or the whole song at once
        segment: s of a chunk; None is the network's own. A network of fixed length takes no more than that
        overlap: share of a chunk that overlaps the next, 0 … below 1
        power: of the triangle that chunks are cross-faded with, at least 1
        batch: chunks per call of the network
        jobs: calls at the same time, in threads
    """

    split: bool = True
    segment: float | None = None
    overlap: float = 0.25
    power: float = 1.0
    batch: int = 1
    jobs: int = 1

    def size(self, network: WaveNetwork) -> int:
        """Samples of a chunk; UserError if the network does not take so many."""
        samples = network.segment if self.segment is None else int(network.sample_rate * self.segment)
        if network.fixed_length and samples > network.segment:
            most = network.segment / network.sample_rate
            raise UserError(f"{network.name} takes segments of {most:g} s at most, not {self.segment:g} s")
        if samples < 1 or self.hop(samples) < 1:
            raise UserError(f"a segment of {samples} samples with an overlap of {self.overlap:g} leaves no step")
        return samples

    def hop(self, size: int) -> int:
        """Samples from chunk to chunk."""
        return int((1 - self.overlap) * size)


@dataclass(frozen=True)
class Member:
    """One network of a bag.

    Attributes:
        network: which
        weights: ``[S]``, of its estimates in the mean
        delays: samples; a pass over the song for each, delayed by so much
    """

    network: WaveNetwork
    weights: np.ndarray
    delays: Sequence[int] = field(default=(0,))


def draw_delays(generator: np.random.Generator, sample_rate: int, shifts: int) -> tuple[int, ...]:
    """Delays in samples of ``shifts`` passes; without shifts there is one pass without a delay."""
    longest = int(MAX_SHIFT * sample_rate)
    return tuple(generator.integers(0, longest, shifts, endpoint=True).tolist()) if shifts else (0,)


def separated(song: Song, members: Sequence[Member], how: Chunking) -> Iterator[np.ndarray]:
    """Estimates ``[B, S, C, n]`` of a song, block after block; together exactly as long as the song.

    The mean over the members, weighted for each source, of the mean over each member's delays. All passes run in step,
    so what is held does not depend on the length of the song (but for ``split=False``). Empty blocks come, too, after
    steps that finish nothing yet.
    """
    total = np.sum([member.weights for member in members], axis=0, dtype=np.float64)
    if not song.samples:
        return
    for member in members:  # all that can be wrong shows before the work
        check(song, member, how)
    means = [_mean([_pass(song, member.network, how, delay) for delay in member.delays]) for member in members]
    if len(members) == 1:  # x * w / w need not be x
        yield from means[0]
        return
    shares = [(member.weights / total).astype(np.float32)[:, None, None] for member in members]
    for blocks in in_step(means):
        yield _sum([block * share for block, share in zip(blocks, shares, strict=True)])


def check(song: Song, member: Member, how: Chunking) -> None:
    """UserError if ``how`` does not suit the network or, without a split, the song is too long for it."""
    network = member.network
    size = how.size(network)
    longest = song.samples + max(member.delays)
    if not how.split and network.fixed_length and longest > size:
        most = size / network.sample_rate
        raise UserError(f"{network.name} takes {most:g} s at once and no whole song: leave --no-split out")


def _mean(passes: Sequence[Iterator[np.ndarray]]) -> Iterator[np.ndarray]:
    if len(passes) == 1:
        yield from passes[0]
        return
    for blocks in in_step(passes):
        total = _sum(blocks)
        total /= np.float32(len(passes))
        yield total


def _sum(blocks: Sequence[np.ndarray]) -> np.ndarray:
    total = blocks[0].copy()
    for block in blocks[1:]:
        total += block
    return total


def _pass(song: Song, network: WaveNetwork, how: Chunking, delay: int) -> Iterator[np.ndarray]:
    """One pass over the song as if it began ``delay`` samples later; the estimates are moved back."""
    length = song.samples + delay
    size = how.size(network) if how.split else length
    hop = how.hop(size) if how.split else length
    fits = network.fixed_length and how.segment is not None  # such chunks are all brought to the segment's length
    places = [
        (start - delay, count, how.size(network) if fits else network.valid_length(count))
        for start, count in chunks(length, size, hop)
    ]
    adder = OverlapAdd(transition_window(size, how.power), hop)
    skip = delay
    for estimate in _estimates(song, network.run, places, how):
        block = adder.push(estimate)
        dropped = min(skip, block.shape[-1])
        skip -= dropped
        yield block[..., dropped:]
    yield adder.flush()


def _estimates(song: Song, run: Run, places: Sequence[tuple[int, int, int]], how: Chunking) -> Iterator[np.ndarray]:
    """Estimates of the chunks ``(start, samples, samples to give the network)``, in order."""

    with ExitStack() as stack:
        each = map if how.jobs == 1 else stack.enter_context(ThreadPoolExecutor(how.jobs, "separate")).map
        waiting = _batches(places, how.batch)
        while batches := list(islice(waiting, how.jobs)):
            inputs = [np.concatenate([_centred(song, *place) for place in batch]) for batch in batches]
            for batch, outputs in zip(batches, each(run, inputs), strict=True):
                for (_, count, _), estimate in zip(batch, np.split(outputs, len(batch)), strict=True):
                    yield _trimmed(estimate, count)


def _batches(places: Sequence[tuple[int, int, int]], most: int) -> Iterator[list[tuple[int, int, int]]]:
    """Groups of at most ``most`` neighbours that the network gets in the same length."""
    for _, same in groupby(places, key=lambda place: place[2]):
        while batch := list(islice(same, most)):
            yield batch


def _centred(song: Song, start: int, count: int, target: int) -> np.ndarray:
    """A chunk in the middle of ``target`` samples of the song: what is around it is real as far as the song goes."""
    begin = start - (target - count) // 2
    return song.read(begin, begin + target)


def _trimmed(estimate: np.ndarray, count: int) -> np.ndarray:
    """The middle ``count`` samples."""
    begin = (estimate.shape[-1] - count) // 2
    return estimate[..., begin : begin + count]
