"""The cache of training material: which file belongs to which song, and how the files are made.

``<root>/<kind>-<specification>/<key>.cache`` holds one song, its magnitudes or its waveforms. The key is a hash of the
song's content fingerprint, the specification and the format version: a song that changed, or another specification, has
another file, so a stale entry is never used. Songs with the same content share a file.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from data import cache_file
from data.cache_file import CacheFile
from data.chunks import CacheSpec, content, length_of, plan_chunks
from data.index import Index, Song
from data.payload import PAYLOADS
from data.workers import Failure, run_songs
from runtime.console import detail, log, progress, warn
from runtime.errors import UserError
from runtime.files import alone, readable, remove_leftovers, require_space, require_writable

SUFFIX = ".cache"
TABLE_BYTES = 4096  # more than the table of a usual song takes; only for the estimate


@dataclass
class BuildReport:
    """What `build` did: names of songs, bytes of the files there are now, seconds.

    ``failed`` has the songs that could not be cached, with the reason; the command's exit status is then not zero.
    ``lacking`` are songs without all stems, ``too_short`` those without a single STFT frame: they are left out.
    """

    folder: Path
    built: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    rebuilt: list[str] = field(default_factory=list)
    too_short: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    removed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    size: int = 0
    seconds: float = 0.0

    @property
    def status(self) -> int:
        return 1 if self.failed else 0

    def lines(self) -> list[str]:
        """The report in sentences, failures last."""
        counts = (
            (len(self.built), "songs cached"),
            (len(self.kept), "were there"),
            (len(self.rebuilt), "damaged ones made anew"),
            (self.removed, "files of songs that changed or left removed"),
        )
        said = [", ".join(f"{count} {what}" for count, what in counts if count)]
        for names, why in ((self.lacking, "do not have all stems"), (self.too_short, "are shorter than one frame")):
            if names:
                said.append(f"{len(names)} songs {why} and are left out: {', '.join(names)}")
        said += [f"not cached: {song}: {reason}" for song, reason in self.failed.items()]
        return [*filter(None, said), f"{self.folder} holds {readable(self.size)}; {self.seconds:.1f} s"]


def folder_of(root: str | Path, spec: CacheSpec) -> Path:
    """Folder in the cache for one specification."""
    text = json.dumps([cache_file.VERSION, spec.as_dict()], sort_keys=True)
    return Path(root) / f"{spec.kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def path_of(root: str | Path, song: Song, spec: CacheSpec) -> Path:
    """File in the cache for one song."""
    return folder_of(root, spec) / f"{_key(song, spec)}{SUFFIX}"


def _key(song: Song, spec: CacheSpec) -> str:
    content = [song.fingerprint, sorted(song.sources), song.frames, song.sample_rate, song.channels]
    text = json.dumps([cache_file.VERSION, spec.as_dict(), content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def estimate(song: Song, spec: CacheSpec) -> int:
    """Bytes that the file of a song takes, never less than it does."""
    values = len(spec.tracks) * spec.channels * spec.bins
    chunks = plan_chunks(song, spec)
    payload = sum(chunk.frames for chunk in chunks) * values * PAYLOADS[spec.payload].bytes_per_value
    return payload + len(chunks) * 2 * cache_file.ALIGNMENT + TABLE_BYTES + 256 * len(chunks) * len(spec.tracks)


def open_song(root: str | Path, song: Song, spec: CacheSpec) -> CacheFile:
    """The cached song; UserError, with the remedy, if it is not there, damaged, or not what the index tells."""
    path = path_of(root, song, spec)
    cached = CacheFile(path)
    planned = [(chunk.start, chunk.frames) for chunk in plan_chunks(song, spec)]
    if cached.about.get("key") != _key(song, spec) or [(e.start, e.shape[2]) for e in cached.chunks] != planned:
        raise cache_file.damaged(path, "it belongs to other audio or other settings")
    return cached


def build(
    index: Index,
    spec: CacheSpec,
    root: str | Path,
    songs: Sequence[Song] | None = None,
    processes: int | None = None,
) -> BuildReport:
    """Cache ``songs`` (default: all of the index) that are not cached yet, and check the files that are there.

    A song that fails is reported and the others are done. Interrupted, it goes on with the next song when it is called
    again. Files of this data set that no song of the index needs any more are removed. ``processes`` is one for each
    processor if not given. UserError: no usable song, no space, folder not writable, or in use by another process.
    """
    songs = list(index.songs if songs is None else songs)
    started, report = time.monotonic(), BuildReport(folder_of(root, spec))
    usable = _usable(index, songs, spec, report)
    require_writable(report.folder)
    with alone(report.folder, f"{report.folder}: another process is filling this cache; wait for it to end") as locked:
        if locked:  # else others may be writing here, too; that does no harm, since a file appears whole or not at all
            remove_leftovers(report.folder)
        report.removed = _remove_orphans(index, spec, root)
        missing = _missing(usable, spec, root, report)
        size = sum(estimate(song, spec) for song in missing)
        log(f"cache: {len(missing)} of {len(usable)} songs to do, about {readable(size)} in {report.folder}")
        require_space(report.folder, size, f"caching {len(missing)} songs")
        if missing:
            _build(index, spec, root, missing, report, processes or len(os.sched_getaffinity(0)))
        report.size = sum(path.stat().st_size for path in report.folder.glob(f"*{SUFFIX}"))
    report.seconds = time.monotonic() - started
    return report


def fill(index: Index, spec: CacheSpec, root: str | Path, songs: Sequence[Song], processes: int | None = None) -> None:
    """Cache what of ``songs`` is not cached yet and say so; a moment if nothing is missing. Otherwise as `build`.

    Raises:
        UserError: a song cannot be cached
    """
    if all(path_of(root, song, spec).exists() for song in songs):
        return
    report = build(index, spec, root, songs, processes)
    for line in report.lines():
        log(line)
    if report.failed:
        name, reason = next(iter(report.failed.items()))
        raise UserError(f"{len(report.failed)} songs could not be cached, first {name}: {reason}")


def _usable(index: Index, songs: list[Song], spec: CacheSpec, report: BuildReport) -> list[Song]:
    """Songs that have all stems and at least one frame; of songs with the same content the first."""
    usable: dict[str, Song] = {}
    for song in songs:
        if not all(song.has(stem) for stem in spec.tracks):
            report.lacking.append(song.name)
        elif not plan_chunks(song, spec):
            report.too_short.append(song.name)
        else:
            usable.setdefault(_key(song, spec), song)
    if not usable:
        raise UserError(
            f"{index.path or index.root}: none of {len(songs)} songs can be cached: {len(report.lacking)} do not have "
            f"all of {', '.join(spec.tracks)}, {len(report.too_short)} are shorter than {spec.frame_length} samples"
        )
    return list(usable.values())


def _missing(songs: list[Song], spec: CacheSpec, root: str | Path, report: BuildReport) -> list[Song]:
    """Songs that have to be cached. Files that are there are read once, to find those that were damaged since."""
    there, missing = [], []
    for song in songs:
        (there if path_of(root, song, spec).exists() else missing).append(song)
    check = partial(_check_song, spec=spec, root=root)
    with progress(len(there), "checking", "song") as bar:
        for song, result in run_songs(check, there, 1):
            bar.update(1)
            if isinstance(result, Failure):
                warn(f"{path_of(root, song, spec)}, the cache of {song.name}, is damaged: it is made anew")
                report.rebuilt.append(song.name)
                missing.append(song)
            else:
                report.kept.append(song.name)
    return missing


def _build(
    index: Index, spec: CacheSpec, root: str | Path, missing: list[Song], report: BuildReport, processes: int
) -> None:
    again = set(report.rebuilt)
    work = partial(_build_song, place=(index.root, index.path), spec=spec, root=root)
    with progress(len(missing), "caching", "song") as bar:
        for song, result in run_songs(work, missing, processes):
            bar.update(1)
            if isinstance(result, Failure):
                warn(f"{song.name}: {result.reason}")
                detail(result.trace)
                report.failed[song.name] = result.reason
            elif song.name not in again:
                report.built.append(song.name)
    report.rebuilt = [name for name in report.rebuilt if name not in report.failed]


def _check_song(song: Song, spec: CacheSpec, root: str | Path) -> None:
    open_song(root, song, spec).verify()


def _build_song(song: Song, place: tuple[Path, Path | None], spec: CacheSpec, root: str | Path) -> int:
    """Make the file of one song, in any process; its size in bytes."""
    index = Index(place[0], (song,), place[1])
    changed = index.changed(song)
    if changed:
        raise UserError(f"{changed[0]} changed since the index was made; run `python preprocess.py` again")
    chunks = plan_chunks(song, spec)
    about = {
        "key": _key(song, spec),
        "song": song.name,
        "fingerprint": song.fingerprint,
        "dataset": _dataset(index),
        "samples": length_of(song, spec),
        "tracks": list(spec.tracks),
        "specification": spec.as_dict(),
    }
    arrays = ((chunk.start, content(index, song, spec, chunk.start, chunk.frames)) for chunk in chunks)
    return cache_file.write(path_of(root, song, spec), about, spec.payload, arrays)


def _dataset(index: Index) -> str:
    return os.fspath(Path(index.root).resolve())


def _remove_orphans(index: Index, spec: CacheSpec, root: str | Path) -> int:
    """Remove files of this data set that no song of its index needs any more; those of other data sets stay."""
    folder, needed = folder_of(root, spec), {path_of(root, song, spec).name for song in index.songs}
    removed = 0
    for path in folder.glob(f"*{SUFFIX}"):
        if path.name in needed:
            continue
        try:
            about = CacheFile(path).about
        except UserError as error:
            warn(f"{error}; no song of this data set needs it, it is left alone")
            continue
        if about.get("dataset") == _dataset(index):
            path.unlink()
            removed += 1
    return removed
