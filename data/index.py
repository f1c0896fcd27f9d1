"""The index of a data set: one line of JSON for each song, and the way from a line to samples.

`<dataset>/index.jsonl` starts with a header line (format, version, where the songs are, audit settings); every further
line is a `Song`. Paths are relative to the data set and use `/`, so that the folder can be moved. The design follows
the dataclass-per-line index of audiocraft's `audio_dataset.py`.
"""

import json
import os
import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from data.stems import ACCOMPANIMENT_PARTS, CANONICAL, canonical, parts_of
from runtime.errors import UserError

FORMAT = "paddlestems-index"
VERSION = 1
INDEX_NAME = "index.jsonl"


@dataclass(frozen=True)
class Song:
    """What is known of one song. All of its stems have the same length, rate and number of channels.

    `frames` counts samples per channel at `sample_rate` Hz; `fingerprint` is a hash of the content of all stem files;
    `stat` holds size in bytes and modification time in ns of each file when it was read.
    """

    name: str
    split: str
    folder: str
    sources: dict[str, str]
    frames: int
    sample_rate: int
    channels: int
    fingerprint: str
    stat: dict[str, tuple[int, int]]

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate

    def has(self, stem: str) -> bool:
        """Whether the stem is a file of this song or a sum of its files."""
        return self.parts(stem) is not None

    def parts(self, stem: str) -> tuple[str, ...] | None:
        """Stems with files whose sum is `stem`, None when it cannot be had; a missing mixture is the sum of all."""
        parts = parts_of(stem, self.sources)
        if parts is None and stem == "mixture":
            whole = all(part in self.sources for part in ACCOMPANIMENT_PARTS)
            return tuple(name for name in self.sources if not (whole and name == "accompaniment"))
        return parts


@dataclass(frozen=True)
class Index:
    """The songs of a data set; `root` is the folder that the relative paths start from."""

    root: Path
    songs: tuple[Song, ...]
    path: Path | None = None
    settings: dict = field(default_factory=dict)

    @cached_property
    def _by_name(self) -> dict[str, Song]:
        return {song.name: song for song in self.songs}

    def split(self, name: str) -> list[Song]:
        """Songs of one split, in the order of the index; empty when there are none."""
        return [song for song in self.songs if song.split == name]

    def splits(self) -> dict[str, int]:
        """Number of songs of each split."""
        counts: dict[str, int] = {}
        for song in self.songs:
            counts[song.split] = counts.get(song.split, 0) + 1
        return counts

    def song(self, name: str) -> Song:
        if name not in self._by_name:
            raise UserError(f"{self.path or self.root}: no song is called {name!r}")
        return self._by_name[name]

    def require(self, split: str, stems: Iterable[str] = ()) -> list[Song]:
        """Songs of a split that have (or can derive) all `stems`; UserError when no song is left."""
        stems, songs = list(stems), self.split(split)
        if not songs:
            there = ", ".join(f"{name} ({count})" for name, count in sorted(self.splits().items())) or "none"
            raise UserError(f"{self.path or self.root}: the split {split!r} has no songs; splits with songs: {there}")
        usable = [song for song in songs if all(song.has(stem) for stem in stems)]
        if not usable:
            raise UserError(f"{self.path or self.root}: no song of {split!r} has all the stems {', '.join(stems)}")
        return usable

    def file(self, song: Song, stem: str) -> Path:
        """Path of the file that holds a stem."""
        return self.root / song.sources[stem]

    def changed(self, song: Song) -> list[str]:
        """Files of the song that are gone or differ in size or time from when the index was made."""
        return [name for name, stat in song.stat.items() if file_stat(self.root / name) != tuple(stat)]


def file_stat(path: Path) -> tuple[int, int] | None:
    """Size in bytes and modification time in ns of a file, None when it is not there."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns


def index_path(path: str | Path) -> Path:
    """The index file for a data set folder or for the file itself."""
    path = Path(path)
    return path / INDEX_NAME if path.is_dir() or not path.suffix else path


def write_index(path: str | Path, root: str | Path, songs: Iterable[Song], settings: dict | None = None) -> Path:
    """Write the index atomically. `root` is stored relative to the index where it lies below it, else absolute."""
    from runtime.files import atomic_write

    path, root = index_path(path), Path(root).resolve()
    folder = path.resolve().parent
    place = root.relative_to(folder).as_posix() if root.is_relative_to(folder) else root.as_posix()
    header = {"format": FORMAT, "version": VERSION, "root": place, "settings": settings or {}}
    lines = [json.dumps(row, ensure_ascii=False) for row in (header, *map(asdict, songs))]
    with atomic_write(path) as handle:
        handle.write(("\n".join(lines) + "\n").encode())
    return path


def read_index(path: str | Path) -> Index:
    """Read an index, given its file or the data set folder.

    Raises UserError when it is missing, of another format version, or damaged (the line is named).
    """
    path = index_path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (FileNotFoundError, NotADirectoryError):
        if not path.parent.is_dir():
            remedy = "give another with --dataset, or make it: `python downloadMusdb.py`, then `python preprocess.py`"
            raise UserError(f"{path}: the data set folder does not exist; {remedy}") from None
        flag, place = ("--dataset", path.parent) if path.name == INDEX_NAME else ("--index", path)
        command = f"python preprocess.py {flag} {shlex.quote(os.fspath(place))}"
        raise UserError(f"{path}: no index; run `{command}` to make it") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not an index of songs; run `python preprocess.py` to make it") from None
    header = _parse(path, 1, lines[0] if lines else "")
    if header.get("format") != FORMAT:
        raise UserError(f"{path}: not an index of songs; run `python preprocess.py` to make it")
    if header.get("version") != VERSION:
        version = header.get("version")
        raise UserError(f"{path}: format version {version}, but this program reads {VERSION}; rerun preprocess.py")
    if not isinstance(header.get("root"), str):
        raise UserError(f"{path}, line 1: damaged; run `python preprocess.py` again")
    songs = tuple(_song(path, number, line) for number, line in enumerate(lines[1:], 2) if line.strip())
    return Index(path.parent / header["root"], songs, path, header.get("settings", {}))


def _parse(path: Path, number: int, line: str) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        row = None
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number}: damaged; run `python preprocess.py` again")
    return row


def _song(path: Path, number: int, line: str) -> Song:
    row = _parse(path, number, line)
    try:
        return Song(**{**row, "stat": {name: tuple(stat) for name, stat in row["stat"].items()}})
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path}, line {number}: damaged; run `python preprocess.py` again") from None


def load_stem(
    index: Index,
    song: Song,
    stem: str,
    start: int = 0,
    frames: int = -1,
    sample_rate: int | None = None,
    channels: int | None = None,
) -> np.ndarray:
    """Samples of one stem as float32 `[C, n]`.

    `start` and `frames` count samples at the song's own rate; -1 means up to the end, and a section that passes the
    end comes back shorter. A stem without a file is derived as the sum of its parts (accompaniment = drums + bass +
    other). With `sample_rate` the section is resampled to `round(n · sample_rate / song.sample_rate)` samples; with
    `channels` mono is duplicated (see `dsp.audio.read`). UserError for an unknown stem or one that cannot be had.
    """
    from dsp import audio, resample

    known = stem if stem in song.sources else canonical(stem)  # a data set may have stems of its own, such as guitar
    if known is None:
        raise UserError(f"unknown stem {stem!r}; known are {', '.join(CANONICAL)}")
    parts = song.parts(known)
    if parts is None:
        raise UserError(f"{song.folder}: has no {known}; its stems are {', '.join(sorted(song.sources))}")
    total: np.ndarray | None = None
    for part in parts:
        samples, _ = audio.read(index.file(song, part), start=start, frames=frames, channels=channels)
        total = samples if total is None else total + samples
    if sample_rate is not None and sample_rate != song.sample_rate:
        total = resample.resample(total, song.sample_rate, sample_rate)
    return total
