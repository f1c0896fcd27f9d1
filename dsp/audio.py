"""Audio files in, audio files out: the one door to decoders and encoders.

Waveforms are float32 ``[C, N]`` with full scale ±1. libsndfile reads what it reads exactly; PyAV reads the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from dsp.audio_sndfile import SndfileReader
from dsp.audio_source import AudioInfo, Reader, recut, unreadable
from dsp.audio_write import FORMATS, AudioWriter, parse_bitrate, suffix
from dsp.resample import resample
from runtime.errors import UserError

__all__ = [
    "AUDIO_SUFFIXES",
    "FORMATS",
    "AudioInfo",
    "AudioWriter",
    "audio_files",
    "blocks",
    "convert_channels",
    "parse_bitrate",
    "probe",
    "read",
    "streams",
    "suffix",
]

_NAMES = (
    "wav wave rf64 w64 flac ogg oga opus aif aiff aifc au snd caf mp3 mp2 m4a m4b mp4 aac ac3 wma webm mka wv ape tta"
)
AUDIO_SUFFIXES = frozenset(f".{name}" for name in _NAMES.split())


def probe(path: str | os.PathLike, stream: int = 0, count: bool = False) -> AudioInfo:
    """What a file says about its sound, mostly without decoding it.

    Args:
        path: audio file
        stream: which audio stream of a file with several, from 0
        count: decode the file if need be, so that ``frames`` is certain

    Raises:
        UserError: missing, not audio, truncated as far as the header shows, or no such stream
    """
    with closing(_open(path, stream)) as reader:
        if reader.info.exact or not count:
            return reader.info
        frames = sum(piece.shape[-1] for piece in reader.decoded(0, -1))
        return replace(reader.info, frames=frames, exact=True)


def streams(path: str | os.PathLike) -> int:
    """Number of audio streams: 5 in a MUSDB18 stem file, 1 in most others. Raises as `probe` does."""
    with closing(_open(path, 0)) as reader:
        return reader.streams


def blocks(
    path: str | os.PathLike, size: int, start: int = 0, frames: int = -1, stream: int = 0
) -> Iterator[np.ndarray]:
    """Blocks ``[C, size]`` of a file, in order; the last one may be shorter. Memory is one block.

    ``start`` and ``frames`` (all that is left if -1) are in samples of the file's own rate and exact: blocks are slices
    of the whole file, bit for bit. An excerpt that ends after the file ends with the file.

    Raises:
        UserError: as `read` does; for damage inside the file only when that place is reached
    """
    if size < 1 or start < 0:
        raise ValueError(f"a block needs at least 1 sample and a start of at least 0, not {size} and {start}")
    return _blocks(_open(path, stream), size, start, frames)


def read(
    path: str | os.PathLike,
    start: int = 0,
    frames: int = -1,
    sample_rate: int | None = None,
    channels: int | None = None,
    stream: int = 0,
) -> tuple[np.ndarray, int]:
    """A file, or an excerpt of it, as float32 ``[C, N]`` and the sample rate in Hz.

    Args:
        path: audio file
        start: first sample, counted at the file's own rate
        frames: samples at the file's own rate, all that are left if -1; fewer come where the file ends before
        sample_rate: resample the excerpt to this rate, to ``round(N · new / old)`` samples
        channels: convert with `convert_channels`
        stream: which audio stream of a file with several, from 0

    Raises:
        UserError: missing, empty, not audio, truncated, damaged, no such stream, or channels that cannot be converted
    """
    if start < 0:
        raise ValueError(f"start must be at least 0, not {start}")
    with closing(_open(path, stream)) as reader:
        x, info = _gathered(reader, start, frames), reader.info
    if channels is not None and channels != info.channels:
        try:
            x = convert_channels(x, channels)
        except ValueError as error:
            raise unreadable(path, str(error)) from error
    if sample_rate is None or sample_rate == info.sample_rate:
        return x, info.sample_rate
    return resample(x, info.sample_rate, sample_rate), sample_rate


def _blocks(reader: Reader, size: int, start: int, frames: int) -> Iterator[np.ndarray]:
    with closing(reader):
        yield from recut(reader.decoded(start, frames), size)


def _gathered(reader: Reader, start: int, frames: int) -> np.ndarray:
    """Everything from ``start`` on in one array, with no second copy of it where the length is certain."""
    pieces, info = reader.decoded(start, frames), reader.info
    if not info.exact:
        return np.concatenate([np.zeros((info.channels, 0), np.float32), *pieces], axis=1)
    rest = max(0, info.frames - start)
    x = np.empty((info.channels, rest if frames < 0 else min(rest, frames)), np.float32)
    position = 0
    for piece in pieces:
        x[:, position : position + piece.shape[1]] = piece
        position += piece.shape[1]
    return x


def convert_channels(x: np.ndarray, channels: int) -> np.ndarray:
    """``x [C, N]`` with another number of channels.

    One channel is repeated; one is made as the mean; of more channels than wanted the first ones stay, as Spleeter and
    Demucs do.

    Raises:
        ValueError: for several channels that would have to become more
    """
    have = x.shape[0]
    if have == channels:
        return x
    if channels == 1:
        return x.mean(axis=0, keepdims=True, dtype=np.float32)
    if have == 1:
        return np.repeat(x, channels, axis=0)
    if have > channels:
        return x[:channels]
    raise ValueError(f"{have} channels cannot become {channels}; only one channel can be repeated")


def audio_files(
    paths: Iterable[str | os.PathLike],
    problems: list[UserError] | None = None,
    leave_out: str | os.PathLike | None = None,
) -> list[Path]:
    """The audio files among ``paths``: files as named, folders walked and sorted, nothing twice.

    In folders hidden files and folders and suffixes outside `AUDIO_SUFFIXES` are left out; links are followed, and no
    folder is entered twice. A named file must be readable audio, whatever its suffix, and a folder must hold at least
    one file.

    Args:
        paths: files and folders
        problems: collects the errors, so that the good files can be done all the same; without it the first one raises
        leave_out: a folder that is not entered on the way through another one: that of earlier results

    Raises:
        UserError: a file or folder that is missing, unreadable or of no use
    """

    def report(error: UserError) -> None:
        if problems is None:
            raise error
        problems.append(error)

    found: dict[Path, None] = {}
    for path in map(Path, paths):
        try:
            files = _folder_files(path, leave_out, report) if os.path.isdir(path) else [_named_file(path)]
        except UserError as error:
            report(error)
        else:
            found.update(dict.fromkeys(files))
    return list(found)


def _folder_files(folder: Path, leave_out: str | os.PathLike | None, report: Callable[[UserError], None]) -> list[Path]:
    def unlisted(error: OSError) -> None:
        report(unreadable(error.filename, str(error.strerror).lower()))

    files = []
    entered = {os.path.realpath(leave_out)} - {os.path.realpath(folder)} if leave_out is not None else set()
    for parent, folders, names in os.walk(folder, onerror=unlisted, followlinks=True):
        place = os.path.realpath(parent)
        if place in entered:
            folders.clear()
            continue
        entered.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = (Path(parent, name) for name in sorted(names) if not name.startswith("."))
        files += [path for path in visible if path.suffix.lower() in AUDIO_SUFFIXES]
    if not files:
        raise UserError(f"there are no audio files in the folder {folder}")
    return files


def _named_file(path: Path) -> Path:
    probe(path)
    return path


def _open(path: str | os.PathLike, stream: int) -> Reader:
    if not os.fspath(path):
        raise UserError("the name of an audio file is empty")
    path = Path(path)
    try:
        size = os.stat(path).st_size
        if not path.is_file():
            raise unreadable(path, "it is not a file")
        with open(path, "rb"):
            pass
    except OSError as error:
        raise unreadable(path, str(error.strerror).lower()) from error
    if size == 0:
        raise unreadable(path, "it is empty (0 bytes)")
    reader = SndfileReader.open(path)
    if reader is None:
        from dsp.audio_av import AvReader  # 0.15 s that nobody pays who reads wav

        return AvReader(path, stream)
    if stream:
        reader.close()
        raise unreadable(path, f"audio stream {stream} was asked for, but it has only one")
    return reader
