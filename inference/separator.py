"""The separator: a network, its weights and a device behind one call, for arrays, streams and files."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsp.stft import SpleeterSTFT
from inference import engine as engines
from inference.mwf import WienerStream
from inference.planning import DEFAULT_NAME, Plan
from inference.planning import plan as make_plan
from inference.progress import Cancel, Progress, Watch
from inference.spectral import MASK_EXTENSIONS, MaskedStream, Spectral
from inference.spool import SpooledFifo
from inference.streams import Averaged, ChannelGroups, Delayed, Fifo, Resampled, Stream, channel_groups
from runtime import device as devices
from runtime.errors import UserError

if TYPE_CHECKING:
    from inference.files import SeparationReport

BLOCK = 1 << 17  # samples handed on at a time
MAX_SEGMENT = 600  # s; a call of the network takes memory in proportion, a gigabyte or two for so much
MAX_SHIFT = 0.5  # s; the random delays of --shifts, as in Demucs


@dataclass(frozen=True)
class Options:
    """How to separate; everything but the network.

    Attributes:
        segment: s of one network input, rounded to 64 frames; None is the network's own (11.9 s)
        overlap: share of a segment that overlaps the next, 0 … 0.95; predictions are cross-faded. None or 0: side by
            side as in the original
        shifts: average so many passes over randomly delayed copies of the song; 0 is a single pass without delay
        seed: of the delays
        mwf: multichannel Wiener filter instead of the ratio mask
        mask_extension: ``zeros`` or ``average`` above the network's bins; None is what its configuration says
        exponent: power of the magnitudes in the ratio mask; None is what its configuration says
        batch: segments per call of the network; None is 1 on a CPU and 4 elsewhere
    """

    segment: float | None = None
    overlap: float | None = None
    shifts: int = 0
    seed: int = 0
    mwf: bool | None = None
    mask_extension: str | None = None
    exponent: float | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.segment is not None and not 0 < self.segment <= MAX_SEGMENT:
            raise UserError(f"segment={self.segment} must be positive, {MAX_SEGMENT} s of music per call at most")
        if self.overlap is not None and not 0 <= self.overlap <= 0.95:
            raise UserError(f"overlap={self.overlap} must lie in 0 … 0.95, a share of the segment")
        if self.shifts < 0:
            raise UserError(f"shifts={self.shifts} must not be negative")
        if self.seed < 0:
            raise UserError(f"seed={self.seed} must not be negative")
        if self.exponent is not None and not 0 < self.exponent < math.inf:
            raise UserError(f"exponent={self.exponent} must be a positive number")
        if self.batch is not None and self.batch < 1:
            raise UserError(f"batch={self.batch} must be at least 1")
        if self.mask_extension not in (None, *MASK_EXTENSIONS):
            raise UserError(f"mask_extension={self.mask_extension!r} is none of {', '.join(MASK_EXTENSIONS)}")


class Separator:
    """Separates music into the stems of one network.

    Every output is as long as the input, at its sample rate, with its channels and its level, and the same input gives
    the same bits. What the network cannot hold (bands above its bins or its sample rate) is in no stem; together with
    ``residual=True`` the stems sum to the mixture.

    Args:
        name: a network of the registry (``spleeter_2stems``, ``spleeter:4stems-16kHz`` …), or a run folder or
            checkpoint, whose configuration says which network it is; None leaves that to ``weights``
        weights: path of the weights; None is the run's own, or the published ones, downloaded when needed
        device: a name that `runtime.device.select` understands
        engine: auto, program or eager, see `inference.engine`
        precision: float32, or bf16 (program on a CPU)
        offline: never download
        options: the attributes of `Options`

    Attributes:
        sources: stem names
        sample_rate: Hz, of the network; other rates are converted on the way in and out
        channels: of the network; other layouts are grouped, see `inference.streams.channel_groups`
        name, weights_path, weights_hash, device, engine: what is running, as text

    Raises:
        UserError: unknown network, missing or wrong weights, a device that is not there, an option out of range
    """

    def __init__(
        self,
        name: str | Path | Plan | None = DEFAULT_NAME,
        weights: str | Path | None = None,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "float32",
        offline: bool = False,
        **options: Any,
    ):
        wishes = Options(**options)
        plan = name if isinstance(name, Plan) else make_plan(name, weights, offline)
        self.device = _activate(device, plan.network)
        import models
        import pretrained

        model = models.create(plan.network, **plan.model)
        loaded = pretrained.load_weights(model, plan.weights)
        self._set_up(model, wishes, plan.separation, engine, precision, loaded.hash)
        self.weights_path: Path | None = loaded.path

    @classmethod
    def from_model(
        cls,
        model: Any,
        engine: str = "eager",
        precision: str = "float32",
        separation: dict | None = None,
        **options: Any,
    ) -> Separator:
        """A separator around a network in memory, on the device in force; for training, evaluation and tests.

        ``separation`` holds defaults (exponent, mask_extension, mwf) as in a configuration. An eager separator follows
        the model when its weights change; a program keeps those it was exported with.
        """
        self = cls.__new__(cls)
        self.device = engines.device_in_force()
        self.weights_path = None
        self._set_up(model, Options(**options), separation or {}, engine, precision, None)
        return self

    def _set_up(
        self, model: Any, wishes: Options, defaults: dict, engine: str, precision: str, weights_hash: str | None
    ) -> None:
        facts = model.description
        if facts.eats != "magnitude":
            raise UserError(f"{facts.name} is not a network that separates magnitudes")
        if facts.config["mask_channels"] != facts.channels:
            raise UserError(f"{facts.name} predicts {facts.config['mask_channels']} channels from {facts.channels}")
        self.name, self.sources = facts.name, tuple(facts.sources)
        self.sample_rate, self.channels = facts.sample_rate, facts.channels
        self.options = replace(
            wishes,
            mwf=_first(wishes.mwf, defaults.get("mwf"), False),
            mask_extension=_first(wishes.mask_extension, defaults.get("mask_extension"), "zeros"),
            exponent=_first(wishes.exponent, defaults.get("exponent"), 2.0),
            batch=_first(wishes.batch, 1 if devices.is_host(self.device) else 4),
        )
        self._network = engines.build(model, engine, precision, self.device, weights_hash)
        self.engine = self._network.name
        self.weights_hash = weights_hash
        self._how = _spectral(facts, self.options)

    def separate(
        self,
        mix: np.ndarray,
        sample_rate: int | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        residual: bool = False,
    ) -> dict[str, np.ndarray]:
        """Stems of a waveform ``[C, N]`` (any C and N, 0 included) at ``sample_rate`` Hz (default the network's).

        Args:
            progress: called with the finished share, 0 … 1
            cancel: asked between blocks; True ends the work with `Cancelled`
            residual: add ``residual``, the mixture minus all stems

        Returns:
            stem name -> float32 ``[C, N]``

        Raises:
            ValueError: other axes, or integers instead of floats
            UserError: samples that are NaN or infinite
            Cancelled: ``cancel`` said so
        """
        mix = np.asarray(mix)
        if mix.ndim != 2 or not mix.shape[0]:
            raise ValueError(f"a waveform has the axes [channels, samples], not {list(mix.shape)}")
        samples = mix.shape[1]
        blocks = (mix[:, start : start + BLOCK] for start in range(0, samples, BLOCK))
        stems = np.empty((len(self.sources) + residual, *mix.shape), np.float32)
        done = 0
        for block, mixture in self.run(blocks, mix.shape[0], sample_rate, samples, progress, cancel, residual):
            now = slice(done, done + mixture.shape[-1])
            stems[: len(block), :, now] = block
            if residual:
                np.subtract(mixture, block.sum(axis=0), out=stems[-1, :, now])
            done = now.stop
        return dict(zip(self._names(residual), stems, strict=True))

    def stream(
        self,
        blocks: Iterable[np.ndarray],
        channels: int,
        sample_rate: int | None = None,
        total: int | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        residual: bool = False,
        scratch: Path | None = None,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Blocks ``[C, n]`` of any sizes in, dictionaries of blocks ``[C, m]`` out; together exactly as long.

        Memory does not depend on the length. The first output comes after about one segment, with ``mwf`` after the
        last input. ``total`` (samples, if known) is for ``progress``; ``scratch`` is the folder for what ``mwf`` has to
        keep meanwhile. The other arguments are those of `separate`.
        """
        for stems, mixture in self.run(blocks, channels, sample_rate, total, progress, cancel, residual, scratch):
            named = dict(zip(self.sources, stems, strict=True))
            yield {**named, "residual": mixture - stems.sum(axis=0)} if residual else named

    def separate_file(self, path: str | Path, output: str | Path, **options: Any) -> SeparationReport:
        """Separate one audio file into files below the folder ``output``; see `inference.files.separate_file`."""
        from inference.files import separate_file

        return separate_file(self, path, output, **options)

    def _names(self, residual: bool) -> tuple[str, ...]:
        return (*self.sources, "residual") if residual else self.sources

    def run(
        self,
        blocks: Iterable[np.ndarray],
        channels: int,
        sample_rate: int | None = None,
        total: int | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        keep_mixture: bool = True,
        scratch: Path | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What `stream` is made of: pairs of stems ``[S, C, m]`` and the mixture ``[C, m]`` they belong to.

        Without ``keep_mixture`` the second is an array of the right shape without meaning.
        """
        stream = self._build(channels, self.sample_rate if sample_rate is None else sample_rate, scratch)
        watch = Watch(total, progress, cancel)
        # the Wiener filter holds everything back until it has heard the whole song
        mixture = SpooledFifo(channels, scratch) if self.options.mwf and keep_mixture else Fifo()

        def deliver(stems: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            watch.gave(stems.shape[-1])
            if stems.shape[-1]:
                yield stems, mixture.pop(stems.shape[-1]) if keep_mixture else stems[0]

        for block in blocks:
            if block.ndim != 2 or len(block) != channels:
                raise ValueError(f"a block has the axes [{channels} channels, samples], not {list(block.shape)}")
            if not np.issubdtype(block.dtype, np.floating):
                raise ValueError(f"a waveform consists of floats with full scale 1, not of {block.dtype}")
            for start in range(0, block.shape[-1], BLOCK):
                part = np.asarray(block[:, start : start + BLOCK], np.float32)
                if not np.isfinite(part).all():
                    raise UserError("the mixture contains samples that are not numbers (NaN or infinite)")
                watch.took(part.shape[-1])
                if keep_mixture:
                    mixture.push(part.copy())  # the caller may use its buffer again
                yield from deliver(stream.push(part))
        if watch.taken:
            for stems in stream.finish():
                yield from deliver(stems)
        watch.end()

    def scratch_bytes(self, samples: int, channels: int, sample_rate: int) -> int:
        """Disk space that a song of this size takes in the ``scratch`` folder of `stream` meanwhile."""
        if not self.options.mwf:
            return 0
        how, passes = self._how, max(1, self.options.shifts) * len(channel_groups(channels, self.channels))
        values = 1 + how.sources * how.bins / how.stft.frame_step  # a sample, and its share of the magnitudes
        return int(4 * samples * (channels + values * passes * how.channels * self.sample_rate / sample_rate))

    def _build(self, channels: int, rate: int, scratch: Path | None) -> Stream:
        """The pipeline for one song: channel groups, resampling, shifted passes, separation."""
        groups = channel_groups(channels, self.channels)
        delays = _delays(self.options, self.sample_rate)
        lanes = []
        for _ in groups:
            passes = [Delayed(self._pass(scratch), delay) if delay else self._pass(scratch) for delay in delays]
            lane: Stream = passes[0] if len(passes) == 1 else Averaged(passes)
            if rate != self.sample_rate:
                lane = Resampled(lane, rate, self.sample_rate, self.channels, len(self.sources))
            lanes.append(lane)
        return ChannelGroups(lanes, groups, self.channels)

    def _pass(self, scratch: Path | None) -> Stream:
        if self.options.mwf:
            return WienerStream(self._network, self._how, folder=scratch)
        return MaskedStream(self._network, self._how)


def _activate(device: str, network: str) -> str:
    """Choose and prepare the device; one that is in force already is kept if it is what was asked for."""
    if "paddle" in sys.modules:
        current = engines.device_in_force()
        if device in ("auto", current, current.split(":")[0]):
            return current
    chosen = devices.select(device, network)
    devices.activate(chosen)
    return chosen.name


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
        hop=max(1, round(segment * (1 - (options.overlap or 0)))),
        batch=options.batch,
        exponent=options.exponent,
        extension=options.mask_extension,
        threads=engines.threads(),
    )


def _delays(options: Options, rate: int) -> Sequence[int]:
    if not options.shifts:
        return (0,)
    longest = int(MAX_SHIFT * rate)
    return np.random.default_rng(options.seed).integers(0, longest, options.shifts, endpoint=True).tolist()


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
