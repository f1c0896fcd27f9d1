"""From songs to pairs of an original and what a lossy codec makes of it, for networks that restore the sound.

A pair is `OUT/NAME/original.wav` and `codec.*` (type 1), or `OUT/original/NAME.wav` and `OUT/codec/NAME.*` (type 2):
the layouts of the Apollo-Training fork. Both have the same length, channels and sample rate, and no lag, which is
measured on every pair. MP3 and Ogg stay as they were coded, for all common readers give them back in place. What AAC
and Opus leave is stored decoded, as codec.wav: readers differ in what they cut off, and Opus has one sample rate only.

What is written is noted in `OUT/.codec_pairs.jsonl`, so that a second run goes on where the first one stopped, and
never replaces a file that this did not write.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from data.codec_ledger import Ledger, Row
from data.pitch_sources import Lost
from data.sampler import generator
from data.workers import Failure, run_songs
from runtime import console
from runtime.errors import UserError
from runtime.files import alone, atomic_path, remove_leftovers, require_space, require_writable, sha256

WORK = ".codec_work"  # inside OUT: coded files that have not been judged yet, and the lock
CODEC = 13  # stream of random numbers: how a file is coded (`data.sampler` names the others)
ALIKE = 0.1  # likeness of original and codec below which they are not the same sound
SILENT = 1e-4  # peak below which a sound is silent

FORMAT = 1  # to be raised when the same settings begin to mean other files


@dataclass(frozen=True)
class Settings:
    """What is made of every song.

    Args:
        codec: one of `dsp.codec.CODECS`
        bitrates: of which one is drawn for each file, bit/s
        quality, quality_chance: range of LAME's qualities (0 is best), and the share of files coded at one of them in
            place of the bit rate; None for no file
        lowpass, lowpass_chance: range of corners in Hz, and the share of files that are filtered before they are coded
        kind: type of data set, 1 or 2
        split: `train` or `valid`, which is always of type 1
        sample_rate, channels: of what is written
        decoded: store codec.wav also for codecs whose files are portable
        seed: how a file is coded depends on this and on its name
    """

    codec: str = "mp3"
    bitrates: tuple[int, ...] = (64000, 96000, 128000, 192000, 256000, 320000)
    quality: tuple[int, int] | None = None
    quality_chance: float = 1.0
    lowpass: tuple[int, int] | None = None
    lowpass_chance: float = 1.0
    kind: int = 1
    split: str = "train"
    sample_rate: int = 44100
    channels: int = 2
    decoded: bool = False
    seed: int = 0

    @property
    def suffix(self) -> str:
        """Of the codec's half of a pair."""
        from dsp.codec import CODECS

        codec = CODECS[self.codec]
        return ".wav" if self.decoded or not codec.portable else codec.suffix

    def files(self, name: str) -> tuple[str, str]:
        """Paths of a pair in the data set: original and codec."""
        if self.kind == 1 or self.split == "valid":
            return f"{name}/original.wav", f"{name}/codec{self.suffix}"
        return f"original/{name}.wav", f"codec/{name}{self.suffix}"


@dataclass(frozen=True)
class Coding:
    """How one file is coded. `quality` and `lowpass` are None where they have no part in it."""

    bitrate: int
    quality: int | None = None
    lowpass: int | None = None

    def __str__(self) -> str:
        rate = f"{self.bitrate / 1000:g}k" if self.quality is None else f"quality {self.quality}"
        return rate + (f", low-pass {self.lowpass} Hz" if self.lowpass else "")


@dataclass
class Report:
    """What came out of it: the pairs that are there, what could not be used, and how many were written just now."""

    settings: Settings
    rows: list[Row] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    written: int = 0

    @property
    def kept(self) -> int:
        return len(self.rows) - self.written


class Unusable(Exception):
    """A pair cannot be made: the kind of reason, and the sentence."""

    def __init__(self, kind: str, message: str):
        super().__init__(kind, message)
        self.kind, self.message = kind, message


@dataclass(frozen=True)
class _Job:
    name: str
    source: Path
    row: Row


def coding(settings: Settings, name: str) -> Coding:
    """How the file ``name`` is coded. Everything is drawn, used or not, so that no option changes another's luck."""
    from dsp.codec import allowed_bitrate

    rng = generator(settings.seed, CODEC, int.from_bytes(_digest(name), "little"))
    place, quality, level, lowpass, corner = rng.random(5)
    bitrate = settings.bitrates[int(place * len(settings.bitrates))]
    return Coding(
        allowed_bitrate(settings.codec, bitrate, settings.sample_rate, settings.channels),
        _within(settings.quality, level) if settings.quality and quality < settings.quality_chance else None,
        _within(settings.lowpass, corner) if settings.lowpass and lowpass < settings.lowpass_chance else None,
    )


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8]


def _within(bounds: tuple[int, int], share: float) -> int:
    """A whole number of the range, both ends included; ``share`` is from 0 to 1, without 1."""
    return bounds[0] + int(share * (bounds[1] - bounds[0] + 1))


def generate(folder: Path, out: Path, settings: Settings, jobs: int = 1) -> Report:
    """Write the pairs of all audio files below a folder. Files of no use do not stop the others; the report has them.

    A pair is called as its file, with the folders below ``folder`` before it: `a/b.wav` becomes `a_b`.

    Args:
        folder: is only read
        out: the data set; pairs that other runs wrote there stay
        settings: see there
        jobs: processes

    Raises:
        UserError: nothing to be coded, a file in the way that this did not write, pairs of the other split, no room
    """
    from dsp import audio

    if folder.resolve() == out.resolve() or out.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{out} lies in {folder}, which is never changed: choose another folder to write to")
    require_writable(out)
    with alone(out / WORK, f"{out}: another process is writing pairs here; wait for it to end"):
        for path in (out / WORK).glob("*.*"):
            if path.name != ".lock":
                path.unlink()
        problems: list[UserError] = []
        sources = audio.audio_files([folder], problems)
        if not sources:
            raise problems[0]
        report = Report(settings, lost=[Lost("unreadable", str(folder), str(problem)) for problem in problems])
        _make(folder, sources, out, report, jobs)
    return report


def _make(folder: Path, sources: Sequence[Path], out: Path, report: Report, jobs: int) -> None:
    ledger = Ledger(out)
    ledger.check_split(report.settings.split)
    wanted = _jobs(folder, sources, out, ledger, report)
    todo = [job for job in wanted if not ledger.is_done(job.row)]
    require_space(out, sum(_size(job.source, report.settings) for job in todo), "the data set")
    ledger.claim([job.row for job in todo])
    for place in {(out / file).parent for job in todo for file in job.row.files}:
        remove_leftovers(place)
    with console.progress(len(todo), "coding", "file") as bar:
        for job, result in run_songs(partial(_write, out=out, settings=report.settings), todo, jobs):
            if isinstance(result, Failure):
                result = Lost("failed" if result.trace else "unreadable", job.name, result.reason)
            if isinstance(result, Lost):
                report.lost.append(result)
                ledger.forget(job.name)
            else:
                ledger.done(result)
                report.written += 1
            bar.update()
    ledger.settle()
    report.rows = [ledger.rows[name] for name in sorted(job.name for job in wanted) if name in ledger.rows]
    report.lost.sort(key=lambda lost: (lost.name, lost.kind, lost.message))


def _jobs(folder: Path, sources: Sequence[Path], out: Path, ledger: Ledger, report: Report) -> list[_Job]:
    """What there is to do; names that are taken are lost, files that nobody noted down are an error."""
    settings, jobs = report.settings, {}
    for source in console.progress(sources, "looking", "file"):
        name = "_".join(source.relative_to(folder).with_suffix("").parts)
        place, known = str(source.resolve()), ledger.rows.get(name)
        files = settings.files(name)
        if name in jobs or (known and known.source != place):
            taken = jobs[name].source if name in jobs else known.source
            report.lost.append(Lost("name taken", name, f"{source}: the pair {name} is made of {taken}"))
            continue
        for file in files:
            if (out / file).exists() and (known is None or file not in known.files):
                raise UserError(f"{out / file} is there and was not written by this command: choose another -o")
        drawn = coding(settings, name)
        key = _key(source, settings, drawn)
        jobs[name] = _Job(name, source, Row(name, place, files, settings.split, key, asdict(drawn)))
    return list(jobs.values())


def _key(source: Path, settings: Settings, drawn: Coding) -> str:
    """Hash of all that the two files depend on."""
    facts = [FORMAT, sha256(source), source.suffix.lower(), settings.codec, settings.sample_rate, settings.channels]
    return hashlib.sha256(json.dumps([*facts, asdict(drawn), settings.files("")]).encode()).hexdigest()[:16]


def _size(source: Path, settings: Settings) -> int:
    """About how many bytes a pair will have; 0 for what cannot be read, which is said later."""
    from dsp import audio

    try:
        seconds = audio.probe(source).duration
    except UserError:
        return 0
    return int(seconds * settings.sample_rate * settings.channels * (8 if settings.suffix == ".wav" else 4))


# ------------------------------------------------------------------------------------------------------------ one pair


def _write(job: _Job, out: Path, settings: Settings) -> Row | Lost:
    """Write one pair; what is wrong with it if there is none."""
    from dsp.codec import CODECS, decode, encode, lowpass

    scratch = out / WORK / f"{_digest(job.name).hex()}{CODECS[settings.codec].suffix}"
    drawn = Coding(**job.row.coding)
    try:
        x = _sound(job.source, settings)
        filtered = lowpass(x, settings.sample_rate, drawn.lowpass) if drawn.lowpass else x
        encode(scratch, filtered, settings.sample_rate, settings.codec, drawn.bitrate, drawn.quality)
        y = decode(scratch, settings.sample_rate, x.shape[1])
        likeness = _check(x, y)
        write_wave(out / job.row.files[0], x, settings.sample_rate)
        if settings.suffix == ".wav":
            write_wave(out / job.row.files[1], y, settings.sample_rate)
        else:
            with atomic_path(out / job.row.files[1]) as temporary:
                os.replace(scratch, temporary)
    except Unusable as error:
        return Lost(error.kind, job.name, f"{job.source}: {error.message}")
    finally:
        scratch.unlink(missing_ok=True)
    return replace(job.row, samples=x.shape[1], likeness=round(likeness, 4))


def _sound(source: Path, settings: Settings) -> np.ndarray:
    from dsp import audio

    channels = audio.probe(source).channels
    if channels > 2:
        raise Unusable("too many channels", f"it has {channels} channels, and pairs have two at most")
    x, _ = audio.read(source, sample_rate=settings.sample_rate, channels=settings.channels)
    if not x.shape[1]:
        raise Unusable("empty", "it holds no samples")
    if not np.isfinite(x).all():
        raise Unusable("not finite", "it holds NaN or infinite values")
    return x


def _check(x: np.ndarray, y: np.ndarray) -> float:
    """Likeness of a pair whose halves are equally long and have no lag; raises `Unusable` for others."""
    from dsp.lag import measure_lag

    if x.shape != y.shape:
        raise Unusable("length", f"{x.shape[1]} samples became {y.shape[1]} by coding")
    lag = measure_lag(x, y)
    if lag.samples is None:
        if max(np.abs(x).max(), np.abs(y).max()) > SILENT:
            raise Unusable("unlike", "nothing is left of it by coding")
        return 0.0
    if lag.samples:
        raise Unusable("lag", f"it is {lag.samples} samples late by coding")
    if lag.likeness < ALIKE and np.abs(x).max() > SILENT:
        raise Unusable("unlike", f"too little is left of it by coding (likeness {lag.likeness:.2f})")
    return lag.likeness


def write_wave(path: Path, x: np.ndarray, sample_rate: int) -> None:
    """``x [C, N]`` as 16 bits if they hold it exactly, else as floats: nothing is rounded, nothing clipped."""
    from dsp.audio import AudioWriter

    whole = x * np.float32(1 << 15)
    exact = np.array_equal(whole, np.rint(whole)) and whole.min() >= -(1 << 15) and whole.max() < 1 << 15
    with AudioWriter(path, sample_rate, len(x), "wav16" if exact else "float32") as file:
        file.write(x)
