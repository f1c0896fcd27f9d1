"""One audio file in, one file per stem out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsp import audio
from inference import restored_stems
from inference.levels import check_clip_mode, choose_gains, decibels, finished, needs_peaks
from inference.naming import DEFAULT_TEMPLATE, Selection, restored, select, targets
from inference.spool import BlockSpool
from inference.streams import mixed
from runtime.errors import UserError
from runtime.files import require_space, require_writable

if TYPE_CHECKING:
    from inference.separator import Separator

_ROWS = 1 << 16  # samples encoded at a time


@dataclass
class SeparationReport:
    """What became of one file.

    Attributes:
        input: path that was read
        sample_rate, channels, samples: of the input's part that was separated, and of every output
        duration: s of music; elapsed: s it took; real_time_factor: elapsed / duration
        gain_db: the one gain that all outputs got so that none clips; 0 is none
        gains_db: gain of each output, where ``clip_mode`` gave them gains of their own
        peaks: largest magnitude of each output before that gain
        clipped: samples of each output that had to be limited nevertheless
        outputs: output name -> file
        skipped: everything was there already
        error: what went wrong, for a file that could not be done
    """

    input: str
    sample_rate: int = 0
    channels: int = 0
    samples: int = 0
    duration: float = 0.0
    elapsed: float = 0.0
    real_time_factor: float | None = None
    gain_db: float = 0.0
    gains_db: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    clipped: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    skipped: bool = False
    error: str | None = None


def separate_file(
    separator: Separator,
    path: str | Path,
    output: str | Path,
    format: str = "wav16",
    bitrate: str | int | None = None,
    template: str = DEFAULT_TEMPLATE,
    selection: Selection | None = None,
    offset: float = 0.0,
    duration: float | None = None,
    progress: Callable[[float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    clip_mode: str | None = None,
    restore: Mapping[str, Separator] | None = None,
    listen: Mapping[str, Callable[[np.ndarray], None]] | None = None,
) -> SeparationReport:
    """Separate a file, or ``duration`` seconds of it from ``offset`` on, into files below the folder ``output``.

    Args:
        format: of `dsp.audio.FORMATS`
        bitrate: of lossy formats: bit/s, or text like ``320k``
        template: names of the files, see `inference.naming.targets`
        selection: which stems to write; all of them by default
        progress, cancel: as in `Separator.separate`
        clip_mode: what Demucs does against clipping, instead of one common gain: see `inference.levels`
        restore: outputs that are also written as the separator named here restores them, as ``<output>_restored``
        listen: who gets the blocks ``[C, n]`` of a stem as they come, by its name: a source of the network that
            ``selection`` needs, or a restored output

    The outputs have the input's length, sample rate and channels. Where an output would clip, all of them get one
    common gain, stated in the report. Files appear under their names when all of them are complete.

    Raises:
        UserError: not audio, damaged, nothing at ``offset``, an output that cannot be written or is not there to be
            restored
        Cancelled: ``cancel`` said so
    """
    started = time.perf_counter()
    path, output = Path(path), Path(output)
    info = audio.probe(path)
    selection, links = restored_stems.links(selection or select(separator.sources), restore)
    check_clip_mode(clip_mode, selection)
    files = targets(path, output, selection.names, audio.suffix(format)[1:], template)
    check_excerpt(offset, duration)
    start, frames = _range(path, info, offset, duration)
    _require_places(files.values())
    writers = [audio.AudioWriter(file, info.sample_rate, info.channels, format, bitrate) for file in files.values()]
    expected = frames if frames >= 0 else max(0, info.frames - start)
    bits = audio.FORMATS[format].bits
    space = separator.scratch_bytes(expected, info.channels, info.sample_rate)
    space += len(files) * expected * info.channels * _bytes_per_value(bits)
    require_space(output, space, f"writing the stems of {path}")
    require_writable(output)
    blocks = separator.run(
        _music(path, start, frames, offset),
        info.channels,
        info.sample_rate,
        expected or None,
        progress,
        cancel,
        keep_mixture=selection.residual,
        scratch=output,
        only=selection.needed,
        restore=links,
    )
    heard = _told(blocks, separator.sources, selection, listen) if listen else blocks
    gathered = (_gather(stems, mixture, selection) for stems, mixture in heard)
    parts = len(selection.outputs) if selection.residual else 0
    try:
        peaks, gains = _write(gathered, writers, parts, bits, output, clip_mode)
    except OSError as error:
        lost = f"the stems of {path} could not be written to {output} ({error.strerror or error})"
        raise UserError(f"{lost}: free some space or choose another folder") from error
    samples, elapsed = writers[0].frames, time.perf_counter() - started
    seconds = samples / info.sample_rate
    return SeparationReport(
        input=str(path),
        sample_rate=info.sample_rate,
        channels=info.channels,
        samples=samples,
        duration=seconds,
        elapsed=elapsed,
        real_time_factor=elapsed / seconds if seconds else None,
        gain_db=0.0 if clip_mode else decibels(gains[0]),
        gains_db=dict(zip(files, map(decibels, gains), strict=True)) if clip_mode else {},
        peaks=dict(zip(files, peaks.tolist(), strict=True)),
        clipped={name: writer.clipped for name, writer in zip(files, writers, strict=True)},
        outputs={name: str(file) for name, file in files.items()},
    )


def _bytes_per_value(bits: int | None) -> int:
    """Disk space of a sample of one channel: in the file (lossy coding never takes more than 16 bits) and, except for
    floats, while it waits for the common gain."""
    return 4 if bits == 32 else 4 + (bits or 16) // 8


def _write(
    blocks: Iterable[np.ndarray],
    writers: Sequence[audio.AudioWriter],
    parts: int,
    bits: int | None,
    folder: Path,
    clip_mode: str | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Encode blocks ``[K, C, n]``, a writer for each of K; returns the largest magnitudes and the gains, each ``[K]``.

    With ``parts`` the last of K is the residual of the first so many, and comes as the mixture. ``bits`` is 32 for
    floats, which cannot clip. Where the largest magnitude of the whole song decides on the gains, the blocks wait in a
    file in ``folder``.
    """
    peaks, gains = np.zeros(len(writers)), np.ones(len(writers))

    def watched() -> Iterator[np.ndarray]:
        for block in blocks:
            np.maximum(peaks, _peaks(block, parts), out=peaks)
            yield block

    with ExitStack() as stack:
        ready = watched()
        if needs_peaks(clip_mode, bits):
            spool = stack.enter_context(closing(BlockSpool(folder)))
            for block in ready:
                spool.write(block)
            gains = choose_gains(peaks, bits, clip_mode)
            ready = iter(spool)
        for writer in writers:
            stack.enter_context(writer)
        pool = stack.enter_context(ThreadPoolExecutor(len(writers)))  # ends before the writers do
        for block in ready:
            final = finished(block, gains, bits, parts, clip_mode)
            list(pool.map(audio.AudioWriter.write, writers, final))
    return peaks, gains


def check_excerpt(offset: float, duration: float | None) -> None:
    """UserError unless both are lengths of time; ``duration=None`` is the rest of the song."""
    if not all(0 <= seconds < math.inf for seconds in (offset, duration or 0)):
        raise UserError("--offset and --duration are seconds and cannot be negative or infinite")


def _range(path: Path, info: audio.AudioInfo, offset: float, duration: float | None) -> tuple[int, int]:
    """First sample and number of samples (-1: to the end)."""
    start = round(offset * info.sample_rate)
    if start and start >= info.frames and info.exact:
        raise UserError(f"{path} is {info.duration:.2f} s long: nothing is left after --offset {offset:g}")
    return start, -1 if duration is None else round(duration * info.sample_rate)


def _music(path: Path, start: int, frames: int, offset: float) -> Iterator[np.ndarray]:
    """Blocks of the excerpt. Only reading tells the length of some files, and so that an excerpt begins behind it."""
    samples = 0
    for block in audio.blocks(path, size=_ROWS, start=start, frames=frames):
        samples += block.shape[-1]
        yield block
    if start and frames and not samples:
        raise UserError(f"{path} is shorter than {offset:g} s: nothing is left after --offset {offset:g}")


def _require_places(files: Iterable[Path]) -> None:
    """Prove before the work that files can take these names. Folders are made later, when there is something for them.

    Raises:
        UserError: a folder of that name, a file where a folder has to be, or no permission
    """
    folders = set()
    for file in files:
        if file.is_dir():
            raise UserError(f"{file}, the name of a stem, is a folder: choose another --output or --filename")
        folders.add(next(folder for folder in file.parents if folder.exists()))
    for folder in folders:
        require_writable(folder)


def _told(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]],
    sources: Sequence[str],
    selection: Selection,
    listen: Mapping[str, Callable[[np.ndarray], None]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same pairs of stems and mixture, with the stems told to those who listen."""
    names = [*(sources[source] for source in selection.needed), *map(restored, selection.restored)]
    rows = {names.index(name): take for name, take in listen.items()}
    for stems, mixture in blocks:
        for row, take in rows.items():
            take(stems[row])
        yield stems, mixture


def _gather(stems: np.ndarray, mixture: np.ndarray, selection: Selection) -> np.ndarray:
    """Outputs ``[K, C, n]`` of the stems ``[S, C, n]`` that it needs and, behind these, the restored ones; in the place
    of the residual, the mixture."""
    sources, outputs = len(selection.needed), list(selection.rows.values())
    if not selection.residual and outputs == [(row,) for row in range(sources)]:
        return stems
    parts = [*(mixed(stems, rows) for rows in outputs), *stems[sources:]]
    return np.stack([*parts, mixture] if selection.residual else parts)


def _peaks(block: np.ndarray, parts: int) -> np.ndarray:
    """Largest magnitude of each output of ``[K, C, n]``; ``parts`` as for `_write`."""
    rows = [*block[:-1], block[-1] - block[:parts].sum(axis=0)] if parts else block
    return np.array([max(row.max(initial=0), -row.min(initial=0)) for row in rows])
