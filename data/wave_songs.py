"""The songs that a waveform network learns from, and the level of each of their mixtures.

A data set is an indexed one (`index.jsonl`), or folders of files that are named after the sources: `<root>/train/…` and
`<root>/valid/…`, at any depth. What has been measured is kept in a small JSON file, together with size and time of
every audio file: what changed, was added or removed since then is noticed without decoding the rest again.
"""

import hashlib
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from data.index import INDEX_NAME, Index, Song, file_stat, read_index
from data.layout import MUSDB_VALIDATION, SongFolder, SplitRule, assign_splits
from data.musdb import STEM_SUFFIX
from data.stems import AUDIO_SUFFIXES, canonical
from runtime.console import log, progress, warn
from runtime.errors import UserError
from runtime.files import read_json, require_writable, write_json

FORMAT = "paddlestems-metadata"
VERSION = 1
BLOCK = 1 << 18  # samples per channel decoded at a time
THREADS = 8
SILENCE = 1e-6  # standard deviation below which a mixture cannot be normalised


@dataclass(frozen=True)
class Measure:
    """A song's length in samples, rate in Hz and channels; mean and standard deviation of its mono mixture."""

    length: int
    samplerate: int
    channels: int
    mean: float
    std: float


@dataclass(frozen=True)
class MeasuredSong:
    """A song and the level of its mono mixture."""

    song: Song
    mean: float
    std: float


@dataclass(frozen=True)
class Collection:
    """The songs of one data set; `index` is what they are read through."""

    index: Index
    songs: tuple[MeasuredSong, ...]

    def split(self, name: str) -> list[MeasuredSong]:
        return [measured for measured in self.songs if measured.song.split == name]


def collect(root: str | Path, kind: str, sources: Sequence[str], metadata: str | Path) -> Collection:
    """All training and validation songs of a data set, measured.

    Args:
        root: an indexed data set, its index file, or a folder with ``train`` and ``valid``
        kind: ``musdb``, where the validation songs are those fourteen of ``train`` that MUSDB18 holds back (and what
            lies in ``valid``, if there is such a folder); or ``wav``
        sources: names of the files without suffix, in any spelling that `data.stems` knows
        metadata: folder of the file ``<kind>_<first 8 digits of the SHA-1 of root>.json``

    Raises:
        UserError: no such data set, no songs, or a song with a file that is missing, unreadable or of another length
    """
    root, names = Path(root), [spelled(source) for source in sources]
    record = Path(metadata) / f"{kind}_{hashlib.sha1(os.fspath(root).encode()).hexdigest()[:8]}.json"
    if root.suffix == ".jsonl" or (root / INDEX_NAME).is_file():
        return _indexed(read_index(root), names, record)
    found = _found(root, kind, names)
    if not found:
        raise UserError(_nothing(root, names))
    measures = _measures(root, found, record)
    kept = [song for song in found if _is_loud(song.folder, measures[song.folder])]
    songs = tuple(_measured(root, song, measures[song.folder]) for song in kept)
    return Collection(Index(root, tuple(measured.song for measured in songs)), songs)


def test_songs(root: str | Path, sources: Sequence[str]) -> tuple[Index, list[Song]]:
    """The test songs of a data set: those of its index, or of the folder ``test``; an empty list without any."""
    root, names = Path(root), [spelled(source) for source in sources]
    if root.suffix == ".jsonl" or (root / INDEX_NAME).is_file():
        index = read_index(root)
        return index, [song for song in index.split("test") if all(map(song.has, names))]
    folder = root / "test"  # a data set of its own, so that the cache does not take the other songs for it
    if not folder.is_dir():
        return Index(folder, ()), []
    found = _songs_below(folder, folder, "test", names)
    if not found:
        raise UserError(_nothing(folder, names))
    with ThreadPoolExecutor(THREADS) as pool:
        measures = list(pool.map(lambda song: _measure(folder, song.sources, level=False), found))
    songs = [_measured(folder, song, measure).song for song, measure in zip(found, measures, strict=True)]
    return Index(folder, tuple(songs)), songs


def folder_index(root: str | Path, sources: Sequence[str], known: Mapping[str, Song] | None = None) -> Index:
    """The songs in ``train``, ``valid`` and ``test`` of a folder without an index; their levels are not measured.

    Training songs are held back for validation as `data.layout.assign_splits` says. ``known`` has songs by folder, as
    an earlier look found them: those whose files are unchanged are not probed again. Raises as `collect` does.
    """
    root, names, known = Path(root), [spelled(source) for source in sources], known or {}
    parts = [folder for folder in ("train", "valid", "test") if (root / folder).is_dir()]
    if not parts and not any(root.rglob(f"*{STEM_SUFFIX}")):
        raise UserError(
            f"{root}: there is no folder `train` with songs and no {INDEX_NAME}; "
            f"make one with `python preprocess.py --dataset {shlex.quote(os.fspath(root))}`"
        )
    found = [song for folder in parts for song in _songs_below(root, root / folder, folder, names)]
    if not found:
        raise UserError(_nothing(root, names))
    found, notes = assign_splits(found, SplitRule())
    for note in notes:
        log(note)

    def song_of(folder: SongFolder) -> Song:
        old = known.get(folder.folder)
        stat = {path: file_stat(root / path) for path in folder.sources.values()}
        if old is not None and (old.sources, old.stat) == (folder.sources, stat):
            return replace(old, name=folder.name, split=folder.split)
        return _measured(root, folder, _measure(root, folder.sources, level=False)).song

    with ThreadPoolExecutor(THREADS) as pool:
        return Index(root, tuple(pool.map(song_of, found)))


def spelled(source: str) -> str:
    """The name of a source as the program spells it; a source that only the data set knows keeps its own."""
    return canonical(source) or source


# -------------------------------------------------------------------------------------------------------------- finding


def _found(root: Path, kind: str, sources: list[str]) -> list[SongFolder]:
    if not (root / "train").is_dir():
        raise UserError(f"{root}: there is no folder `train` with songs and no {INDEX_NAME}; check dset.{kind}")
    train = _songs_below(root, root / "train", "train", sources)
    valid = _songs_below(root, root / "valid", "valid", sources) if (root / "valid").is_dir() else []
    if kind == "musdb":
        held_back = [SongFolder(s.name, "valid", s.folder, s.sources) for s in train if s.name in MUSDB_VALIDATION]
        train, valid = [song for song in train if song.name not in MUSDB_VALIDATION], held_back + valid
    return train + valid


def _nothing(root: Path, sources: list[str]) -> str:
    if any(root.rglob(f"*{STEM_SUFFIX}")):
        return f"{root}: MUSDB stem files; write songs from them with `python downloadMusdb.py --from-archive {root}`"
    return f"{root}: no songs; a song is a folder with {', '.join(f'{source}.wav' for source in sources)}"


def _songs_below(root: Path, folder: Path, split: str, sources: list[str]) -> list[SongFolder]:
    """The songs in the leaves below a folder, sorted by name; hidden folders and those without any source left out."""
    songs, entered = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(place) in entered:
            folders.clear()
            continue
        entered.add(os.path.realpath(place))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        leaf = Path(place)
        if folders and _has_sources(files, sources):
            warn(f"{leaf}: its files are left out, because a song is a folder without folders in it, as {folders[0]}")
        if not folders and leaf != folder:
            paths = _source_files(leaf, files, sources)
            if paths:
                relative = {source: path.relative_to(root).as_posix() for source, path in paths.items()}
                name = leaf.relative_to(folder).as_posix()
                songs.append(SongFolder(name, split, leaf.relative_to(root).as_posix(), relative))
    return songs


def _has_sources(files: list[str], sources: list[str]) -> bool:
    paths = [Path(name) for name in files]
    return any(path.suffix.lower() in AUDIO_SUFFIXES and spelled(path.stem) in sources for path in paths)


def _source_files(folder: Path, files: list[str], sources: list[str]) -> dict[str, Path]:
    """The files of the sources and, where there is one, of the mixture. Of several for one source wav comes first."""
    there: dict[str, Path] = {}
    for suffix in AUDIO_SUFFIXES:
        for name in sorted(files):
            path = folder / name
            if path.suffix.lower() == suffix and not name.startswith("."):
                there.setdefault(spelled(path.stem), path)
    missing = [source for source in sources if source not in there]
    if len(missing) == len(sources):
        return {}
    if missing:
        raise UserError(f"{folder}: there is no {missing[0]}{AUDIO_SUFFIXES[0]}; every song needs {', '.join(sources)}")
    return {source: there[source] for source in (*sources, "mixture") if source in there}


# ------------------------------------------------------------------------------------------------------------ measuring


def _indexed(index: Index, sources: list[str], record: Path) -> Collection:
    """The songs of an index that have all sources; length and rate are known, the level is measured."""
    usable = [song for split in ("train", "valid") for song in index.split(split) if all(map(song.has, sources))]
    if not usable:
        raise UserError(f"{index.path}: no song for training or validation has all of {', '.join(sources)}")
    for song in usable:
        changed = index.changed(song)
        if changed:
            raise UserError(f"{changed[0]} changed since the index was made; run `python preprocess.py` again")
    wanted = [{part: song.sources[part] for part in song.parts("mixture")} for song in usable]
    found = [SongFolder(song.name, song.split, song.folder, files) for song, files in zip(usable, wanted, strict=True)]
    measures = _measures(index.root, found, record)
    songs = [
        MeasuredSong(song, measures[song.folder].mean, measures[song.folder].std)
        for song in usable
        if _is_loud(song.folder, measures[song.folder])
    ]
    return Collection(index, tuple(songs))


def _measures(root: Path, found: list[SongFolder], record: Path) -> dict[str, Measure]:
    """What is known of each song by its folder: from the record as far as the files are unchanged, else measured."""
    known = _read(record)
    rows: dict[str, dict] = {}
    missing = []
    for song in found:
        files = {path: list(file_stat(root / path) or ()) for path in sorted(song.sources.values())}
        row = known.get(song.folder)
        if row is not None and row.get("files") == files:
            rows[song.folder] = row
        else:
            missing.append((song, files))
    changed = bool(missing) or known.keys() != rows.keys()
    if changed:
        require_writable(record.parent)  # before songs are decoded for minutes
    if missing:
        for (song, files), measure in zip(missing, _measure_all(root, [song for song, _ in missing]), strict=True):
            rows[song.folder] = {**asdict(measure), "files": files}
    if changed:
        songs = {song.folder: rows[song.folder] for song in found}
        write_json(record, {"format": FORMAT, "version": VERSION, "root": os.fspath(root), "songs": songs})
    names = Measure.__dataclass_fields__
    return {folder: Measure(**{name: row[name] for name in names}) for folder, row in rows.items()}


def _read(record: Path) -> dict[str, dict]:
    """Rows of an earlier look, by song folder. Another program's file, or a damaged one, says nothing."""
    try:
        known = read_json(record) if record.is_file() else {}
    except UserError as error:
        warn(f"{error}; the songs are measured again")
        return {}
    if not isinstance(known, dict) or known.get("format") != FORMAT or known.get("version") != VERSION:
        return {}
    return known["songs"]


def _measure_all(root: Path, songs: list[SongFolder]) -> list[Measure]:
    """The measures of songs in their order. Threads suffice: decoding and sums leave Python's lock alone."""
    measure: Callable[[SongFolder], Measure] = partial(_measure_song, root)
    threads = min(THREADS, len(os.sched_getaffinity(0)), len(songs))
    with ThreadPoolExecutor(threads) as pool, progress(len(songs), "measuring", "song") as bar:
        measures = []
        for row in pool.map(measure, songs):
            measures.append(row)
            bar.update(1)
    return measures


def _measure_song(root: Path, song: SongFolder) -> Measure:
    return _measure(root, song.sources)


def _measure(root: Path, sources: dict[str, str], level: bool = True) -> Measure:
    """Length, rate and channels, which all files of a song must share, and the level of the mixture if asked for."""
    from dsp import audio

    infos = {path: audio.probe(root / path, count=True) for path in sources.values()}
    first, *rest = infos
    facts = infos[first].frames, infos[first].sample_rate, infos[first].channels
    for path in rest:
        other = infos[path].frames, infos[path].sample_rate, infos[path].channels
        if other != facts:
            say = "{} samples at {} Hz in {} channels".format
            raise UserError(f"{root / path} has {say(*other)}, but {first} of the same song {say(*facts)}")
    mean, std = _level(root, sources) if level else (0.0, 1.0)
    return Measure(*facts, mean, std)


def _level(root: Path, sources: dict[str, str]) -> tuple[float, float]:
    """Mean and standard deviation (with n - 1) of the mono mixture, which is a file or the sum of all files."""
    from dsp import audio

    paths = [sources["mixture"]] if "mixture" in sources else list(sources.values())
    count, total, squares = 0, 0.0, 0.0
    for blocks in zip(*(audio.blocks(root / path, BLOCK) for path in paths), strict=True):
        mono = sum(block.mean(axis=0, dtype=np.float64) for block in blocks)
        count, total, squares = count + len(mono), total + float(mono.sum()), squares + float(mono @ mono)
    if not np.isfinite(squares):
        raise UserError(f"{root / paths[0]}: has values that are no audio (NaN or infinite)")
    mean = total / max(count, 1)
    return mean, float(np.sqrt(max(squares - count * mean * mean, 0.0) / max(count - 1, 1)))


def _is_loud(folder: str, measure: Measure) -> bool:
    if measure.std < SILENCE:
        warn(f"{folder}: its mixture is silent, it is left out")
    return measure.std >= SILENCE


def _measured(root: Path, song: SongFolder, measure: Measure) -> MeasuredSong:
    stat = {path: file_stat(root / path) for path in song.sources.values()}
    content = "".join(f"{path} {stat[path]}\n" for path in sorted(stat))
    fingerprint = hashlib.sha256(f"{root.resolve()}\n{content}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
    facts = measure.length, measure.samplerate, measure.channels
    known = Song(song.name, song.split, song.folder, song.sources, *facts, fingerprint, stat)
    return MeasuredSong(known, measure.mean, measure.std)
