"""Where the songs of a data set lie, and which split each of them belongs to."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from data.audit import Finding
from data.stems import AUDIO_SUFFIXES, stem_of_file
from runtime.errors import UserError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
    "testing": "test",
}

# `validation_tracks` of the musdb package (sigsep/sigsep-mus-db, musdb/configs/mus.yaml): by convention these fourteen
# songs of MUSDB18's training part are held back for validation.
MUSDB_VALIDATION = frozenset(
    {
        "Actions - One Minute Smile",
        "Alexander Ross - Goodbye Bolero",
        "ANiMAL - Rockshow",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Fergessen - Nos Palpitants",
        "James May - On The Line",
        "Johnny Lokke - Promises & Lies",
        "Leaf - Summerghost",
        "Meaxic - Take A Step",
        "Patrick Talbot - A Reason To Leave",
        "Skelpolu - Human Mistakes",
        "Traffic Experiment - Sirens",
        "Triviul - Angelsaint",
        "Young Griffo - Pennies",
    }
)

EXPECTED = "<dataset>/<split>/<song>/{mixture,vocal,instrumental,drums,bass,other}.wav"


@dataclass(frozen=True)
class SongFolder:
    """A folder with stems; `folder` and the values of `sources` are POSIX paths relative to the data set."""

    name: str
    split: str  # "" until a flat song is given one
    folder: str
    sources: dict[str, str]


def find_songs(dataset: Path) -> tuple[list[SongFolder], list[Finding]]:
    """All song folders of `<dataset>/<split>/<song>/` and `<dataset>/<song>/`, and what is odd about the layout.

    Names that begin with a dot are nobody's songs. UserError when there is no data set or no song in it.
    """
    if not dataset.is_dir():
        raise UserError(f"{dataset}: there is no such data set folder; run `python downloadMusdb.py` or give --dataset")
    songs: list[SongFolder] = []
    findings: list[Finding] = []
    for folder in _folders(dataset):
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is None or _has_stems(folder):
            songs += _read_folder(dataset, folder, "", findings)
        else:
            for song in _folders(folder):
                songs += _read_folder(dataset, song, split, findings)
    if not songs and not any(finding.severity == "error" for finding in findings):
        raise UserError(f"{dataset}: {_why_empty(dataset)}; songs are expected as {EXPECTED}")
    return songs, findings


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _has_stems(folder: Path) -> bool:
    return any(stem_of_file(path) for path in _files(folder))


def _read_folder(dataset: Path, folder: Path, split: str, findings: list[Finding]) -> list[SongFolder]:
    """The song in a folder, if there is one; complaints go to `findings`."""
    place = folder.relative_to(dataset).as_posix()
    if place != _printable(place):
        message = "its name is not valid UTF-8, so that no index can hold it: rename the folder"
        findings.append(Finding("error", "name", _printable(place), "", message))
        return []
    sources: dict[str, str] = {}
    for path in _files(folder):
        stem = stem_of_file(path)
        if stem is None:
            if path.suffix.lower() in AUDIO_SUFFIXES:
                name = _printable(path.name)
                findings.append(Finding("warning", "ignored", place, name, "its name is that of no known stem"))
        elif stem in sources:
            first = sources[stem].rpartition("/")[2]
            message = f"both this and {first} hold the {stem}: keep one of them"
            findings.append(Finding("error", "ambiguous", place, path.name, message))
        else:
            sources[stem] = path.relative_to(dataset).as_posix()
    if sources:
        return [SongFolder(folder.name, split, place, sources)]
    if split:
        findings.append(Finding("error", "empty", place, "", "the song's folder holds no stems"))
    elif any(_has_stems(inner) for inner in _folders(folder)):
        message = f"holds songs, but is called none of {', '.join(SPLIT_NAMES)}: they are ignored"
        findings.append(Finding("warning", "layout", place, "", message))
    return []


def _printable(name: str) -> str:
    """The name with a replacement character for each byte that is not UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _why_empty(dataset: Path) -> str:
    for _, _, names in os.walk(dataset):
        if any(name.endswith(".stem.mp4") for name in names):
            return (
                f"only MUSDB stem files; write songs from them with `python downloadMusdb.py --from-archive {dataset}`"
            )
    return "no songs"


# --------------------------------------------------------------------------------------------------------------- splits


@dataclass(frozen=True)
class SplitRule:
    """How songs without a split of their own are divided.

    `test_fraction` of the songs that lie in no split folder become the test; `valid_fraction` of the training songs the
    validation, None meaning MUSDB's fourteen validation songs where they are there, else a tenth.
    """

    test_fraction: float = 0.1
    valid_fraction: float | None = None
    seed: int = 0


def assign_splits(songs: Iterable[SongFolder], rule: SplitRule) -> tuple[list[SongFolder], list[str]]:
    """Give every song its split; the sentences say what was decided.

    The choice depends on the seed and the names of the songs only, and folders called test or valid are left alone.
    """
    songs, notes = list(songs), []
    flat = [song.name for song in songs if not song.split]
    if flat:
        has_test = any(song.split == "test" for song in songs)
        count = 0 if has_test or len(flat) < 2 else _share(len(flat), rule.test_fraction)
        chosen = _draw(flat, count, f"test {rule.seed}")
        songs = [
            song if song.split else replace(song, split="test" if song.name in chosen else "train") for song in songs
        ]
        notes.append(f"{len(flat)} songs lie in no split folder: {len(chosen)} drawn for test (seed {rule.seed})")
    if any(song.split == "valid" for song in songs):
        return songs, notes
    train = [song.name for song in songs if song.split == "train"]
    chosen = MUSDB_VALIDATION.intersection(train) if rule.valid_fraction is None else frozenset()
    if chosen:
        notes.append(f"{len(chosen)} of MUSDB's 14 validation songs taken from train for valid")
    else:
        fraction = 0.1 if rule.valid_fraction is None else rule.valid_fraction
        chosen = _draw(train, _share(len(train), fraction) if len(train) >= 5 else 0, f"valid {rule.seed}")
        if chosen:
            notes.append(f"{len(chosen)} of {len(train)} songs of train drawn for valid (seed {rule.seed})")
    songs = [replace(song, split="valid") if song.split == "train" and song.name in chosen else song for song in songs]
    return songs, notes


def _share(count: int, fraction: float) -> int:
    return min(max(1, round(count * fraction)), count - 1) if fraction > 0 else 0


def _draw(names: list[str], count: int, salt: str) -> frozenset[str]:
    """The `count` names with the lowest hashes: a new song changes the choice by at most one name."""
    return frozenset(sorted(names, key=lambda name: hashlib.sha256(f"{salt} {name}".encode()).digest())[:count])
