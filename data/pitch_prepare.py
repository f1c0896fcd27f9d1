"""From labelled voices to the data set that pitch networks are trained with: `OUT/{train,test}/NAME.wav` and `NAME.pv`.

What is written is noted in `OUT/.prepared.jsonl`, so that a second run goes on where the first one stopped, and in
`OUT/prepare.json`: how the labels were read, and what could not be used and why. Files that this did not write are
never replaced or removed.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from data.pitch_labels import SAMPLE_RATE, Pitch, at, at_frames, read, write_pv
from data.pitch_ledger import SUFFIXES, Ledger, remove
from data.pitch_offset import Offset, measure
from data.pitch_sources import Lost, Source, divide, find
from data.workers import Failure, run_songs
from runtime import console
from runtime.errors import UserError
from runtime.files import read_json, remove_leftovers, require_space, require_writable, sha256, write_json

LEDGER, REPORT = ".prepared.jsonl", "prepare.json"
SAMPLED = 40  # voices that are listened to for the time of the first label
LOWEST, HIGHEST = 31.70, 2005.5  # Hz that the network can say
SILENT = 1e-4  # peak below which a voice is silent


@dataclass(frozen=True)
class Settings:
    """How voices and labels are read and written.

    Args:
        hop: samples at 16 kHz from frame to frame of what is written
        label_hop: seconds from line to line of `.pv` files; found from their lengths if None
        label_time: time of their first line in s; measured from the voices if None
        stereo: `split` if the first channel is the accompaniment and the second the voice, `mix` if both are the voice;
            `auto` splits what has a `.pv` and mixes the rest
        singer, test_fraction, test_singers, seed: see `data.pitch_sources`
    """

    hop: int = 160
    label_hop: float | None = None
    label_time: float | None = None
    stereo: str = "auto"
    singer: str | None = None
    test_fraction: float = 0.1
    test_singers: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Clip:
    """A source that looks usable: its length, and how its label and channels are read."""

    source: Source
    seconds: float
    channels: int
    lines: int
    label_hop: float = 0.0
    label_time: float = 0.0

    @property
    def file(self) -> str:
        return f"{self.source.split}/{self.source.name}"


@dataclass
class Report:
    """What came out of it; `written`, `kept` and `removed` count songs."""

    settings: Settings
    label_hop: float | None = None
    offset: Offset | None = None
    clips: list[Clip] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    written: int = 0
    kept: int = 0
    removed: int = 0
    outside: int = 0  # voiced labels that the network cannot say

    @property
    def reasons(self) -> dict[str, int]:
        """How many files could not be used, by kind of reason."""
        return dict(sorted(Counter(lost.kind for lost in self.lost).items()))

    def splits(self) -> dict[str, dict]:
        """Songs, minutes and singers of each split."""
        rows = {}
        for split in ("train", "test"):
            clips = [clip for clip in self.clips if clip.source.split == split]
            singers = {clip.source.singer for clip in clips} - {""}
            minutes = sum(clip.seconds for clip in clips) / 60
            rows[split] = {"songs": len(clips), "minutes": round(minutes, 2), "singers": sorted(singers)}
        return rows


class Unusable(Exception):
    """A song cannot be used: the kind of reason, and the sentence."""

    def __init__(self, kind: str, message: str):
        super().__init__(kind, message)
        self.kind, self.message = kind, message


def prepare(folder: Path, out: Path, settings: Settings, jobs: int = 1, name: str | None = None) -> Report:
    """Write the data set of a folder. Songs that cannot be used do not stop the others; they are in the report.

    Args:
        folder: any of the forms of `data.pitch_sources`; only read
        out: the data set; what other folders were prepared to it stays
        settings: see there
        jobs: processes
        name: under which the folder is remembered in `out`; its path if None

    Raises:
        UserError: nothing usable, files in the way that this did not write, no room, impossible settings
    """
    if folder.resolve() == out.resolve() or out.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{out} lies in {folder}, which is never changed: choose another folder to write to")
    report = Report(settings)
    found = find(folder, settings.singer)
    report.lost += found.lost
    clips = _survey(found.sources, report)
    if clips:
        clips = _with_label_times(clips, settings, report)
    if not clips:
        raise UserError(f"{folder} holds no usable song ({_told(report.reasons)})")
    seconds = {clip.source.name: clip.seconds for clip in clips}
    who = (settings.test_fraction, settings.test_singers, settings.seed)
    sources = divide([clip.source for clip in clips], seconds, *who)
    clips = [_replaced(clip, source=source) for clip, source in zip(clips, sources, strict=True)]
    _write(clips, out, report, name or str(folder.resolve()), jobs)
    if not report.clips:
        raise UserError(f"{folder} holds no usable song ({_told(report.reasons)})")
    return report


def is_done(out: Path, settings: Settings, name: str) -> bool:
    """Whether an earlier run wrote all songs of a folder with these settings, and all of them are still there."""
    if not (out / REPORT).exists():
        return False
    said = read_json(out / REPORT)["data"].get(name)
    if said is None or said["settings"] != json.loads(json.dumps(asdict(settings))):
        return False
    return Ledger(out / LEDGER, name).is_complete(out)


def _replaced(clip: Clip, **values) -> Clip:
    return Clip(**{**vars(clip), **values})


def _told(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in reasons.items())


# ------------------------------------------------------------------------------------------------------------- looking


def _survey(sources: Iterable[Source], report: Report) -> list[Clip]:
    """Lengths of audio and labels of all sources that can be opened."""
    from dsp import audio

    clips = []
    for source in sources:
        try:
            info = audio.probe(source.audio, count=True)
        except UserError as error:
            report.lost.append(Lost("unreadable audio", source.name, str(error)))
            continue
        if info.channels > 2:
            report.lost.append(Lost("too many channels", source.name, f"{source.audio} has {info.channels} channels"))
            continue
        try:
            pitch = read(source.label)
        except UserError as error:
            report.lost.append(Lost("unreadable label", source.name, str(error)))
            continue
        if not pitch.voiced.any():
            report.lost.append(Lost("all unvoiced", source.name, f"{source.label} has no voiced label"))
            continue
        report.outside += int(np.count_nonzero(pitch.voiced & ((pitch.f0 < LOWEST) | (pitch.f0 > HIGHEST))))
        clip = Clip(source, info.duration, info.channels, len(pitch) if source.label.suffix.lower() == ".pv" else 0)
        if not clip.lines and pitch.times[pitch.voiced][-1] > clip.seconds + 0.1:
            report.lost.append(_mismatch(clip, f"reaches {pitch.times[-1]:.2f} s"))
            continue
        clips.append(clip)
    return clips


def _mismatch(clip: Clip, what: str) -> Lost:
    message = f"{clip.source.label} {what}, but {clip.source.audio.name} is {clip.seconds:.2f} s long"
    return Lost("length mismatch", clip.source.name, message)


def _with_label_times(clips: list[Clip], settings: Settings, report: Report) -> list[Clip]:
    """Find out when the lines of `.pv` files are, and drop those that are not as long as their audio."""
    timeless = [clip for clip in clips if clip.lines]
    if timeless:
        hop = settings.label_hop or _label_hop(timeless)
        report.label_hop = hop
        wrong = [clip for clip in timeless if abs(clip.lines * hop - clip.seconds) > max(0.25, 0.1 * clip.seconds)]
        report.lost += [_mismatch(clip, f"has {clip.lines} lines every {1000 * hop:g} ms") for clip in wrong]
        dropped = set(map(id, wrong))
        clips, timeless = ([clip for clip in some if id(clip) not in dropped] for some in (clips, timeless))
    report.offset = _measured(timeless or clips, report.label_hop, settings)
    first = settings.label_time
    if timeless and first is None:
        first = report.label_hop if report.offset.weak else report.offset.first
    return [_replaced(clip, label_hop=report.label_hop, label_time=first) if clip.lines else clip for clip in clips]


def _label_hop(clips: list[Clip]) -> float:
    """Seconds from line to line: whole milliseconds that explain the number of lines, of which one or two may lack."""
    ratio = float(np.median([clip.seconds / (clip.lines + 1) for clip in clips]))
    hop = round(ratio, 3)
    if hop <= 0 or abs(ratio / hop - 1) > 0.03:
        raise UserError(f"there is a label every {1000 * ratio:.2f} ms: say the hop exactly with --label-hop SECONDS")
    return hop


def _measured(clips: list[Clip], hop: float | None, settings: Settings) -> Offset | None:
    """Time of the first label; for labels with times of their own, by how much they are late (first is 0 then)."""
    if not clips or (hop and settings.label_time is not None):
        return None
    chosen = clips[:: max(len(clips) // SAMPLED, 1)][:SAMPLED]
    songs = _voices_and_labels(chosen, hop, settings.stereo)
    return measure(songs, SAMPLE_RATE, hop or 0.02, (-1.5 * (hop or 0.02), 3.5 * (hop or 0.02)))


def _voices_and_labels(
    clips: Iterable[Clip], hop: float | None, stereo: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Voice and f0 of its labels; what cannot be read is left out here, for it will be missed where it is written."""
    for clip in console.progress(clips, "times of labels", "song"):
        try:
            voice = _channels(clip, stereo)[-1]
            if hop:
                yield voice, read(clip.source.label, hop).f0
            else:
                yield voice, at(read(clip.source.label), 0.02 * np.arange(int(clip.seconds / 0.02)))[0]
        except (UserError, Unusable):
            continue


def _channels(clip: Clip, stereo: str) -> np.ndarray:
    """Accompaniment and voice `[2, N]`, or the voice `[1, N]`, at 16 kHz."""
    from dsp import audio

    splits = stereo == "split" or (stereo == "auto" and clip.lines)
    x, _ = audio.read(clip.source.audio, sample_rate=SAMPLE_RATE, channels=None if splits else 1)
    if not np.isfinite(x).all():
        raise Unusable("unreadable audio", f"{clip.source.audio} holds values that are not finite")
    if np.abs(x[-1]).max(initial=0) < SILENT:
        raise Unusable("silent voice", f"{clip.source.audio} is silent where the voice should be")
    return x


# ------------------------------------------------------------------------------------------------------------- writing


def _write(clips: list[Clip], out: Path, report: Report, name: str, jobs: int) -> None:
    for split in ("train", "test"):
        require_writable(out / split)
        remove_leftovers(out / split)
    ledger = Ledger(out / LEDGER, name)
    clips = _without_conflicts(clips, out, ledger, report)
    keys = {clip.file: _key(clip, report.settings) for clip in clips}
    todo = [clip for clip in clips if not ledger.is_done(clip.file, keys[clip.file], out)]
    report.kept = len(clips) - len(todo)
    require_space(out, sum(round(clip.seconds * SAMPLE_RATE) * 2 * clip.channels for clip in todo), "the data set")
    stale = ledger.claim([clip.file for clip in clips], [clip.file for clip in todo])
    report.removed = len(stale)
    remove(out, stale)
    failed = set()
    with console.progress(len(todo), "writing songs", "song") as bar:
        for clip, result in run_songs(partial(_write_clip, out=out, settings=report.settings), todo, jobs):
            lost = Lost("failed", clip.source.name, result.reason) if isinstance(result, Failure) else result
            if lost:
                report.lost.append(lost)
                failed.add(clip.file)
            else:
                ledger.done(clip.file, keys[clip.file])
            bar.update()
    ledger.forget(failed)
    remove(out, failed)  # what an earlier run wrote under these names is no longer right
    report.written = len(todo) - len(failed)
    report.clips = [clip for clip in clips if clip.file not in failed]
    _save(out / REPORT, name, report)


def _without_conflicts(clips: list[Clip], out: Path, ledger: Ledger, report: Report) -> list[Clip]:
    """Leave out songs whose place another data set has; UserError for files that nobody noted down."""
    free: dict[str, Clip] = {}
    for clip in clips:
        owner = ledger.owner(clip.file)
        if clip.file in free or owner not in (None, ledger.name):
            message = f"{clip.file} is {owner or 'there twice'}"
            report.lost.append(Lost("name taken", clip.source.name, message))
        elif owner is None and any((out / (clip.file + end)).exists() for end in SUFFIXES):
            raise UserError(f"{out / clip.file}.wav is there and was not written by this command: choose another -o")
        else:
            free[clip.file] = clip
    return list(free.values())


def _key(clip: Clip, settings: Settings) -> str:
    """Hash of all that the two files depend on."""
    contents = [sha256(path) for path in (clip.source.audio, clip.source.label)]
    facts = [contents, settings.hop, settings.stereo, clip.label_hop, clip.label_time, clip.source.audio.suffix]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _write_clip(clip: Clip, out: Path, settings: Settings) -> Lost | None:
    """Write one song, the label first; returns what is wrong if it cannot be used."""
    from dsp.audio import AudioWriter

    try:
        x = _channels(clip, settings.stereo)
        f0 = at_frames(_labels(clip), x.shape[1], settings.hop)
        if not f0[1:].any():
            raise Unusable("all unvoiced", f"{clip.source.label} has no voiced label within the audio")
    except Unusable as error:
        return Lost(error.kind, clip.source.name, error.message)
    path = out / f"{clip.file}.wav"
    write_pv(path.with_name(path.stem + ".pv"), f0)
    with AudioWriter(path, SAMPLE_RATE, len(x), "float32" if np.abs(x).max() > 1 else "wav16") as file:
        file.write(x)
    return None


def _labels(clip: Clip) -> Pitch:
    if clip.lines:
        return read(clip.source.label, clip.label_hop, clip.label_time)
    return read(clip.source.label)


def _save(path: Path, name: str, report: Report) -> None:
    """Add this folder to the report of the data set, in the place of what was said of it before."""
    known = read_json(path) if path.exists() else {"format": 1, "data": {}}
    known["data"][name] = {
        "settings": asdict(report.settings),
        "label_hop": report.label_hop,
        "first_label": asdict(report.offset) if report.offset else None,
        "splits": report.splits(),
        "labels_out_of_range": report.outside,
        "unusable": report.reasons,
        "files": [asdict(lost) for lost in report.lost],
    }
    write_json(path, known)
