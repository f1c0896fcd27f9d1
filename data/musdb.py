"""MUSDB18 and data sets of its kind: where they are published, and how their songs become wav files.

Three kinds of songs are understood: Native Instruments stem files (`.stem.mp4`, five AAC streams), folders with a file
for each of the four sources (MUSDB18-HQ), and folders with `mixture`, `vocal` and `instrumental` (the two-track form).
All of them become `<root>/<split>/<song>/{mixture,vocal,instrumental,drums,bass,other}.wav`.
"""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.layout import SPLIT_NAMES
from data.stems import AUDIO_SUFFIXES, file_name, parts_of, stem_of_file
from data.workers import open_pool
from runtime import console
from runtime.errors import UserError
from runtime.files import atomic_folder, require_space

STEM_SUFFIX = ".stem.mp4"
STREAMS = ("mixture", "drums", "bass", "other", "vocals")  # order of the audio streams in a stem file
TWO_TRACKS = ("mixture", "vocals", "accompaniment")
SIX_TRACKS = (*TWO_TRACKS, "drums", "bass", "other")
BLOCK = 1 << 17  # samples per channel decoded at a time


@dataclass(frozen=True)
class Archive:
    """A published archive: mirrors of one file, its size in bytes and MD5 (the publisher, Zenodo, gives no other sum).

    `seconds` is about how long all its songs are together, `songs` how many there are.
    """

    title: str
    urls: tuple[str, ...]
    md5: str
    size: int
    seconds: int
    songs: int

    @property
    def file(self) -> str:
        return self.urls[0].rpartition("/")[2].partition("?")[0]


# Sizes and sums are those of the Zenodo records 1117372, 3338373 and 3270814; the file of the last one, the excerpts,
# is also attached to a release of the musdb package.
ARCHIVES = {
    "stems": Archive(
        "MUSDB18",
        (
            "https://zenodo.org/records/1117372/files/musdb18.zip?download=1",
            "https://zenodo.org/api/records/1117372/files/musdb18.zip/content",
        ),
        "af06762477334799bfc5abf237648207",
        4_684_228_845,
        36_000,
        150,
    ),
    "hq": Archive(
        "MUSDB18-HQ",
        (
            "https://zenodo.org/records/3338373/files/musdb18hq.zip?download=1",
            "https://zenodo.org/api/records/3338373/files/musdb18hq.zip/content",
        ),
        "12d4f2ecd55245a4688754dd76363103",
        22_656_664_047,
        36_000,
        150,
    ),
    "sample": Archive(
        "MUSDB18, excerpts of seven seconds",
        (
            "https://github.com/sigsep/sigsep-mus-db/releases/download/v0.4.0/MUSDB18-7-STEMS.zip",
            "https://zenodo.org/records/3270814/files/MUSDB18-7-STEMS.zip?download=1",
        ),
        "dc2bdfac5b46ce742bd60009866758a5",
        147_209_385,
        980,
        144,
    ),
}


@dataclass(frozen=True)
class SourceSong:
    """A song as it was published: `files` maps stems to (file, audio stream). `split` is "" when no folder says it."""

    name: str
    split: str
    files: dict[str, tuple[Path, int]]

    def target(self, root: Path) -> Path:
        return root / self.split / self.name


@dataclass
class Outcome:
    """What happened to the songs. `floats` names tracks that pass full scale and were written as 32-bit float."""

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    floats: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


# -------------------------------------------------------------------------------------------------------- finding songs


def find_sources(folder: Path) -> list[SourceSong]:
    """All songs below a folder. The split of a song is the nearest folder above it that is called train, valid or test.

    UserError when there are none, or when two songs would be written to the same place.
    """
    songs: dict[tuple[str, str], SourceSong] = {}
    for path in sorted(folder.rglob("*")):
        song = _source_song(folder, path)
        if song is None:
            continue
        if (song.split, song.name) in songs:
            raise UserError(f"{folder}: the song {song.name!r} is there twice; remove one of them")
        songs[song.split, song.name] = song
    if not songs:
        raise UserError(f"{folder}: neither {STEM_SUFFIX} files nor folders with mixture.wav and stems were found")
    return list(songs.values())


def _source_song(folder: Path, path: Path) -> SourceSong | None:
    if any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts):
        return None
    split = _split_of(folder, path.parent)
    if path.is_file():
        if not path.name.endswith(STEM_SUFFIX):
            return None
        return SourceSong(path.name[: -len(STEM_SUFFIX)], split, {stem: (path, k) for k, stem in enumerate(STREAMS)})
    if not path.is_dir():  # a link to nowhere, a pipe
        return None
    tracks = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    files = {stem: (file, 0) for file in tracks if (stem := stem_of_file(file))}
    return SourceSong(path.name, split, files) if "mixture" in files and len(files) > 1 else None


def _split_of(folder: Path, parent: Path) -> str:
    while True:
        if parent.name.lower() in SPLIT_NAMES:
            return SPLIT_NAMES[parent.name.lower()]
        if parent == folder:
            return ""
        parent = parent.parent


# -------------------------------------------------------------------------------------------------------------- writing


def expected_tracks(song: SourceSong, two_track: bool) -> tuple[str, ...]:
    """Stems that a finished folder of this song holds. UserError when it lacks vocals or a way to its accompaniment."""
    wanted = TWO_TRACKS if two_track else tuple(dict.fromkeys((*SIX_TRACKS, *song.files)))
    lacking = [stem for stem in TWO_TRACKS if parts_of(stem, song.files) is None]
    if lacking:
        raise UserError(f"{song.name}: there is no {' and no '.join(map(file_name, lacking))}")
    return tuple(stem for stem in wanted if parts_of(stem, song.files) is not None)


def track_files(song: SourceSong, root: Path, two_track: bool) -> list[Path] | None:
    """Files of the finished song, None when it is not there. Folders appear whole, so that names suffice."""
    target = song.target(root)
    there = {stem_of_file(path): path for path in target.iterdir()} if target.is_dir() else {}
    wanted = expected_tracks(song, two_track)
    return [there[stem] for stem in wanted] if set(wanted) <= there.keys() else None


def bytes_needed(song: SourceSong, two_track: bool, link: bool) -> int:
    """Bytes that the song will take as 16-bit wav files, without the files that are only linked."""
    from dsp import audio

    path, stream = song.files["mixture"]
    info = audio.probe(path, stream=stream)
    tracks = [stem for stem in expected_tracks(song, two_track) if not link or _must_decode(song, stem)]
    return info.frames * info.channels * 2 * len(tracks)


def write_song(song: SourceSong, root: Path, two_track: bool, link: bool) -> list[str]:
    """Write one song; its folder appears when all tracks are there. Returns the tracks that became 32-bit float.

    Tracks that are files already are copied as they are (hard links with `link`). Decoded tracks and sums become 16-bit
    wav unless a sample passes full scale: then the track is written as 32-bit float, since clipping it would break the
    sum of the stems.
    """
    target = song.target(root)
    _require_own(target, expected_tracks(song, two_track))
    floats = []
    with atomic_folder(target, replace=True) as temporary:
        decoded = [stem for stem in expected_tracks(song, two_track) if _must_decode(song, stem)]
        loud = _write_tracks(song, decoded, temporary, "wav16")
        if loud:
            _write_tracks(song, loud, temporary, "float32")
            floats = [f"{song.name}/{file_name(stem)}" for stem in loud]
        for stem in expected_tracks(song, two_track):
            if stem not in decoded:
                source = song.files[stem][0]
                place = temporary / f"{file_name(stem)}{source.suffix.lower()}"
                _link(source, place) if link else shutil.copyfile(source, place)
    return floats


def _require_own(target: Path, stems: tuple[str, ...]) -> None:
    """UserError when a folder that is about to be replaced holds anything that is not written anew."""
    names = {file_name(stem) for stem in stems}
    for path in sorted(target.iterdir()) if target.is_dir() else [target] if target.exists() else []:
        if path.stem not in names or path.suffix.lower() not in AUDIO_SUFFIXES:
            raise UserError(f"{target} is in the way: it holds {path.name}; move that folder away")


def _link(source: Path, place: Path) -> None:
    """A second name for a file; a copy where the file system knows no such thing."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copyfile(source, place)


def _must_decode(song: SourceSong, stem: str) -> bool:
    return stem not in song.files or song.files[stem][0].suffix.lower() not in AUDIO_SUFFIXES


def _write_tracks(song: SourceSong, stems: list[str], folder: Path, form: str) -> list[str]:
    """Decode side by side and write `stems`; returns those that would clip in 16 bits."""
    from dsp import audio

    if not stems:
        return []
    parts = {stem: parts_of(stem, song.files) for stem in stems}
    needed = sorted({part for group in parts.values() for part in group})
    loud = set()
    with ExitStack() as stack:
        first = song.files[needed[0]]
        info = audio.probe(first[0], stream=first[1])
        writers = {
            stem: stack.enter_context(
                audio.AudioWriter(folder / f"{file_name(stem)}.wav", info.sample_rate, info.channels, format=form)
            )
            for stem in stems
        }
        for blocks in _side_by_side(song, needed):
            for stem, writer in writers.items():
                track = np.sum([blocks[part] for part in parts[stem]], axis=0, dtype=np.float32)
                if track.size and (track.max() > 32767 / 32768 or track.min() < -1):
                    loud.add(stem)
                writer.write(track)
    return sorted(loud) if form == "wav16" else []


def _side_by_side(song: SourceSong, stems: list[str]) -> Iterator[dict[str, np.ndarray]]:
    """Blocks `[C, n]` of several tracks at once; UserError when they differ in length or channels."""
    from dsp import audio

    readers = [audio.blocks(path, BLOCK, stream=stream) for path, stream in (song.files[stem] for stem in stems)]
    while True:
        blocks = [next(reader, None) for reader in readers]
        if all(block is None for block in blocks):
            return
        if len({None if block is None else block.shape for block in blocks}) > 1:
            raise UserError(f"{song.name}: {', '.join(stems)} differ in length or channels")
        yield dict(zip(stems, blocks, strict=True))


def write_songs(songs: list[SourceSong], root: Path, two_track: bool, link: bool, jobs: int) -> Outcome:
    """Write all songs that are not there yet, in several processes. A song that fails does not stop the others."""
    outcome, todo, need = Outcome(), [], 0
    for song in songs:
        try:
            if track_files(song, root, two_track):
                outcome.kept.append(song.name)
            else:
                need += bytes_needed(song, two_track, link)
                todo.append(song)
        except UserError as error:
            outcome.failed[song.name] = str(error)
    require_space(root, need, f"writing {len(todo)} songs")
    with console.progress(len(todo), "writing songs", "song") as bar:
        for song, floats, problem in _run(todo, root, two_track, link, jobs):
            if problem:
                outcome.failed[song.name] = problem
            else:
                outcome.written.append(song.name)
                outcome.floats += floats
            bar.update()
    return outcome


def _run(songs: list[SourceSong], root: Path, two_track: bool, link: bool, jobs: int):
    if jobs <= 1 or len(songs) <= 1:
        for song in songs:
            yield song, *_attempt(song, root, two_track, link)
        return
    with open_pool(min(jobs, len(songs))) as pool:
        futures = {pool.submit(_attempt, song, root, two_track, link): song for song in songs}
        try:
            for future in as_completed(futures):
                yield futures[future], *future.result()
        except BrokenProcessPool:
            raise UserError("a process that wrote songs was killed, perhaps for want of memory: use -j 1") from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _attempt(song: SourceSong, root: Path, two_track: bool, link: bool) -> tuple[list[str], str]:
    try:
        return write_song(song, root, two_track, link), ""
    except UserError as error:
        return [], str(error)
