"""Scoring the songs of an evaluation, in one process or as one of several that read the same `Job` from a file.

Every song leaves one JSON file, written at once when the song is done: so several processes need not talk to each
other, and an interrupted evaluation goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference import planning
from inference.shares import Shared
from metrics.report import COLUMNS, Frames, SongScore
from metrics.sdr import nsdr
from runtime import console
from runtime.errors import UserError
from runtime.files import read_json, write_json
from runtime.launch import rank, world_size

if TYPE_CHECKING:
    from data.index import Index, Song
    from inference.separator import Separator

_FORMAT = 2  # raise it when scores written before must not be used any more
_BLOCK = 1 << 18  # samples that the separator gets at a time
_LONGEST_NAME = 200  # bytes of a song's name; file systems take 255 with all that is appended


@dataclass(frozen=True)
class Job(Shared):
    """All that a process needs to know.

    Attributes:
        plan: network and weights
        index: file of the index
        songs: names of the songs, longest first
        folder: where ``<split>/<song>.json`` go
        device, engine: as asked for on the command line
        processes: how many share the songs
        separation: options of the separator that differ from the weights' own
        bss: ``fast``, ``museval``, or ``alone``: SDR only, of each stem as if there were no others
        window, hop: s
        restart: score songs again that have been scored
    """

    plan: planning.Plan
    index: str
    songs: tuple[str, ...]
    folder: Path
    device: str = "auto"
    processes: int = 1
    engine: str = "auto"
    separation: dict[str, Any] = field(default_factory=dict)
    bss: str = "fast"
    window: float = 1.0
    hop: float = 1.0
    restart: bool = False

    @classmethod
    def fields_of(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        """See `Shared`."""
        return {"songs": tuple(facts["songs"])}

    def file(self, song: Song) -> Path:
        """Where the scores of a song are kept; a name that is too long for a file is cut and told apart by its hash."""
        name = song.name.encode()
        if len(name) > _LONGEST_NAME:
            name = name[:_LONGEST_NAME] + f"-{hashlib.sha256(name).hexdigest()[:12]}".encode()
        return self.folder / song.split / f"{name.decode(errors='ignore')}.json"


def work(job: Job) -> int:
    """Score this process' share of the songs that have no scores yet; returns the exit status."""
    from data.index import read_index
    from inference.separator import Separator
    from runtime import device as devices

    index = read_index(job.index)
    share = [index.song(name) for name in job.songs][rank() :: world_size()]
    device = devices.select(job.device, job.plan.network, job.processes)
    devices.activate(device)
    separator = Separator(job.plan, device=device.name, engine=job.engine, **job.separation)
    console.log(f"weights: {separator.name}, {separator.weights_path} ({separator.weights_hash})")
    console.log(f"engine: {separator.engine}")
    for number, song in enumerate(share, 1):
        wanted = identity(job, song, separator)
        if not job.restart and _has_scores(job.file(song), wanted):
            console.log(f"[{number}/{len(share)}] {song.name}: scored already")
            continue
        score = score_song(job, index, song, separator)
        score.details["identity"] = wanted
        job.file(song).parent.mkdir(parents=True, exist_ok=True)
        write_json(job.file(song), score.to_json())
        console.log(f"[{number}/{len(share)}] {song.name}: {_times(score.details)}")
    return 0


def identity(job: Job, song: Song, separator: Separator) -> dict[str, Any]:
    """What the scores of a song depend on; those of another identity are not used."""
    facts = {
        "format": _FORMAT,
        "song": song.fingerprint,
        "network": separator.name,
        "weights": separator.weights_hash,
        "stems": list(separator.sources),
        "separation": asdict(separator.options),
        "bss": job.bss,
        "window": job.window,
        "hop": job.hop,
    }
    return json.loads(json.dumps(facts))  # as it will be read


def score_song(job: Job, index: Index, song: Song, separator: Separator) -> SongScore:
    """Separate a song and score the stems, and the mixture in the place of each of them."""
    from data.index import load_stem

    mixture = load_stem(index, song, "mixture")  # [C, N]
    started = time.perf_counter()
    estimates = _separate(separator, mixture, song.sample_rate)  # [S, C, N]
    separated = time.perf_counter()
    references = np.zeros_like(estimates)
    for number, stem in enumerate(separator.sources):
        _copy_start(load_stem(index, song, stem), references[number])
    window, hop = (int(seconds * song.sample_rate) for seconds in (job.window, job.hop))
    if min(window, hop) < 1:
        raise UserError(f"a window of {job.window:g} s every {job.hop:g} s has no samples at {song.sample_rate} Hz")
    signals = (references, estimates, np.broadcast_to(mixture, references.shape))
    whole = {"estimate": _whole(separator.sources, *signals[:2]), "mixture": _whole(separator.sources, *signals[::2])}
    references, estimates, unprocessed = (signal.swapaxes(1, 2) for signal in signals)  # [S, N, C], without a copy
    scores = _bss(job.bss)(references, estimates, window, hop)
    baseline = _bss(job.bss)(references, unprocessed, window, hop)
    details = {
        "seconds": song.seconds,
        "separation_seconds": separated - started,
        "scoring_seconds": time.perf_counter() - separated,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "device": separator.device,
        "engine": separator.engine,
        "nsdr": whole,
    }
    named = (_by_stem(separator.sources, each) for each in (scores, baseline))
    return SongScore(song.name, job.window, job.hop, *named, details=details)


def _separate(separator: Separator, mixture: np.ndarray, sample_rate: int) -> np.ndarray:
    """All stems ``[S, C, N]`` of a mixture ``[C, N]``, in the one array that is scored: long songs are large."""
    channels, samples = mixture.shape
    stems, done = np.empty((len(separator.sources), channels, samples), np.float32), 0
    blocks = (mixture[:, start : start + _BLOCK] for start in range(0, samples, _BLOCK))
    for block in separator.stream(blocks, channels, sample_rate, samples):
        for number, stem in enumerate(separator.sources):
            count = _copy_start(block[stem], stems[number, :, done:])
        done += count
    return stems


def _copy_start(samples: np.ndarray, target: np.ndarray) -> int:
    """Copy as much of ``samples [C, n]`` as fits to the start of ``target [C, N]``; returns how many samples.

    Stems of other lengths than the mixture are reported by the audit; where they were let pass, silence fills the end.
    """
    count = min(samples.shape[1], target.shape[1])
    target[:, :count] = samples[:, :count]
    return count


def _bss(name: str) -> Any:
    if name == "museval":
        from metrics.museval_original import museval_bss_eval

        return museval_bss_eval
    if name == "alone":
        return _alone
    from metrics.bss_eval import bss_eval_v4

    return bss_eval_v4


def _alone(references: np.ndarray, estimates: np.ndarray, window: int, hop: int) -> Frames:
    """SDR ``[S, frames]`` of stems ``[S, N, C]``, each by itself; what compares a stem with others is not known."""
    from metrics.bss_eval import framewise_sdr

    pairs = zip(references, estimates, strict=True)
    sdr = np.stack([framewise_sdr(reference, estimate, window, hop) for reference, estimate in pairs])
    return {name: sdr if name == "SDR" else np.full_like(sdr, np.nan) for name in COLUMNS}


def _by_stem(stems: Sequence[str], scores: Frames) -> dict[str, Frames]:
    return {stem: {name: scores[name][number] for name in COLUMNS} for number, stem in enumerate(stems)}


def _whole(stems: Sequence[str], references: np.ndarray, estimates: np.ndarray) -> dict[str, float]:
    """nSDR in dB of each stem over the whole song; one after the other, since each takes memory."""
    pairs = zip(stems, references, estimates, strict=True)
    return {stem: round(float(nsdr(reference, estimate)), 5) for stem, reference, estimate in pairs}


def _has_scores(path: Path, wanted: dict[str, Any]) -> bool:
    if not path.is_file():
        return False
    try:
        return read_score(path).details.get("identity") == wanted
    except UserError as error:
        console.warn(f"{error}; the song is scored again")
        return False


def _times(details: dict[str, Any]) -> str:
    return (
        f"{details['seconds']:.1f} s of music separated in {details['separation_seconds']:.1f} s, "
        f"scored in {details['scoring_seconds']:.1f} s"
    )


def read_score(path: Path) -> SongScore:
    """What `work` wrote; `UserError` if it is missing or damaged."""
    try:
        return SongScore.from_json(read_json(path))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
