"""Lists of the stretches in which a source sounds: the files ``{target}_{train|valid|test}.txt``.

A line is ``TRACK<tab>START<tab>END``, in samples at the rate of the detector, as amanteur/BandSplitRNN-Pytorch writes
it. Beside the lists of a target lies ``{target}_activity.jsonl``, from which the next run takes the songs that have not
changed since.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from data.activity import Activity, song_starts
from data.index import Index, Song
from data.workers import Failure, run_songs
from runtime.console import detail, progress, warn
from runtime.errors import UserError
from runtime.files import atomic_write, require_writable

FORMAT = "paddlestems-activity"
VERSION = 1


class Stretch(NamedTuple):
    """A part of a song, from sample ``start`` up to, and without, ``stop``."""

    song: str
    start: int
    stop: int


@dataclass(frozen=True)
class Written:
    """A list that was written: how many lines it has, and how many songs it is made from."""

    path: Path
    lines: int
    songs: int


@dataclass
class Report:
    """What `write_lists` did for one target.

    ``heard`` songs were read and ``known`` ones not; ``lacking`` have no such stem, ``too_short`` are shorter than a
    window: they are left out.
    """

    target: str
    lists: list[Written] = field(default_factory=list)
    heard: int = 0
    known: int = 0
    lacking: list[str] = field(default_factory=list)
    too_short: list[str] = field(default_factory=list)


def list_path(folder: str | Path, target: str, split: str) -> Path:
    """Where the list of a target and a split of the data set lies."""
    return Path(folder) / f"{target}_{split}.txt"


def read_list(path: str | Path) -> list[Stretch]:
    """The stretches of a list in its order.

    Raises:
        UserError: the file is missing or has a line that is not ``TRACK<tab>START<tab>END``
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such list; make it with `run_scripts/run_bsrnn.py -m prepare`") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a list of stretches, it is not even text") from None
    return [_stretch(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _stretch(path: str | Path, number: int, line: str) -> Stretch:
    try:
        song, start, stop = line.rstrip("\r").split("\t")
        stretch = Stretch(song, int(start), int(stop))
    except ValueError:
        stretch = None
    if stretch is None or not 0 <= stretch.start < stretch.stop:
        raise UserError(f"{path}, line {number}: not a song, its first and its last sample with tabs between them")
    return stretch


def write_lists(
    index: Index,
    folder: str | Path,
    target: str,
    splits: Sequence[str],
    activity: Activity,
    processes: int | None = None,
) -> Report:
    """Write the lists of one target for some splits of a data set; nothing else changes it.

    Songs that an earlier run has heard, and that have not changed since, are not read again; nor are those that were
    done before a run was interrupted. ``processes`` is one for each processor if not given.

    Raises:
        UserError: songs that changed since the index was made or that cannot be read, no song with the target, a
            folder that cannot be written to; no list is written then
    """
    folder = require_writable(folder)
    report = Report(target)
    songs = _usable(index, target, splits, activity, report)
    record = folder / f"{target}_activity.jsonl"
    known = _read_record(record, activity)
    unknown = [song for song in songs if song.fingerprint not in known]
    report.heard, report.known = len(unknown), len(songs) - len(unknown)
    if unknown:
        _hear(index, unknown, target, activity, processes, known, record)
    for split in splits:
        report.lists.append(_write_list(list_path(folder, target, split), index.split(split), known, activity))
    return report


def _usable(index: Index, target: str, splits: Sequence[str], activity: Activity, report: Report) -> list[Song]:
    """Songs that have the target and at least one window; of songs with the same content the first."""
    usable: dict[str, Song] = {}
    songs = [song for split in splits for song in index.split(split)]
    for song in songs:
        changed = index.changed(song)
        if changed:
            raise UserError(f"{changed[0]} changed since the index was made; run `python preprocess.py` again")
        if "\t" in song.name or "\n" in song.name:
            raise UserError(f"{song.folder}: a list cannot hold the name of this song, rename its folder")
        if not song.has(target):
            report.lacking.append(song.name)
        elif song.frames * activity.sr // song.sample_rate < activity.window:
            report.too_short.append(song.name)
        else:
            usable.setdefault(song.fingerprint, song)
    if songs and not usable:
        raise UserError(
            f"{index.path or index.root}: of {len(songs)} songs {len(report.lacking)} have no {target} and "
            f"{len(report.too_short)} are shorter than a window of {activity.window_size_in_sec:g} s: "
            "nothing to make lists of"
        )
    return list(usable.values())


def _hear(
    index: Index,
    songs: list[Song],
    target: str,
    activity: Activity,
    processes: int | None,
    known: dict[str, list[int]],
    record: Path,
) -> None:
    """Listen to songs and remember what was heard, also when not all goes well."""
    work = partial(song_starts, index=Index(index.root, (), index.path), stem=target, activity=activity)
    failed: dict[str, str] = {}
    try:
        with progress(len(songs), f"listening for {target}", "song") as bar:
            for song, result in run_songs(work, songs, processes or len(os.sched_getaffinity(0))):
                bar.update(1)
                if isinstance(result, Failure):
                    warn(f"{song.name}: {result.reason}")
                    detail(result.trace)
                    failed[song.name] = result.reason
                else:
                    known[song.fingerprint] = result
    finally:
        there = {song.fingerprint for song in index.songs}
        _write_record(record, activity, {key: starts for key, starts in known.items() if key in there})
    if failed:
        name, reason = next(iter(failed.items()))
        raise UserError(f"{len(failed)} songs could not be heard, and no list was written; first {name}: {reason}")


def _write_list(path: Path, songs: Sequence[Song], known: Mapping[str, list[int]], activity: Activity) -> Written:
    heard = [(song, known[song.fingerprint]) for song in songs if song.fingerprint in known]
    lines = [f"{song.name}\t{start}\t{start + activity.window}\n" for song, starts in heard for start in starts]
    with atomic_write(path, "w") as handle:
        handle.writelines(lines)
    return Written(path, len(lines), sum(bool(starts) for _, starts in heard))


# --------------------------------------------------------------------------------------------------------------- record


def rate_of(path: str | Path) -> int | None:
    """Hz at which a list counts samples, by the record beside it; None without one, as for lists of other programs."""
    path = Path(path)
    record = path.with_name(f"{path.stem.rpartition('_')[0]}_activity.jsonl")
    try:
        with record.open(encoding="utf-8") as handle:
            return int(json.loads(handle.readline())["settings"]["sr"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        warn(f"{record} is damaged: it does not say at which rate {path} counts samples")
        return None


def _read_record(path: Path, activity: Activity) -> dict[str, list[int]]:
    """What was heard with the same settings, by the fingerprint of the song; a damaged record says nothing."""
    try:
        header, *rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line)
        if header != _header(activity):
            return {}
        return {row["fingerprint"]: [int(start) for start in row["starts"]] for row in rows}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        warn(f"{path} is damaged: all songs are read again")
        return {}


def _write_record(path: Path, activity: Activity, known: Mapping[str, list[int]]) -> None:
    rows = [{"fingerprint": fingerprint, "starts": starts} for fingerprint, starts in sorted(known.items())]
    with atomic_write(path, "w") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in (_header(activity), *rows))


def _header(activity: Activity) -> dict:
    return {"format": FORMAT, "version": VERSION, "settings": asdict(activity)}
