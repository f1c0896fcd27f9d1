"""Scoring pitch tracks against labels, in one process or as one of several that read the same `Job` from a file.

Every song leaves one JSON file, written when it is done: so an interrupted evaluation goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference import shares
from inference.planning import Plan
from runtime import console
from runtime import device as devices
from runtime.errors import UserError
from runtime.files import read_json, require_writable, sha256, write_json
from runtime.launch import rank, world_size

if TYPE_CHECKING:
    from data.pitch_labels import Pitch
    from data.pitch_sources import Source
    from inference.pitch import PitchTrack, PitchTracker

SCORES = ("rpa", "rca", "oa", "vr", "vfa")
MIX, VOICE = "mix", "voice"
SUMMARY = "summary.json"
_FORMAT = 1  # raise it when scores written before must not be used any more


@dataclass(frozen=True)
class Labels:
    """How labels without times (``.pv``) are read: seconds from line to line, and the time of the first line.

    None is what `run_rmvpe.py -m prepare` writes: a line a frame, from the second frame on.
    """

    step: float | None = None
    first: float | None = None


@dataclass(frozen=True)
class Job(shares.Shared):
    """All that a process needs to know.

    Attributes:
        plan: network and weights
        songs: name, audio and label of each
        folder: where the scores go
        device: as asked for on the command line
        processes: how many share the songs
        threshold, viterbi, hop: see `inference.pitch.PitchTracker`
        labels: see `Labels`
        listen: ``mix``: all channels; ``voice``: of two channels the second, as data sets of accompaniment and voice
            have it
        restart: score songs again that have been scored
    """

    plan: Plan
    songs: tuple[tuple[str, str, str], ...]
    folder: Path
    device: str = "auto"
    processes: int = 1
    threshold: float = 0.03
    viterbi: bool = False
    hop: int | None = None
    labels: Labels = Labels()
    listen: str = MIX
    restart: bool = False

    @classmethod
    def fields_of(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        """See `shares.Shared`."""
        return {"labels": Labels(**facts["labels"]), "songs": tuple(map(tuple, facts["songs"]))}

    def file(self, name: str) -> Path:
        """Where the scores of a song are kept."""
        return self.folder / "songs" / f"{name}.json"


def find(folder: Path) -> tuple[list[Source], list[str]]:
    """Songs with labels below a folder, and a sentence for each that has none.

    Of a data set with a test split (`{train,test}`) only that.

    Raises:
        UserError: no such folder, or nothing in it that has a label
    """
    from data import pitch_sources

    place = folder / "test" if (folder / "test").is_dir() else folder
    found = pitch_sources.find(place)
    if not found.sources:
        raise UserError(f"no audio file in {place} has a label (.pv, .csv, .tsv) of its name")
    names = [source.name for source in found.sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"several songs below {place} would be called {twice[0]}: evaluate their folders one by one")
    return found.sources, [lost.message for lost in found.lost]


def evaluate(job: Job, script: Sequence[str]) -> int:
    """Do the job, say the means and write them; returns the exit status. ``script`` is the command for `work`."""
    started = time.perf_counter()
    require_writable(job.folder)
    if status := shares.run(job, work, script):
        return status
    results = {name: read_json(job.file(name)) for name, *_ in job.songs}
    used = {name: result for name, result in results.items() if "scores" in result}
    if not used:
        raise UserError("no song could be scored")
    rows = [(name, *(f"{result['scores'][score]:.4f}" for score in SCORES)) for name, result in sorted(used.items())]
    means = {score: float(np.mean([result["scores"][score] for result in used.values()])) for score in SCORES}
    rows.append(("mean", *(f"{means[score]:.4f}" for score in SCORES)))
    console.log(console.table(rows, ("song", *map(str.upper, SCORES))))
    failed = {name: result["error"] for name, result in results.items() if "error" in result}
    summary = {
        "songs": len(used),
        "failed": failed,
        "seconds": sum(result["seconds"] for result in used.values()),
        "means": means,
        "network": job.plan.network,
        "protocol": {"threshold": job.threshold, "viterbi": job.viterbi, "listen": job.listen, "tolerance_cents": 50},
        "elapsed": time.perf_counter() - started,
    }
    write_json(job.folder / SUMMARY, summary)
    console.log(f"means over {len(used)} songs of {summary['seconds'] / 60:.1f} min, within 50 cents: {job.folder}")
    return 1 if failed else 0


def work(job: Job) -> int:
    """Score this process' share of the songs; returns the exit status. What is wrong with a song becomes its result."""
    from inference.pitch import PitchTracker
    from inference.pitch_songs import announce

    share = job.songs[rank() :: world_size()]
    device = devices.select(job.device, job.plan.network, job.processes)
    devices.activate(device)
    tracker = PitchTracker(job.plan, device.name, job.threshold, job.viterbi, job.hop)
    announce(tracker)
    for number, (name, audio, label) in enumerate(share, 1):
        wanted = identity(job, tracker, Path(audio), Path(label))
        if not job.restart and _is_scored(job.file(name), wanted):
            console.log(f"[{number}/{len(share)}] {name}: scored already")
            continue
        try:
            result = score(job, tracker, Path(audio), Path(label))
            said = "  ".join(f"{key.upper()} {value:.4f}" for key, value in result["scores"].items())
        except UserError as error:
            result, said = {"error": str(error)}, f"failed: {error}"
        write_json(job.file(name), {"song": name, "audio": audio, "label": label, **result, "identity": wanted})
        console.log(f"[{number}/{len(share)}] {name}: {said}")
    return 0


def identity(job: Job, tracker: PitchTracker, audio: Path, label: Path) -> dict[str, Any]:
    """What the scores of a song depend on; those of another identity are not used."""
    facts = {
        "format": _FORMAT,
        "audio": [audio.stat().st_size, audio.stat().st_mtime_ns],
        "label": sha256(label),
        "weights": tracker.weights_hash,
        "network": dict(tracker.config),
        "hop": tracker.hop,
        "threshold": job.threshold,
        "viterbi": job.viterbi,
        "labels": asdict(job.labels),
        "listen": job.listen,
    }
    return json.loads(json.dumps(facts))  # as it will be read


def score(job: Job, tracker: PitchTracker, audio: Path, label: Path) -> dict[str, Any]:
    """Follow the pitch of a song and compare it with its label, at the times of the label.

    Raises:
        UserError: no audio, no label inside of it, or another number of channels than ``listen`` wants
    """
    from metrics.pitch import pitch_scores

    started = time.perf_counter()
    track, seconds = _follow(job, tracker, audio, label)
    elapsed = time.perf_counter() - started
    reference = _reference(job, tracker, label, seconds)
    if not len(reference) or not len(track):
        raise UserError(f"{label} has no label inside of the {seconds:.2f} s of {audio}")
    scores = asdict(pitch_scores(reference.times, reference.f0, track.times, track.f0))
    return {
        "scores": {key: scores[key] for key in SCORES},
        "seconds": seconds,
        "labels": len(reference),
        "voiced": int(reference.voiced.sum()),
        "tracking_seconds": elapsed,
        "device": tracker.device,
    }


def _reference(job: Job, tracker: PitchTracker, label: Path, seconds: float) -> Pitch:
    """The labels inside of the audio. The first frame, which ``.pv`` has no line for, is unvoiced as in training."""
    from data import pitch_labels

    read = pitch_labels.read(label, job.labels.step or tracker.step, job.labels.first)
    inside = (read.times >= 0) & (read.times <= seconds)
    times, f0 = read.times[inside], read.f0[inside]
    if label.suffix.lower() == ".pv" and len(times) and times[0] > 0:
        times, f0 = np.insert(times, 0, 0), np.insert(f0, 0, 0)
    return pitch_labels.Pitch(times, f0)


def _follow(job: Job, tracker: PitchTracker, path: Path, label: Path) -> tuple[PitchTrack, float]:
    """The track of a song, and how many seconds it lasts.

    Where labels are ``.pv`` and there are two channels, these are accompaniment and voice, which training adds; other
    channels are averaged, as everywhere.
    """
    from dsp import audio

    info, samples = audio.probe(path), 0
    if job.listen == VOICE and info.channels > 2:
        raise UserError(f"{path} has {info.channels} channels: a voice alone is the second of two, or the only one")
    parts = label.suffix.lower() == ".pv" and info.channels == 2

    def heard() -> Iterator[np.ndarray]:
        nonlocal samples
        for block in audio.blocks(path, 1 << 16):
            samples += block.shape[-1]
            yield block[-1:] if job.listen == VOICE else block.sum(axis=0, keepdims=True) if parts else block

    track = tracker.track(heard(), info.sample_rate)
    return track, samples / info.sample_rate


def _is_scored(path: Path, wanted: dict[str, Any]) -> bool:
    if not path.is_file():
        return False
    try:
        return read_json(path).get("identity") == wanted
    except UserError:
        return False
