"""The separator: a network, its weights and a device behind one call, for arrays, streams and files."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.stems import RESTORED
from dsp.blocks import Fifo
from inference import engine as engines
from inference import methods, restored_stems
from inference.apply import networks
from inference.naming import Selection
from inference.options import Options
from inference.planning import DEFAULT_NAME, Plan
from inference.planning import separating as make_plan
from inference.progress import Cancel, Progress, Watch
from inference.spool import SpooledFifo
from inference.streams import Chained, ChannelGroups, Resampled, Stream, channel_groups
from runtime import device as devices
from runtime.errors import UserError

if TYPE_CHECKING:
    from inference.files import SeparationReport

BLOCK = 1 << 17  # samples handed on at a time


class Separator:
    """Separates music into the stems of one network.

    Every output is as long as the input, at its sample rate, with its channels and its level, and the same input gives
    the same bits. What the network cannot hold (bands above its bins or its sample rate) is in no stem; together with
    ``residual=True`` the stems sum to the mixture.

    Args:
        name: a network of the registry (``spleeter_2stems``, ``spleeter:4stems-16kHz`` …), a bag or signature of the
            Demucs family (``htdemucs_ft``, ``955717e8`` …), or a package, run folder or checkpoint, whose configuration
            says which network it is; or several with commas between that have a stem each (``bsrnn_vocals,bsrnn_bass``
            …); None leaves that to ``weights``
        weights: path of the weights; None is the run's own, or the published ones, downloaded when needed
        device: a name that `runtime.device.select` understands
        engine: auto, program or eager, see `inference.engine`
        precision: float32, or bf16 (program on a CPU)
        offline: never download
        repo: folder of packages and bags of the Demucs family in which ``name`` is looked for
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
        repo: str | Path | None = None,
        **options: Any,
    ):
        wishes = Options(**options)
        plan = name if isinstance(name, Plan) else make_plan(name, weights, offline, repo)
        self.device = activate(device, plan.network)
        from inference.loading import load

        loaded = load(plan)
        self._set_up(loaded.model, wishes, plan.separation, engine, precision, loaded.hash)
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
        running = methods.Running(engine, precision, self.device, weights_hash)
        self._method = methods.choose(model, wishes, defaults, running)
        facts = networks(model)[0].description
        self.name = getattr(model, "name", facts.name)
        self.sources, self.sample_rate, self.channels = self._method.sources, facts.sample_rate, facts.channels
        self.options, self.engine = self._method.options, self._method.engine
        self.weights_hash = weights_hash

    def separate(
        self,
        mix: np.ndarray,
        sample_rate: int | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        residual: bool = False,
        restore: Mapping[str, Separator] | None = None,
    ) -> dict[str, np.ndarray]:
        """Stems of a waveform ``[C, N]`` (any C and N, 0 included) at ``sample_rate`` Hz (default the network's).

        Args:
            progress: called with the finished share, 0 … 1
            cancel: asked between blocks; True ends the work with `Cancelled`
            residual: add ``residual``, the mixture minus all stems
            restore: stems that also pass through the separator named here, of a network that restores; what comes out
                is called ``<stem>_restored``

        Returns:
            stem name -> float32 ``[C, N]``

        Raises:
            ValueError: other axes, or integers instead of floats
            UserError: samples that are NaN or infinite, a stem that is not there to be restored, a network that does
                not restore
            Cancelled: ``cancel`` said so
        """
        mix = np.asarray(mix)
        if mix.ndim != 2 or not mix.shape[0]:
            raise ValueError(f"a waveform has the axes [channels, samples], not {list(mix.shape)}")
        samples = mix.shape[1]
        blocks = (mix[:, start : start + BLOCK] for start in range(0, samples, BLOCK))
        selection, links = self._everything(residual, restore)
        stems = np.empty((len(selection.names), *mix.shape), np.float32)
        done = 0
        for block, mixture in self.run(
            blocks, mix.shape[0], sample_rate, samples, progress, cancel, residual, restore=links
        ):
            now = slice(done, done + mixture.shape[-1])
            stems[: len(block), :, now] = block
            if residual:
                np.subtract(mixture, block[: len(self.sources)].sum(axis=0), out=stems[-1, :, now])
            done = now.stop
        return dict(zip(selection.names, stems, strict=True))

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
        restore: Mapping[str, Separator] | None = None,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Blocks ``[C, n]`` of any sizes in, dictionaries of blocks ``[C, m]`` out; together exactly as long.

        Memory does not depend on the length. The first output comes after about one segment, with ``mwf`` and from
        networks that hear the song at its level as a whole (Demucs) after the last input. ``total`` (samples, if known)
        is for ``progress``; ``scratch`` is the folder for what has to be kept meanwhile. The other arguments are those
        of `separate`.
        """
        selection, links = self._everything(residual, restore)
        for stems, mixture in self.run(
            blocks, channels, sample_rate, total, progress, cancel, residual, scratch, restore=links
        ):
            rest = [mixture - stems[: len(self.sources)].sum(axis=0)] if residual else []
            yield dict(zip(selection.names, [*stems, *rest], strict=True))

    def separate_file(self, path: str | Path, output: str | Path, **options: Any) -> SeparationReport:
        """Separate one audio file into files below the folder ``output``; see `inference.files.separate_file`."""
        from inference.files import separate_file

        return separate_file(self, path, output, **options)

    def _everything(
        self, residual: bool, restore: Mapping[str, Separator] | None
    ) -> tuple[Selection, list[tuple[tuple[int, ...], Separator]]]:
        """All stems and what else is wanted of them; see `inference.restored_stems.links`."""
        return restored_stems.links(Selection({name: (i,) for i, name in enumerate(self.sources)}, residual), restore)

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
        only: Sequence[int] | None = None,
        restore: Sequence[tuple[Sequence[int], Separator]] = (),
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What `stream` is made of: pairs of stems ``[S, C, m]`` and the mixture ``[C, m]`` they belong to.

        Without ``keep_mixture`` the second is an array of the right shape without meaning. ``only`` names the stems
        that come, by their numbers; the same bits, but a bag leaves out networks that have no say in them. ``restore``
        adds stems behind them: the sum of those in certain rows, as it leaves a separator that restores.
        """
        sources = range(len(self.sources)) if only is None else only
        rate = self.sample_rate if sample_rate is None else sample_rate
        stream = self._build(channels, rate, scratch, sources)
        if restore:
            stream = Chained(stream, [(rows, each._restoration(channels, rate)) for rows, each in restore])
        waits = self._method.waits
        watch = Watch(total, progress, cancel, self._method.reading)
        mixture = SpooledFifo(channels, scratch) if waits and keep_mixture else Fifo()

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
        if not self._method.waits:
            return 0
        values = self._method.spooled * len(channel_groups(channels, self.channels)) * self.sample_rate / sample_rate
        return int(4 * samples * (channels + values))

    def _restoration(self, channels: int, rate: int) -> Stream:
        """A stream that restores. UserError for a network that does not."""
        if self.sources != (RESTORED,):
            raise UserError(f"{self.name} separates {', '.join(self.sources)}, and cannot restore what others separate")
        return self._build(channels, rate, None, (0,))

    def _build(self, channels: int, rate: int, scratch: Path | None, sources: Sequence[int]) -> Stream:
        """The pipeline for one song: channel groups, resampling, separation."""
        groups = channel_groups(channels, self.channels)
        lanes = []
        for _ in groups:
            lane = self._method.stream(scratch, sources)
            if rate != self.sample_rate:
                lane = Resampled(lane, rate, self.sample_rate, self.channels, len(sources))
            lanes.append(lane)
        return ChannelGroups(lanes, groups, self.channels)


def activate(device: str, network: str) -> str:
    """Choose and prepare the device; one that is in force already is kept if it is what was asked for."""
    if "paddle" in sys.modules:
        current = engines.device_in_force()
        if device in ("auto", current, current.split(":")[0]):
            return current
    chosen = devices.select(device, network)
    devices.activate(chosen)
    return chosen.name
