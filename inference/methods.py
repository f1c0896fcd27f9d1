"""The ways to separate: with masks from a network on magnitudes, by a network on waveforms, or chunk by chunk of a
stream.

A separator has one of them and does not know which. What they have in common is `Method`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dsp.chunks import Run, draw_delays
from dsp.stft import SpleeterSTFT
from inference import engine as engines
from inference.apollo_chunked import Original
from inference.apply import members, networks
from inference.chunked import Splitting, only
from inference.cutting import Cutting, cutting
from inference.mwf import WienerStream
from inference.options import Options
from inference.spectral import MaskedStream, Spectral
from inference.streams import Averaged, Chosen, Delayed, SideBySide, Stream
from inference.waveform import WaveStream
from models import Description
from runtime import device as devices
from runtime.errors import UserError


class Method(Protocol):
    """How the songs of one separator are separated.

    Attributes:
        sources: stem names
        options: as asked for, with everything that was left open filled in
        engine: what runs the network, as text
        waits: whether nothing comes out before the song is over
        reading: share of the work that is done when the song has been read
        spooled: numbers kept on disk for each sample of a channel group, while the song waits
    """

    sources: tuple[str, ...]
    options: Options
    engine: str
    waits: bool
    reading: float
    spooled: float

    def stream(self, folder: Path | None, sources: Sequence[int]) -> Stream:
        """A stream for one song, on the network's channels at its sample rate.

        Args:
            folder: for what waits
            sources: numbers of the stems that come out, in their order
        """
        ...


@dataclass(frozen=True)
class Running:
    """What runs the network: the arguments of `inference.engine.build`."""

    engine: str
    precision: str
    device: str
    weights_hash: str | None = None


def choose(model: Any, wishes: Options, defaults: dict, running: Running) -> Method:
    """The method for a network or a bag; ``defaults`` are the separation of its configuration.

    Raises:
        UserError: no network that separates, wishes that do not suit it, or an engine that it does not have
    """
    facts = networks(model)[0].description
    if facts.eats == "waveform":
        return Chunks(model, wishes, running) if facts.hop else Waveforms(model, wishes, running)
    if facts.eats == "magnitude":
        return Masks(model, wishes, defaults, running)
    raise UserError(f"{facts.name} is not a network that separates music")


class Masks:
    """Ratio masks or a Wiener filter from the magnitudes that a network predicts."""

    def __init__(self, model: Any, wishes: Options, defaults: dict, running: Running):
        facts = model.description
        if facts.config["mask_channels"] != facts.channels:
            raise UserError(f"{facts.name} predicts {facts.config['mask_channels']} channels from {facts.channels}")
        self.options = wishes.for_magnitudes(defaults, devices.is_host(running.device))
        self._network = engines.build(model, running.engine, running.precision, running.device, running.weights_hash)
        self.engine = self._network.name
        self.sources = tuple(facts.sources)
        self._how = how = _spectral(facts, self.options)
        self._delays = draw_delays(np.random.default_rng(wishes.seed), facts.sample_rate, self.options.shifts)
        self.waits, self.reading = bool(self.options.mwf), 0.5
        passes = len(self._delays) * how.channels
        self.spooled = passes * (1 + how.sources * how.bins / how.stft.frame_step)  # a sample, and its magnitudes

    def stream(self, folder: Path | None, sources: Sequence[int]) -> Stream:
        """See `Method`: all shifted passes side by side. Every mask needs all magnitudes, so none is saved."""
        passes = [Delayed(self._pass(folder), delay) if delay else self._pass(folder) for delay in self._delays]
        stream = passes[0] if len(passes) == 1 else Averaged(passes)
        return stream if list(sources) == list(range(self._how.sources)) else Chosen(stream, sources)

    def _pass(self, folder: Path | None) -> Stream:
        if self.options.mwf:  # the filter holds everything back until it has heard the whole song
            return WienerStream(self._network, self._how, folder=folder)
        return MaskedStream(self._network, self._how)


class Waveforms:
    """A network on waveforms, or a bag of them, on the mixture normalised as a whole."""

    waits = True  # the normalisation needs the whole song
    reading = 0.02

    def __init__(self, model: Any, wishes: Options, running: Running):
        options = self.options = wishes.for_waveforms()
        self._how = Splitting(options.split, options.segment, options.overlap, 1.0, options.batch, options.jobs)
        built = _eager(networks(model), options, running)
        self.sources = tuple(networks(model)[0].description.sources)
        self._members = members(model, lambda each: built[id(each)], options.shifts, options.seed)
        for member in self._members:
            self._how.size(member.network)  # tells of a segment that is too long
        self.engine = "eager"
        self.spooled = self._members[0].network.channels

    def stream(self, folder: Path | None, sources: Sequence[int]) -> Stream:
        """See `Method`; networks that have no say in these stems do not run."""
        everything = list(sources) == list(range(self._members[0].network.sources))
        return WaveStream(self._members if everything else only(self._members, sources), self._how, folder)


class Chunks:
    """Networks that separate overlapping chunks of a stream: one, or a bag of them with different stems.

    All members of a bag see the same stream, each in chunks of its own; their stems come side by side.
    """

    spooled = 0.0

    def __init__(self, model: Any, wishes: Options, running: Running):
        crew = networks(model)
        options = self.options = wishes.for_chunks(devices.is_host(running.device))
        built = _eager(crew, options, running)
        self.engine = "eager"
        self._members = [_Member(built[id(each)], each.description, cutting(each, options)) for each in crew]
        self.waits = any(isinstance(member.how, Original) for member in self._members)
        self.reading = 0.02 if self.waits else 0.95  # what is left is in the last chunks
        self._owners = [(place, row) for place, each in enumerate(crew) for row in range(len(each.description.sources))]
        self.sources = tuple(crew[place].description.sources[row] for place, row in self._owners)
        rate = crew[0].description.sample_rate
        self._delays = draw_delays(np.random.default_rng(options.seed), rate, options.shifts)

    def stream(self, folder: Path | None, sources: Sequence[int]) -> Stream:
        """See `Method`; networks that have no say in these stems do not run."""
        del folder
        wanted = [self._owners[source] for source in sources]
        needed = sorted({place for place, _ in wanted})
        there = [owner for owner in self._owners if owner[0] in needed]
        passes = [self._pass(needed, delay) for delay in self._delays]
        stream = passes[0] if len(passes) == 1 else Averaged(passes)
        return stream if wanted == there else Chosen(stream, [there.index(owner) for owner in wanted])

    def _pass(self, places: Sequence[int], delay: int) -> Stream:
        streams = [self._members[place].stream() for place in places]
        stream = streams[0] if len(streams) == 1 else SideBySide(streams)
        return Delayed(stream, delay) if delay else stream


@dataclass(frozen=True)
class _Member:
    """One network of `Chunks`."""

    run: Run
    facts: Description
    how: Cutting

    def stream(self) -> Stream:
        return self.how.stream(self.run, len(self.facts.sources), self.facts.channels)


def _eager(crew: Sequence[Any], options: Options, running: Running) -> dict[int, engines.EagerEngine]:
    """What runs networks on waveforms, by their ids, since a bag may list one twice. UserError for other engines."""
    if running.engine == "program":
        raise UserError("networks on waveforms run in eager mode, the faster one for them: leave --engine program out")
    if running.engine not in engines.ENGINES:
        raise UserError(f"engine {running.engine!r} is none of {', '.join(engines.ENGINES)}")
    if running.precision != "float32":
        raise UserError(f"networks on waveforms run in float32 only: leave --precision {running.precision} out")
    together = options.jobs > 1 and devices.is_host(running.device)
    return {id(each): engines.EagerEngine(each, together) for each in crew}


def _spectral(facts: Any, options: Options) -> Spectral:
    config = facts.config
    segment = config["segment_frames"]
    if options.segment is not None:
        unit = 64 * config["frame_step"] / facts.sample_rate  # the network halves time six times
        segment = 64 * max(1, round(options.segment / unit))
    return Spectral(
        stft=SpleeterSTFT(config["frame_length"], config["frame_step"], workers=engines.threads()),
        sources=len(facts.sources),
        channels=facts.channels,
        bins=config["frequency_bins"],
        segment=segment,
        hop=max(1, round(segment * (1 - options.overlap))),
        batch=options.batch,
        exponent=options.exponent,
        extension=options.mask_extension,
        threads=engines.threads(),
    )
