"""Networks on waveforms, alone or in a bag, over a whole song; `dsp.chunks` has the rules for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dsp.blocks import added, in_step
from dsp.chunks import Chunking, Run, Song, hop_of
from dsp.chunks import separated as separated_by_one
from runtime.errors import UserError


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
        fills_segments: whether chunks of a segment that was asked for are all brought to its length
        name: for messages
    """

    run: Run
    sources: int
    channels: int
    sample_rate: int
    segment: int
    valid_length: Callable[[int], int]
    fixed_length: bool = False
    fills_segments: bool = False
    name: str = "the network"

    @classmethod
    def of(cls, model: Any, run: Run, seconds: float | None = None) -> WaveNetwork:
        """Of a network of the registry that eats waveforms, run by ``run`` on chunks of ``seconds`` or its own."""
        facts = model.description
        own = seconds is None or seconds == facts.segment / facts.sample_rate
        segment = facts.segment if own else int(facts.sample_rate * seconds)
        sizes = (facts.channels, facts.sample_rate, segment, model.valid_length)
        fills = getattr(model, "fills_segments", False)
        return cls(run, len(facts.sources), *sizes, facts.fixed_length, fills, facts.name)


@dataclass(frozen=True)
class Splitting:
    """How songs are cut, whatever the network; the defaults are those of Demucs.

    Attributes:
        split: in chunks, or the whole song at once
        segment: s of a chunk; None is the network's own. A network of fixed length takes no more than that
        overlap, power, batch, jobs: see `dsp.chunks.Chunking`
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
        if samples < 1 or hop_of(samples, self.overlap) < 1:
            raise UserError(f"a segment of {samples} samples with an overlap of {self.overlap:g} leaves no step")
        return samples

    def chunking(self, network: WaveNetwork) -> Chunking:
        """The same for one network."""
        size = self.size(network)
        filled = network.fills_segments and self.segment is not None
        valid_length = (lambda _: size) if filled else network.valid_length
        return Chunking(size if self.split else None, valid_length, self.overlap, self.power, self.batch, self.jobs)


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

    def only(self, sources: Sequence[int]) -> Member:
        """It with nothing but these sources, in this order."""
        rows, run = list(sources), self.network.run
        network = replace(self.network, run=lambda mix: run(mix)[:, rows], sources=len(rows))
        return replace(self, network=network, weights=self.weights[rows])


def only(members: Sequence[Member], sources: Sequence[int]) -> list[Member]:
    """Those with a say in one of these sources, each with nothing but them: the same numbers for less work."""
    return [member.only(sources) for member in members if member.weights[list(sources)].any()]


def separated(song: Song, members: Sequence[Member], how: Splitting) -> Iterator[np.ndarray]:
    """Estimates ``[B, S, C, n]`` of a song, block after block; together exactly as long as the song.

    The mean over the members, weighted for each source, of the mean over each member's delays. All run in step, see
    `dsp.chunks.separated`.
    """
    total = np.sum([member.weights for member in members], axis=0, dtype=np.float64)
    if not song.samples:
        return
    for member in members:  # all that can be wrong shows before the work
        check(song, member, how)
    means = [separated_by_one(song, each.network.run, how.chunking(each.network), each.delays) for each in members]
    if len(members) == 1:  # x * w / w need not be x
        yield from means[0]
        return
    shares = [(member.weights / total).astype(np.float32)[:, None, None] for member in members]
    for blocks in in_step(means):
        yield added([block * share for block, share in zip(blocks, shares, strict=True)])


def check(song: Song, member: Member, how: Splitting) -> None:
    """UserError if ``how`` does not suit the network or, without a split, the song is too long for it."""
    network = member.network
    size = how.size(network)
    longest = song.samples + max(member.delays)
    if not how.split and network.fixed_length and longest > size:
        most = size / network.sample_rate
        raise UserError(f"{network.name} takes {most:g} s at once and no whole song: leave --no-split out")
