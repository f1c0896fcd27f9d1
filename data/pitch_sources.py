"""Sung audio and its pitch labels as data sets keep them: which files belong together, who sings, and who is for test.

Audio and label have the same name (`_f0` may follow in the label's) and lie side by side or in folders of their own, as
in MIR-1K (`Wavfile`, `PitchLabel`), vocadito (`Audio`, `Annotations/F0`) and MDB-stem-synth (`audio_stems`,
`annotation_stems`).
"""

import csv
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from data.layout import SPLIT_NAMES
from data.pitch_labels import SUFFIXES
from data.stems import AUDIO_SUFFIXES
from runtime.errors import UserError

# MIR-1K: songs of which the labelled clips are parts, and readings of the lyrics under the names of the clips
IGNORED = ("undividedwavfile", "lyricswav", "__macosx")
SINGERS = (
    r"^(.+)_\d+_\d+$",  # MIR-1K: singer_song_clip
    r"^([^_]+)_.+_STEM_\d+",  # MedleyDB: artist_song_STEM_number
    r"^(?:mic|lar)_([FM]\d+)_",  # PTDB-TUG: mic_speaker_sentence
)


@dataclass(frozen=True)
class Source:
    """A voice with its label. `split` is train, test or, where no folder says it, ""; `singer` is "" if unknown."""

    name: str
    audio: Path
    label: Path
    singer: str = ""
    split: str = ""

    @property
    def group(self) -> str:
        """What must not be divided between training and test: all that a singer sings, or the song alone."""
        return self.singer or f"file {self.name}"


@dataclass(frozen=True)
class Lost:
    """A file that cannot be used: the kind of reason, the file's name, and what is wrong."""

    kind: str
    name: str
    message: str


@dataclass
class Found:
    """What a folder holds."""

    sources: list[Source] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)


def find(folder: Path, singer: str | None = None) -> Found:
    """All voices with labels below a folder, and what has no counterpart.

    Args:
        folder: is only read
        singer: regular expression, searched in the path of the audio file below `folder`; its first group names who
            sings. Without it the names of known data sets tell.

    Raises:
        UserError: no such folder, nothing in it, or no regular expression with a group
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder of audio files and pitch labels")
    files = [path for path in sorted(_walk(folder)) if path.is_file()]
    labels: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() in SUFFIXES:
            labels[path.stem].append(path)
            if path.stem.endswith("_f0"):
                labels[path.stem[:-3]].append(path)
    voices = [path for path in files if path.suffix.lower() in AUDIO_SUFFIXES]
    if not voices:
        raise UserError(f"{folder} holds no audio files")
    found, names = Found(), _names(voices, folder)
    who, used = _Singers(folder, files, singer), set()
    for path in voices:
        near = _nearest(path, labels[path.stem])
        if len(near) == 1:
            used.add(near[0])
            found.sources.append(Source(names[path], path, near[0], who(path), _split_of(path, folder)))
        elif near:
            found.lost.append(Lost("several labels", names[path], f"{path} may belong to {near[0]} or {near[1]}"))
        else:
            found.lost.append(Lost("no label", names[path], f"{path} has no {', '.join(SUFFIXES)} of its name"))
    lonely = {path for paths in labels.values() for path in paths if path.suffix.lower() == ".pv"} - used
    found.lost += [Lost("no audio", path.stem, f"{path} has no audio file of its name") for path in sorted(lonely)]
    return found


def _walk(folder: Path) -> Iterable[Path]:
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name.lower() not in IGNORED]
        yield from (Path(here, name) for name in names if not name.startswith("."))


def _names(voices: list[Path], folder: Path) -> dict[Path, str]:
    """What each song will be called: as its file or, where several files have that name, with the folders above it."""
    count = Counter((path.stem, _split_of(path, folder)) for path in voices)
    return {
        path: path.stem
        if count[path.stem, _split_of(path, folder)] == 1
        else "_".join(path.relative_to(folder).with_suffix("").parts)
        for path in voices
    }


def _nearest(path: Path, labels: list[Path]) -> list[Path]:
    """Those of the labels that lie beside a voice, else those that share most folders with it; `.pv` before others."""
    if not labels:
        return []

    def distance(label: Path) -> int:
        shared = os.path.commonpath([label.parent, path.parent])
        return len(path.parent.parts) + len(label.parent.parts) - 2 * len(Path(shared).parts)

    least = min(map(distance, labels))
    near = [label for label in labels if distance(label) == least]
    ranks = [SUFFIXES.index(label.suffix.lower()) for label in near]
    return [label for label, rank in zip(near, ranks, strict=True) if rank == min(ranks)]


def _split_of(path: Path, folder: Path) -> str:
    """Train or test as the nearest folder is called; what others call validation is for test here."""
    for part in reversed(path.parent.relative_to(folder).parts):
        if split := SPLIT_NAMES.get(part.lower()):
            return "train" if split == "train" else "test"
    return ""


class _Singers:
    """Who sings: by an expression, by a list that comes with the data set, or by the habits of known data sets."""

    def __init__(self, folder: Path, files: list[Path], pattern: str | None):
        self._folder, self._pattern = folder, None
        if pattern is not None:
            try:
                self._pattern = re.compile(pattern)
            except re.error as error:
                raise UserError(f"--singer {pattern!r} is not a regular expression: {error}") from error
            if not self._pattern.groups:
                raise UserError(f"--singer {pattern!r} needs a group, as in '^([^_]+)_', to name the singer")
        lists = [path for path in files if path.suffix.lower() == ".csv" and "metadata" in path.stem]
        self._listed = dict(row for path in lists for row in _listed(path))

    def __call__(self, path: Path) -> str:
        if self._pattern is not None:
            match = self._pattern.search(path.relative_to(self._folder).as_posix())
            return (match[1] or "") if match else ""
        number = path.stem.rpartition("_")[2]
        if number in self._listed:
            return self._listed[number]
        matches = (re.match(pattern, path.stem) for pattern in SINGERS)
        return next((match[1] for match in matches if match), "")


def _listed(path: Path) -> Iterable[tuple[str, str]]:
    """Pairs of track and singer in a list like `vocadito_metadata.csv`."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as handle:
        for row in csv.DictReader(handle):
            if row.get("track_id") and row.get("singer_id"):
                yield row["track_id"].strip(), row["singer_id"].strip()


def divide(
    sources: list[Source],
    seconds: Mapping[str, float],
    test_fraction: float = 0.1,
    test_singers: Iterable[str] = (),
    seed: int = 0,
) -> list[Source]:
    """Give every source a split; no singer is in both.

    Splits that folders say are kept. Otherwise `test_singers` sing in test, or singers that are drawn until they have
    about `test_fraction` of the time (`seconds` by name).

    Raises:
        UserError: a singer for test who does not sing, or one who would be in both splits
    """
    wanted = set(test_singers)
    if unknown := wanted - {source.singer for source in sources}:
        known = ", ".join(sorted({source.singer for source in sources} - {""})) or "none are known; see --singer"
        raise UserError(f"--test-singers: nobody called {', '.join(sorted(unknown))} sings here ({known})")
    open_ones = [source for source in sources if wanted or not source.split]
    test = wanted or _drawn(open_ones, seconds, test_fraction, seed)
    given = {id(source) for source in open_ones}
    divided = [
        replace(source, split="test" if source.group in test else "train") if id(source) in given else source
        for source in sources
    ]
    both = {s.singer for s in divided if s.split == "train"} & {s.singer for s in divided if s.split == "test"} - {""}
    if both:
        raise UserError(
            f"{', '.join(sorted(both))} would sing in train and in test: move the files or use --test-singers"
        )
    return divided


def _drawn(sources: list[Source], seconds: Mapping[str, float], fraction: float, seed: int) -> set[str]:
    """Groups in an order of chance, as many as come nearest to a fraction of the time; one at least if it is not 0."""
    time: dict[str, float] = defaultdict(float)
    for source in sources:
        time[source.group] += seconds[source.name]
    if fraction >= 1:
        return set(time)
    order = sorted(time, key=lambda group: hashlib.sha256(f"{seed} {group}".encode()).digest())
    test, total = set(), 0.0
    for group in order[:-1]:  # one is left to train with
        if not fraction or (test and total + time[group] / 2 > fraction * sum(time.values())):
            break
        test.add(group)
        total += time[group]
    return test
