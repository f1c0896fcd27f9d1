"""Scoring restored songs, in one process or as one of several that read the same `Job` from a file.

Every song leaves one JSON file, written when it is done: so an interrupted validation goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference import shares
from inference.planning import Plan
from inference.restoration_plot import draw
from metrics.log_spectral import cutoff
from metrics.restoration import UNITS, restoration_scores
from runtime import console
from runtime import device as devices
from runtime.errors import UserError
from runtime.files import atomic_write, read_json, require_writable, write_json
from runtime.launch import rank, world_size

if TYPE_CHECKING:
    from inference.separator import Separator

ORIGINAL, CODEC = ("original", "ori_wav"), ("codec", "codec_wav")  # what files are called, here and by JusperLee/Apollo
RESTORED, HIGH = "restored", "lsd_high"
SUMMARY, RESULTS = "summary.json", "results.txt"
_FORMAT = 2  # raise it when scores written before must not be used any more


@dataclass(frozen=True)
class Job(shares.Shared):
    """All that a process needs to know.

    Attributes:
        plan: network and weights
        songs: name, original and codec file of each
        folder: where scores and restored songs go
        metrics: names of `metrics.restoration.UNITS`
        device: as asked for on the command line
        processes: how many share the songs
        separation: options of the separator that differ from the network's own
        save: keep the restored songs
        plot: draw each song
        restart: score songs again that have been scored
    """

    plan: Plan
    songs: tuple[tuple[str, str, str], ...]
    folder: Path
    metrics: tuple[str, ...] = ("sdr",)
    device: str = "auto"
    processes: int = 1
    separation: dict[str, Any] = field(default_factory=dict)
    save: bool = False
    plot: bool = False
    restart: bool = False

    @classmethod
    def fields_of(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        """See `shares.Shared`."""
        return {"songs": tuple(map(tuple, facts["songs"])), "metrics": tuple(facts["metrics"])}

    def file(self, name: str) -> Path:
        """Where the scores of a song are kept."""
        return self.folder / "songs" / f"{name}.json"

    def restored(self, name: str) -> Path:
        """Where a restored song is kept."""
        return self.folder / f"{name}_{RESTORED}.wav"

    def picture(self, name: str) -> Path:
        """Where the picture of a song is kept."""
        return self.folder / f"{name}.png"


def find(folder: Path) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """Name, original and codec file of each song: folders with one ``original.*`` and one ``codec.*``.

    ``ori_wav.*`` and ``codec_wav.*``, as in the examples of JusperLee/Apollo, are found, too. The second result is a
    sentence for each folder that is none.

    Raises:
        UserError: no such folder, or no song in it
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    found, lost = [], []
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = [path for path in sorted(place.iterdir()) if path.is_file()]
        originals, codecs = ([path for path in files if path.stem in names] for names in (ORIGINAL, CODEC))
        if len(originals) == len(codecs) == 1:
            found.append((place.name, originals[0], codecs[0]))
        else:
            lost.append(f"{place} is left out: it has {len(originals)} files original.* and {len(codecs)} codec.*")
    if not found:
        raise UserError(f"no folder in {folder} has one file original.* and one codec.*")
    return found, lost


def validate(job: Job, script: Sequence[str]) -> int:
    """Do the job, say the means and write them; returns the exit status. ``script`` is the command for `work`."""
    started = time.perf_counter()
    require_writable(job.folder)
    if status := shares.run(job, work, script):
        return status
    results = {name: read_json(job.file(name)) for name, *_ in job.songs}
    used = {name: result for name, result in sorted(results.items()) if "scores" in result}
    if not used:
        raise UserError("no song could be scored")
    failed = {name: result["error"] for name, result in sorted(results.items()) if "error" in result}
    statistics = {which: _statistics(used, which, job.metrics) for which in ("scores", "codec")}
    text = "\n".join(_lines(job, used, statistics))
    console.log(text)
    summary = {
        "songs": len(used),
        "failed": failed,
        "seconds": sum(result["seconds"] for result in used.values()),
        "restored": statistics["scores"],
        "codec": statistics["codec"],
        "network": job.plan.network,
        "weights": str(job.plan.weights),
        "separation": job.separation,
        "elapsed": time.perf_counter() - started,
    }
    write_json(job.folder / SUMMARY, summary)
    if job.save:
        with atomic_write(job.folder / RESULTS, "w") as handle:
            handle.write(f"{job.plan.weights}\n\n{text}\n")
    return 1 if failed else 0


def _statistics(
    used: Mapping[str, Mapping[str, Any]], which: str, metrics: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Mean and deviation over the songs; a value that is no number (of silence) counts for neither."""
    table = {}
    for metric in metrics:
        values = np.array([result[which][metric] for result in used.values()], np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            table[metric] = {"mean": float(values.mean()), "std": float(values.std()), "songs": int(values.size)}
    return table


def _lines(
    job: Job, used: Mapping[str, Mapping[str, Any]], statistics: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> list[str]:
    rows = [
        [name, *(_text(result["scores"][metric]) for metric in job.metrics), _hertz(result["cutoff"])]
        for name, result in used.items()
    ]
    lines = [console.table(rows, ["song", *job.metrics, "cut-off"])]
    whole = [name for name, result in used.items() if result["cutoff"] is None]
    if whole and HIGH in job.metrics:
        lines.append(f"of these the codec has cut nothing off, and {HIGH} leaves them out: {', '.join(whole)}")
    lines += ["", "Summary, and what the codec left:"]
    for metric in job.metrics:
        own, before = (statistics[which].get(metric) for which in ("scores", "codec"))
        said = [f"{each['mean']:.4f} (Std: {each['std']:.4f})" if each else "n/a" for each in (own, before)]
        lines.append(f"{metric}: {said[0]}; codec {said[1]}  [{UNITS[metric]}]")
    return lines


def _text(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _hertz(value: float | None) -> str:
    return "none" if value is None else f"{value:.0f} Hz"


def work(job: Job) -> int:
    """Score this process' share of the songs; returns the exit status. What is wrong with a song becomes its result."""
    from inference.separator import Separator

    share = job.songs[rank() :: world_size()]
    device = devices.select(job.device, job.plan.network, job.processes)
    devices.activate(device)
    separator = Separator(job.plan, device=device.name, **job.separation)
    console.log(f"weights: {separator.name}, {separator.weights_path} ({separator.weights_hash})")
    for number, (name, original, codec) in enumerate(share, 1):
        wanted = _identity(separator, Path(original), Path(codec))
        earlier = {} if job.restart else _earlier(job.file(name), wanted)
        there = all(metric in earlier.get("scores", {}) for metric in job.metrics)
        drawn = job.picture(name).is_file() or not job.plot
        if there and drawn and (job.restored(name).is_file() or not job.save):
            console.log(f"[{number}/{len(share)}] {name}: scored already")
            continue
        try:
            result = _score(job, separator, name, Path(original), Path(codec))
            said = "  ".join(f"{metric} {_text(result['scores'][metric])}" for metric in job.metrics)
            for which in ("scores", "codec"):
                result[which] = {**earlier.get(which, {}), **result[which]}
        except UserError as error:
            result, said = {"error": str(error)}, f"failed: {error}"
        write_json(job.file(name), {"song": name, **result, "identity": wanted})
        console.log(f"[{number}/{len(share)}] {name}: {said}")
    return 0


def _identity(separator: Separator, original: Path, codec: Path) -> dict[str, Any]:
    """What the scores of a song depend on; those of another identity are not used."""
    facts = {
        "format": _FORMAT,
        "files": [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in (original, codec)],
        "network": separator.name,
        "weights": separator.weights_hash,
        "separation": asdict(separator.options),
    }
    return json.loads(json.dumps(facts))  # as it will be read


def _earlier(path: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The result that is there already, if it is of this identity."""
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
    except UserError as error:
        console.warn(f"{error}; the song is scored again")
        return {}
    return found if found.get("identity") == wanted else {}


def _score(job: Job, separator: Separator, name: str, original: Path, codec: Path) -> dict[str, Any]:
    rate = separator.sample_rate
    reference, compressed = (_read(path, separator) for path in (original, codec))
    started = time.perf_counter()
    estimate = separator.separate(compressed)[RESTORED]
    elapsed = time.perf_counter() - started
    if not min(reference.shape[1], estimate.shape[1]):
        raise UserError(f"{original} or {codec} has no samples")
    if job.save:
        _save(job.restored(name), estimate, rate)
    edge = cutoff(reference, compressed)
    try:
        scores = restoration_scores(job.metrics, reference, estimate, compressed, edge)
        before = restoration_scores(job.metrics, reference, compressed, compressed, edge)
    except ValueError as failure:
        raise UserError(f"{codec} cannot be scored: {failure}") from failure
    hertz = None if edge is None else edge * rate
    if job.plot:
        sounds = {"original": reference, _said("codec", before): compressed, _said(RESTORED, scores): estimate}
        draw(job.picture(name), name, sounds, rate, hertz)
    return {
        "scores": _numbers(scores),
        "codec": _numbers(before),
        "cutoff": hertz,
        "seconds": estimate.shape[1] / rate,
        "longer": compressed.shape[1] - reference.shape[1],
        "restoring_seconds": elapsed,
        "device": separator.device,
    }


def _said(name: str, scores: Mapping[str, float]) -> str:
    """What is written above a picture."""
    return f"{name}: {HIGH} {scores[HIGH]:.1f} dB" if np.isfinite(scores[HIGH]) else f"{name}: no cut-off"


def _numbers(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in scores.items()}


def _read(path: Path, separator: Separator) -> np.ndarray:
    """``[C, N]`` at the network's rate; one channel is repeated, of more than two the mean is, as in the original."""
    from dsp import audio

    music, _ = audio.read(path, sample_rate=separator.sample_rate)
    if len(music) > separator.channels:
        music = music.mean(axis=0, keepdims=True)
    return audio.convert_channels(music, separator.channels)


def _save(path: Path, music: np.ndarray, rate: int) -> None:
    from dsp import audio

    with audio.AudioWriter(path, rate, len(music), "float32") as writer:
        writer.write(music)
