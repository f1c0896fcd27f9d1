"""What can be wrong with a song: measure its files once, then judge the measurements.

Measuring decodes every file and is slow; judging is arithmetic on what was measured, so that other thresholds need no
second look at the audio.
"""

import hashlib
import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from data.stems import ACCOMPANIMENT_PARTS, file_name, parts_of
from runtime.errors import UserError
from runtime.files import sha256

BLOCK = 1 << 17  # samples per channel read at a time
FULL_SCALE = 0.9999  # just below the largest 16-bit value
EXACT_DB = 200.0  # stands for a sum without any difference


@dataclass(frozen=True)
class Settings:
    """Thresholds of the audit.

    The sums: MUSDB18 is coded with a lossy codec stem by stem, so that even good songs reach only 21 to 33 dB, and one
    of its songs (PR - Oh No, a documented flaw of its left channel) 7.6 dB. Stems of another song give about 0 dB.
    """

    silence_db: float = -80.0  # peak in dBFS below which a track counts as silent
    clipped_samples: int = 16  # samples in runs of at least three at the same full-scale value
    sum_warning_db: float = 18.0  # mixture against (mixture - sum of stems)
    sum_error_db: float = 6.0


@dataclass(frozen=True)
class Finding:
    """One row of the report. `severity` is `error` (the song cannot be used) or `warning`; `song` is its folder."""

    severity: str
    kind: str
    song: str
    file: str
    message: str


@dataclass
class FileMeasure:
    """What one decode of a file tells; `problem` is why it could not be decoded."""

    path: str
    frames: int = 0
    sample_rate: int = 0
    channels: int = 0
    peak: float = 0.0
    nonfinite: int = 0
    clipped: int = 0
    sha256: str = ""
    problem: str = ""


@dataclass
class SongMeasure:
    """Files by canonical stem, how well sums match (dB, by the stem that is the sum), and a hash of the mixture.

    `content` is equal for two mixtures with the same 16-bit samples, whatever container they lie in.
    """

    files: dict[str, FileMeasure] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    content: str = ""

    @property
    def fingerprint(self) -> str:
        """Hash of the bytes of all files and of which stem each of them is."""
        rows = (f"{stem} {measure.sha256}\n" for stem, measure in sorted(self.files.items()))
        return hashlib.sha256("".join(rows).encode()).hexdigest()[:32]

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict) -> "SongMeasure":
        files = {stem: FileMeasure(**measure) for stem, measure in row["files"].items()}
        return cls(files, row["sums"], row["content"])


# ------------------------------------------------------------------------------------------------------------ measuring


class _Track:
    """One file being decoded block by block."""

    def __init__(self, root: Path, path: str):
        self.measure = FileMeasure(path)
        self._place = root / path
        self._blocks: Iterator[np.ndarray] | None = None

    def open(self) -> None:
        """Hash the file and read its header; a failure becomes the `problem`."""
        from dsp import audio

        try:
            self.measure.sha256 = sha256(self._place)
            info = audio.probe(self._place)
            self.measure.sample_rate, self.measure.channels = info.sample_rate, info.channels
            self._blocks = iter(audio.blocks(self._place, BLOCK))
        except (UserError, OSError) as error:
            self.measure.problem = str(error)

    def next(self) -> np.ndarray | None:
        """Next block `[C, n]`, None at the end or at a failure."""
        if self.measure.problem or self._blocks is None:
            return None
        try:
            block = next(self._blocks, None)
        except (UserError, OSError) as error:
            self.measure.problem = str(error)
            return None
        if block is not None:
            self._count(block)
        return block

    def _count(self, block: np.ndarray) -> None:
        self.measure.frames += block.shape[1]
        finite = np.isfinite(block)
        self.measure.nonfinite += int(block.size - np.count_nonzero(finite))
        peak = float(np.max(np.abs(block), where=finite, initial=0.0))
        self.measure.peak = max(self.measure.peak, peak)
        if peak >= FULL_SCALE:
            self.measure.clipped += clipped_samples(block)


def clipped_samples(block: np.ndarray) -> int:
    """Samples of `[C, n]` that lie in runs of three or more equal values at full scale."""
    same = (np.abs(block[:, 1:]) >= FULL_SCALE) & (block[:, 1:] == block[:, :-1])
    triple = np.zeros((block.shape[0], block.shape[1] + 2), dtype=bool)
    triple[:, 2:-2] = same[:, :-1] & same[:, 1:]  # a run of three ends at this sample
    return int(np.count_nonzero(triple[:, 2:] | triple[:, 1:-1] | triple[:, :-2]))


def measure_song(root: Path, sources: Mapping[str, str]) -> SongMeasure:
    """Decode all files of a song side by side. `sources` maps stems to paths relative to `root`."""
    tracks = {stem: _Track(root, path) for stem, path in sources.items()}
    for track in tracks.values():
        track.open()
    sums = {target: _SumCheck(target, parts) for target, parts in _sums_to_check(sources)}
    content = hashlib.sha256()
    while True:
        blocks = {stem: track.next() for stem, track in tracks.items()}
        if all(block is None for block in blocks.values()):
            break
        for check in sums.values():
            check.add(blocks)
        mixture = blocks.get("mixture")
        if mixture is not None and np.isfinite(mixture).all():
            content.update(np.rint(mixture.T * 32768).clip(-32768, 32767).astype("<i2").tobytes())
    measures = {stem: track.measure for stem, track in tracks.items()}
    return SongMeasure(
        measures,
        {target: check.decibels() for target, check in sums.items() if check.comparable},
        content.hexdigest()[:32] if "mixture" in measures and measures["mixture"].frames else "",
    )


def _sums_to_check(stems: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Which stems ought to be the sum of which others: the finest division that is there."""
    files = set(stems)
    backing = parts_of("accompaniment", files - {"accompaniment"}) or parts_of("accompaniment", files)
    if backing and {"mixture", "vocals"} <= files:
        yield "mixture", ("vocals", *backing)
    if backing and "accompaniment" in files and backing != ("accompaniment",):
        yield "accompaniment", backing


class _SumCheck:
    """Energy of a track and of its difference from the sum of its parts."""

    def __init__(self, target: str, parts: tuple[str, ...]):
        self._target, self._parts = target, parts
        self._signal = self._error = 0.0
        self.comparable = True

    def add(self, blocks: Mapping[str, np.ndarray | None]) -> None:
        used = [blocks[stem] for stem in (self._target, *self._parts)]
        self.comparable &= all(block is not None for block in used) and len({block.shape for block in used}) == 1
        self.comparable = self.comparable and all(np.isfinite(block).all() for block in used)
        if self.comparable:
            whole, *parts = (block.astype(np.float64) for block in used)
            self._signal += float(np.sum(whole**2))
            self._error += float(np.sum((whole - sum(parts)) ** 2))

    def decibels(self) -> float:
        if self._error <= self._signal * 10 ** (-EXACT_DB / 10):
            return EXACT_DB
        return max(10 * math.log10(self._signal / self._error), -EXACT_DB) if self._signal else -EXACT_DB


# -------------------------------------------------------------------------------------------------------------- judging


def judge(folder: str, song: SongMeasure, settings: Settings) -> list[Finding]:
    """Findings about one song by itself."""
    files = song.files
    rows = [_missing(folder, files)]
    rows += [_judge_file(folder, stem, measure, settings) for stem, measure in files.items()]
    healthy = {stem: measure for stem, measure in files.items() if not measure.problem}
    rows += [_mismatch(folder, healthy), _judge_sums(folder, song, settings)]
    return [finding for row in rows for finding in row]


def _missing(folder: str, files: Mapping[str, FileMeasure]) -> Iterator[Finding]:
    for stem in ("mixture", "vocals"):
        if stem not in files:
            yield Finding(
                "error", "missing", folder, file_name(stem), f"there is no {file_name(stem)} (.wav, .flac, …)"
            )
    if parts_of("accompaniment", files) is None:
        lacking = [part for part in ACCOMPANIMENT_PARTS if part not in files]
        what = f"there is neither {file_name('accompaniment')} nor all of drums, bass, other ({', '.join(lacking)})"
        yield Finding("error", "missing", folder, file_name("accompaniment"), what)


def _judge_file(folder: str, stem: str, measure: FileMeasure, settings: Settings) -> Iterator[Finding]:
    name = measure.path.rpartition("/")[2]

    def row(severity: str, kind: str, message: str) -> Finding:
        return Finding(severity, kind, folder, name, message)

    if measure.problem:
        yield row("error", "unreadable", measure.problem)
        return
    if measure.frames == 0:
        yield row("error", "zero length", "holds no samples")
        return
    if measure.nonfinite:
        yield row("error", "NaN", f"{measure.nonfinite} samples are NaN or infinite")
    if measure.peak < 10 ** (settings.silence_db / 20) and not measure.nonfinite:
        # an instrument may pause for a whole song, a mixture may not
        yield row("error" if stem == "mixture" else "warning", "silent", f"never above {settings.silence_db:g} dBFS")
    if measure.clipped >= settings.clipped_samples:
        yield row("warning", "clipped", f"{measure.clipped} samples in runs at full scale")


def _mismatch(folder: str, files: Mapping[str, FileMeasure]) -> Iterator[Finding]:
    """Files that differ from the mixture, or from the majority where there is none."""
    if not files:
        return
    for kind, key, unit in (
        ("rate mismatch", "sample_rate", "Hz"),
        ("channel mismatch", "channels", "channels"),
        ("length mismatch", "frames", "samples"),
    ):
        values = {stem: getattr(measure, key) for stem, measure in files.items()}
        usual = values.get("mixture") or max(values.values(), key=list(values.values()).count)
        for stem, value in values.items():
            if value != usual and value:
                name = files[stem].path.rpartition("/")[2]
                yield Finding("error", kind, folder, name, f"{value} {unit}, but the song has {usual}")


def _judge_sums(folder: str, song: SongMeasure, settings: Settings) -> Iterator[Finding]:
    for target, level in song.sums.items():
        if song.files[target].peak < 10 ** (settings.silence_db / 20) and target == "mixture":
            continue  # said already
        if level < settings.sum_warning_db:
            severity = "error" if level < settings.sum_error_db else "warning"
            message = f"the stems do not add up to it: the difference lies {level:.1f} dB below it"
            yield Finding(severity, "sum", folder, song.files[target].path.rpartition("/")[2], message)


# -------------------------------------------------------------------------------------------------- songs side by side

_RANK = {"test": 0, "valid": 1, "train": 2}


def same_name(name: str) -> str:
    """Form of a song's name in which two spellings of the same name are equal."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def compare(songs: Iterable[tuple[str, str, str, str]]) -> list[Finding]:
    """Findings about songs that occur twice, from rows (folder, name, split, content hash).

    The same sound in test and in another split is leakage, an error of the song outside of the test; within training
    songs it is a warning. A name must be unique everywhere: results are reported by it.
    """
    rows = sorted(songs, key=lambda row: (_RANK.get(row[2], 3), row[0]))
    findings = []
    by_name, by_content = defaultdict(list), defaultdict(list)
    for row in rows:
        by_name[same_name(row[1])].append(row)
        if row[3]:
            by_content[row[3]].append(row)
    for first, *others in by_name.values():
        for folder, _, split, _ in others:
            kind = "duplicate" if split == first[2] else "leakage"
            findings.append(Finding("error", kind, folder, "", f"the song {first[0]} has the same name"))
    for first, *others in by_content.values():
        for folder, name, split, _ in others:
            if same_name(name) == same_name(first[1]):
                continue
            leak = first[2] == "test" and split != "test"
            kind, severity = ("leakage", "error") if leak else ("duplicate", "warning")
            findings.append(Finding(severity, kind, folder, "", f"sounds exactly like {first[0]} ({first[2]})"))
    return findings
