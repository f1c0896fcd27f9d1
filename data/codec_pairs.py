"""Pairs of an original and its coded copy in folders: found, measured once, judged, and made readable piece by piece.

Type 1 is `FOLDER/NAME/original.*` and `FOLDER/NAME/codec.*`, type 2 `FOLDER/original/NAME.*` and `FOLDER/codec/NAME.*`,
as in the Apollo-Training fork. Users' files are only read: what is of another sample rate, or of a coding in which one
cannot begin anywhere, is decoded once into a cache.

What was measured is kept in the cache, too (`pairs.json`), by the size and the time of both files, so that only new and
changed pairs are decoded again.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from data.audit import Finding
from data.codec_generate import ALIKE, SILENT, write_wave
from data.stems import AUDIO_SUFFIXES
from data.workers import Failure, run_songs
from runtime import console
from runtime.errors import UserError
from runtime.files import alone, read_json, remove_leftovers, require_space, require_writable, write_json

MEASURES = "pairs.json"  # inside the cache
FORMAT = 1  # of the cache
SURPLUS = 0.2  # seconds by which one half of a pair may be longer, for a codec pads its last frame


@dataclass(frozen=True)
class CodecPair:
    """A pair whose halves can be read from any sample on, at the sample rate that was asked for.

    Attributes:
        name: of the song
        original, codec: the files to read; the users' own or decoded ones in the cache, mono or stereo
        starts: first sample of the pair in each of the two; not 0 in one of them if the codec's delay is in the file
        samples: length of what both have
        fingerprint: of what was found in the files
    """

    name: str
    original: Path
    codec: Path
    starts: tuple[int, int]
    samples: int
    fingerprint: str


@dataclass
class Pairs:
    """What the folders hold: the pairs that can be used, by name, and what is wrong or worth knowing."""

    pairs: list[CodecPair] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def reasons(self) -> dict[str, int]:
        """How many findings there are of each kind."""
        return dict(sorted(Counter(finding.kind for finding in self.findings).items()))


@dataclass(frozen=True)
class _Candidate:
    name: str
    folder: str
    files: tuple[Path, Path]

    @property
    def key(self) -> str:
        """Changes with the files: their places, sizes and times."""
        facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class _Measure:
    """What one decoding of a pair tells; `read` are the names of decoded files in the cache, "" for the user's own."""

    rates: tuple[int, int] = (0, 0)
    channels: tuple[int, int] = (0, 0)
    samples: tuple[int, int] = (0, 0)
    peaks: tuple[float, float] = (0.0, 0.0)
    lag: int | None = None
    likeness: float = 0.0
    read: tuple[str, str] = ("", "")
    content: str = ""
    problem: str = ""


def pairs_of(
    folders: Sequence[str | Path],
    cache: str | Path,
    kind: int = 1,
    original_format: str | None = "wav",
    codec_format: str | None = "mp3",
    sample_rate: int = 44100,
    stems: tuple[str, str] = ("original", "codec"),
    jobs: int = 1,
) -> Pairs:
    """All usable pairs of several folders, by folder and name.

    Args:
        folders: data sets of one kind; only read
        cache: folder for measurements and decoded files; may be shared by data sets and runs. Of several processes one
            must come first, for the others then find all that they need
        kind: type of the data sets, 1 or 2
        original_format, codec_format: suffixes of the two halves, without dot; None takes any audio file
        sample_rate: Hz at which the pairs will be read
        stems: what the halves are called, files in type 1 and folders in type 2
        jobs: processes

    Raises:
        UserError: a folder that is missing, no usable pair, no room, or a cache that another process is writing
    """
    cache, report, formats = Path(cache), Pairs(), (original_format, codec_format)
    candidates = []
    for folder in map(Path, folders):
        candidates += _find(folder, kind, formats, stems, report.findings)
    require_writable(cache)
    for candidate, measure in zip(candidates, _measured(candidates, cache, sample_rate, jobs), strict=True):
        findings = _judge(candidate, measure, sample_rate)
        report.findings += findings
        if all(finding.severity == "warning" for finding in findings):
            report.pairs.append(_pair(candidate, measure, cache))
    if not report.pairs:
        places, why = ", ".join(map(str, folders)), ", ".join(f"{n} {kind}" for kind, n in report.reasons.items())
        wanted = " and ".join(f"{name}.{end or '*'}" for name, end in zip(stems, formats, strict=True))
        raise UserError(f"{places}: no usable pairs of {wanted}, type {kind} ({why or 'nothing there'})")
    return report


# ------------------------------------------------------------------------------------------------------------- finding


def _find(
    folder: Path, kind: int, formats: tuple[str | None, ...], stems: tuple[str, str], findings: list[Finding]
) -> list[_Candidate]:
    if kind not in (1, 2):
        raise UserError(f"datas.dataset_type={kind}: there are the types 1 and 2")
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder of pairs")
    if kind == 1:
        songs = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
        halves = {
            song.name: [_named(song, name, end) for name, end in zip(stems, formats, strict=True)] for song in songs
        }
    else:
        for name in stems:
            if not (folder / name).is_dir():
                raise UserError(f"{folder} is no data set of type 2: it has no folder {name}")
        sides = [_listed(folder / name, end) for name, end in zip(stems, formats, strict=True)]
        halves = {song: [side.get(song, []) for side in sides] for song in sorted({*sides[0], *sides[1]})}
    found = []
    for song, files in halves.items():
        if all(len(side) == 1 for side in files):
            found.append(_Candidate(song, str(folder), (files[0][0], files[1][0])))
        for name, end, side in zip(stems, formats, files, strict=True):
            if len(side) != 1:
                what = f"there are {len(side)} files" if side else "there is no file"
                message = f"{what} {name}.{end or '*'} of {song} in {folder}"
                findings.append(Finding("error", "missing" if not side else "several", song, name, message))
    return found


def _named(folder: Path, stem: str, end: str | None) -> list[Path]:
    if end is not None:
        return [path for path in [folder / f"{stem}.{end}"] if path.is_file()]
    return [path for path in sorted(folder.glob(f"{stem}.*")) if path.suffix.lower() in AUDIO_SUFFIXES]


def _listed(folder: Path, end: str | None) -> dict[str, list[Path]]:
    songs: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        fits = path.suffix.lower() in AUDIO_SUFFIXES if end is None else path.suffix == f".{end}"
        if fits and path.is_file() and not path.name.startswith("."):
            songs.setdefault(path.stem, []).append(path)
    return songs


# ----------------------------------------------------------------------------------------------------------- measuring


def _measured(candidates: Sequence[_Candidate], cache: Path, sample_rate: int, jobs: int) -> list[_Measure]:
    """What is known of each candidate; the rest is measured now."""
    known, keys = _known(cache), [f"{candidate.key} {sample_rate}" for candidate in candidates]
    todo = [one for key, one in zip(keys, candidates, strict=True) if not _is_known(known.get(key), cache)]
    if todo:
        with alone(cache, f"{cache}: another process is reading pairs; wait for it to end"):
            remove_leftovers(cache)
            size = sum(_size(path, sample_rate) for one in todo for path in one.files)
            require_space(cache, size, "decoding the pairs")
            work = partial(_measure, cache=cache, sample_rate=sample_rate)
            with console.progress(len(todo), "reading pairs", "pair") as bar:
                for one, result in run_songs(work, todo, jobs):
                    measure = _Measure(problem=result.reason) if isinstance(result, Failure) else result
                    known[f"{one.key} {sample_rate}"] = asdict(measure)
                    bar.update()
            write_json(cache / MEASURES, {"format": FORMAT, "pairs": dict(sorted(known.items()))})
    return [_from_json(known[key]) for key in keys]


def _known(cache: Path) -> dict[str, dict]:
    """Measurements of earlier runs, by key."""
    kept = read_json(cache / MEASURES) if (cache / MEASURES).exists() else {}
    return kept.get("pairs", {}) if kept.get("format") == FORMAT else {}


def _is_known(row: dict | None, cache: Path) -> bool:
    return row is not None and not row["problem"] and all((cache / name).is_file() for name in row["read"] if name)


def _from_json(row: dict) -> _Measure:
    return _Measure(
        **{name: tuple(value) if isinstance(value, (list, tuple)) else value for name, value in row.items()}
    )


def _size(path: Path, sample_rate: int) -> int:
    """Bytes that a file takes in the cache."""
    from dsp import audio

    try:
        info = audio.probe(path)
    except UserError:
        return 0
    return 0 if _is_direct(info, sample_rate) else int(4 * info.duration * sample_rate * info.channels)


def _is_direct(info, sample_rate: int) -> bool:
    """Whether a file can be read from any sample on as it is."""
    return info.exact and info.sample_rate == sample_rate and info.subtype.startswith(("PCM", "FLOAT", "DOUBLE"))


def _measure(candidate: _Candidate, cache: Path, sample_rate: int) -> _Measure:
    from dsp import audio
    from dsp.lag import measure_lag

    infos = [audio.probe(path) for path in candidate.files]
    channels = tuple(info.channels for info in infos)
    rates = tuple(info.sample_rate for info in infos)
    if max(channels) > 2:
        return _Measure(rates, channels)
    sounds = [audio.read(path, sample_rate=sample_rate)[0] for path in candidate.files]
    samples = tuple(x.shape[1] for x in sounds)
    peaks = tuple(float(np.abs(x).max(initial=0)) for x in sounds)
    digest = hashlib.sha256()
    for x in sounds:
        digest.update(np.ascontiguousarray(x))
    facts = (rates, channels, samples, peaks)
    if not min(samples) or not np.isfinite(peaks).all():
        return _Measure(*facts)
    width = max(channels)
    lag = measure_lag(*(audio.convert_channels(x, width) for x in sounds))
    read = []
    for side, (x, info) in enumerate(zip(sounds, infos, strict=True)):
        read.append("" if _is_direct(info, sample_rate) else f"{candidate.key}-{sample_rate}-{side}.wav")
        if read[-1]:
            write_wave(cache / read[-1], x, sample_rate)
    return _Measure(*facts, lag.samples, lag.likeness, tuple(read), digest.hexdigest()[:16])


# ------------------------------------------------------------------------------------------------------------- judging


def _judge(candidate: _Candidate, measure: _Measure, sample_rate: int) -> list[Finding]:
    """What is wrong with a pair (`error`: it is not used) or worth knowing (`warning`)."""
    rows: list[Finding] = []

    def row(severity: str, kind: str, message: str) -> None:
        names = ", ".join(path.name for path in candidate.files)
        rows.append(Finding(severity, kind, candidate.name, names, f"{candidate.folder}, {candidate.name}: {message}"))

    original, codec = measure.samples
    if measure.problem:
        row("error", "unreadable", measure.problem)
    elif max(measure.channels) > 2:
        row("error", "channels", f"{measure.channels[0]} and {measure.channels[1]} channels; two at most can be used")
    elif not original or not codec:
        row("error", "zero length", "a file of the pair holds no samples")
    elif not np.isfinite(measure.peaks).all():
        row("error", "NaN", "samples are NaN or infinite")
    elif measure.lag is None and max(measure.peaks) > SILENT:
        row("error", "unlike", "one of the two is silent")
    elif measure.lag is not None and measure.likeness < ALIKE and max(measure.peaks) > SILENT:
        upside = ": one is the other upside down" if measure.likeness < -ALIKE else ""
        row("error", "unlike", f"the two are not the same sound (likeness {measure.likeness:.2f}){upside}")
    elif abs(original - codec + (measure.lag or 0)) > SURPLUS * sample_rate:
        row("error", "length mismatch", f"{original} and {codec} samples at {sample_rate} Hz, lag {measure.lag or 0}")
    if rows:
        return rows
    if measure.lag:
        row("warning", "lag", f"the codec's sound is {measure.lag} samples late; it is read that much later")
    elif original != codec:
        row("warning", "length", f"{original} and {codec} samples; what both have is used")
    if set(measure.rates) != {sample_rate}:
        rates = " and ".join(str(rate) for rate in dict.fromkeys(measure.rates))
        row("warning", "sample rate", f"{rates} Hz; read at {sample_rate} Hz")
    if measure.channels[0] != measure.channels[1]:
        row("warning", "mono", f"{measure.channels[0]} and {measure.channels[1]} channels; the one is repeated")
    return rows


def _pair(candidate: _Candidate, measure: _Measure, cache: Path) -> CodecPair:
    files = [cache / name if name else path for name, path in zip(measure.read, candidate.files, strict=True)]
    lag = measure.lag or 0
    starts = (max(-lag, 0), max(lag, 0))
    samples = min(length - start for length, start in zip(measure.samples, starts, strict=True))
    return CodecPair(candidate.name, files[0], files[1], starts, samples, measure.content)
