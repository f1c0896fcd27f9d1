"""The evaluator: draws songs, has them separated and scored, and says how good that is and under which protocol.

The command makes a `Job` and does it, in this process or in several that read it from a file. Every song leaves one
JSON file, from which everything that is printed is computed: so several processes need not talk to each other, and an
interrupted evaluation goes on where it stopped.
"""

from __future__ import annotations

import json
import resource
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference import planning
from metrics.report import COLUMNS, Frames, Protocol, SongScore, aggregate, scores_table
from runtime import config, console
from runtime.errors import UserError
from runtime.files import read_json, require_writable, write_json
from runtime.launch import launch, rank, world_size

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from data.index import Index, Song
    from inference.separator import Separator

GROUP, DEFAULT = "spleeter", "spleeter/2stems"
_SECTIONS = ("data", "separation", "model_dir", "network", "device")  # of the configuration, that matter here
_FORMAT = 1  # raise it when scores written before must not be used any more


@dataclass(frozen=True)
class Job:
    """All that a process needs to know.

    Attributes:
        plan: network and weights
        index: file of the index
        songs: names of the songs, longest first
        folder: where ``<split>/<song>.json`` go
        device, processes, engine: as asked for on the command line
        separation: options of the separator that differ from the weights' own
        bss: ``fast`` or ``museval``
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

    def write(self, path: Path) -> Path:
        """For the other processes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))
        return path

    @classmethod
    def read(cls, path: str | Path) -> Job:
        """What `write` wrote."""
        facts = dict(read_json(path))
        plan = planning.Plan(**{**facts["plan"], "weights": Path(facts["plan"]["weights"])})
        return cls(**{**facts, "plan": plan, "songs": tuple(facts["songs"]), "folder": Path(facts["folder"])})

    def file(self, song: Song) -> Path:
        """Where the scores of a song are kept."""
        return self.folder / song.split / f"{song.name}.json"


def evaluate(options: Namespace, changes: Sequence[str], script: str) -> int:
    """Do what the command line of ``eval.py`` says and print the result; returns the exit status.

    ``changes`` are the ``key=value`` that flags and positional arguments ask for, ``script`` is the command's file.

    Raises:
        UserError: no index, empty split, songs without the reference stems or changed since they were indexed, no
            weights, no device, unwritable output
    """
    from data.index import read_index

    started = time.perf_counter()
    cfg = _configuration(options, changes)
    plan = _plan(options, cfg)
    index = read_index(cfg.data.index)
    songs = draw(index.require(options.split), options.fraction, options.seed)
    check_songs(index, songs, plan.description.sources)
    job = Job(
        plan=plan,
        index=str(index.path),
        songs=tuple(song.name for song in sorted(songs, key=lambda song: -song.seconds)),
        folder=Path(options.output) if options.output else Path("evaluation") / plan.label,
        device=cfg.device,
        processes=options.processes or 1,
        engine=options.engine,
        separation={key: cfg.separation[key] for key in cfg.separation if _is_given(options, f"separation.{key}")},
        bss=options.bss,
        window=options.window,
        hop=options.hop or options.window,
        restart=options.restart,
    )
    require_writable(job.folder)
    if options.json:
        require_writable(Path(options.json).resolve().parent)
    minutes = sum(song.seconds for song in songs) / 60
    console.log(f"songs: {len(songs)} of {options.split} in {index.path} ({minutes:.1f} min)")
    status = work(job) if job.processes == 1 else _share(job, script)
    if status:
        return status
    scores = [_read_score(job.file(song)) for song in songs]
    drawn = {"split": options.split, "fraction": options.fraction, "seed": options.seed}
    result = conclude(job, scores, drawn, time.perf_counter() - started)
    if options.json:
        write_json(options.json, result)
    return 0


def draw(songs: Sequence[Song], fraction: float, seed: int) -> list[Song]:
    """A part of the songs, at least one, by name; it depends on their names, the fraction and the seed alone."""
    ordered = sorted(songs, key=lambda song: song.name)
    count = max(1, round(fraction * len(ordered)))
    chosen = np.random.default_rng(seed).permutation(len(ordered))[:count]
    return [ordered[position] for position in sorted(chosen)]


def check_songs(index: Index, songs: Sequence[Song], stems: Sequence[str]) -> None:
    """Raise `UserError` that names the songs which lack a stem or are not what they were when they were indexed."""
    for song in songs:
        missing = [stem for stem in ("mixture", *stems) if not song.has(stem)]
        if missing:
            there = ", ".join(sorted(song.sources))
            raise UserError(
                f"{song.folder} has no {' and no '.join(missing)}, which this network is scored on (there: {there}): "
                "add the files and run preprocess.py, or evaluate another network"
            )
        if changed := index.changed(song):
            raise UserError(f"{', '.join(changed)} changed since the data set was indexed: run preprocess.py again")


def _configuration(options: Namespace, changes: Sequence[str]) -> DictConfig:
    for text in options.overrides:
        if text.partition("=")[0].lstrip("+~").partition(".")[0] not in _SECTIONS:
            raise UserError(f"{text} does not concern an evaluation: {', '.join(_SECTIONS)} do", status=2)
    return config.load(options.config or DEFAULT, changes, GROUP)


def _plan(options: Namespace, cfg: DictConfig) -> planning.Plan:
    """What ``-n`` and ``--weights`` name, else the run that was trained last."""
    name, wanted = options.name, cfg.network if options.config or _is_given(options, "network") else None
    if name is None and options.weights is None:
        from runtime import checkpoint

        return planning.plan(checkpoint.newest(cfg.model_dir, wanted))
    plan = planning.plan(name or wanted, options.weights, options.offline)
    if options.config and not plan.model:  # foreign weights do not say how their network is built
        from omegaconf import OmegaConf

        values = OmegaConf.to_container(cfg, resolve=True)
        return replace(plan, model=values["model"], separation=values["separation"])
    return plan


def _is_given(options: Namespace, key: str) -> bool:
    return any(text.startswith(f"{key}=") for text in options.overrides)


# --------------------------------------------------------------------------------------------------- doing the job


def _share(job: Job, script: str) -> int:
    """Run the job in its processes."""
    from runtime import device as devices

    device = devices.select(job.device, job.plan.network, job.processes)
    path = job.write(job.folder / "job.json")
    return launch(min(job.processes, len(job.songs)), [script, "--work", str(path)], device, job.folder / "logs")


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
        if not job.restart and _is_scored(job.file(song), wanted):
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
    stems = separator.separate(mixture, song.sample_rate)
    separated = time.perf_counter()
    shape = (len(stems), mixture.shape[1], mixture.shape[0])  # [S, N, C], as the metrics want it
    references, estimates = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for number, stem in enumerate(separator.sources):
        references[number] = _as_long_as(load_stem(index, song, stem), mixture).T
        estimates[number] = stems.pop(stem).T
    window, hop = (int(seconds * song.sample_rate) for seconds in (job.window, job.hop))
    if min(window, hop) < 1:
        raise UserError(f"a window of {job.window:g} s every {job.hop:g} s has no samples at {song.sample_rate} Hz")
    scores = _bss(job.bss)(references, estimates, window, hop)
    baseline = _bss(job.bss)(references, np.broadcast_to(mixture.T, shape), window, hop)
    details = {
        "seconds": song.seconds,
        "separation_seconds": separated - started,
        "scoring_seconds": time.perf_counter() - separated,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "device": separator.device,
        "engine": separator.engine,
    }
    named = (_by_stem(separator.sources, each) for each in (scores, baseline))
    return SongScore(song.name, job.window, job.hop, *named, details=details)


def _as_long_as(stem: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """The audit of the data set reports stems of other lengths; where they were let pass, silence fills the end."""
    stem = stem[:, : mixture.shape[1]]
    return np.pad(stem, [(0, 0), (0, mixture.shape[1] - stem.shape[1])])


def _bss(name: str) -> Any:
    if name == "museval":
        from metrics.museval_original import museval_bss_eval

        return museval_bss_eval
    from metrics.bss_eval import bss_eval_v4

    return bss_eval_v4


def _by_stem(stems: Sequence[str], scores: Frames) -> dict[str, Frames]:
    return {stem: {name: scores[name][number] for name in COLUMNS} for number, stem in enumerate(stems)}


def _is_scored(path: Path, wanted: dict[str, Any]) -> bool:
    if not path.is_file():
        return False
    try:
        return _read_score(path).details.get("identity") == wanted
    except UserError as error:
        console.warn(f"{error}; the song is scored again")
        return False


def _read_score(path: Path) -> SongScore:
    try:
        return SongScore.from_json(read_json(path))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


# ------------------------------------------------------------------------------------------------------- the result


def conclude(job: Job, scores: Sequence[SongScore], drawn: dict[str, Any], elapsed: float) -> dict[str, Any]:
    """Print the table, times, memory and protocol; returns them as a structure for JSON.

    ``drawn``: split, fraction and seed; ``elapsed``: s that the command took.
    """
    weights = {score.details["identity"]["weights"] for score in scores}
    if len(weights) != 1:
        raise UserError(f"{job.folder} holds scores of different weights ({', '.join(sorted(weights))}): use --restart")
    found = {
        "estimate": aggregate(score.estimates for score in scores),
        "mixture": aggregate(score.mixture for score in scores),
    }
    details = [score.details for score in scores]
    protocol = Protocol(
        window=job.window,
        hop=job.hop,
        over_frames="median",
        over_songs="median",
        songs=len(scores),
        weights=f"{job.plan.label} {weights.pop()}",
        bss=job.bss,
        **drawn,
    )
    each = [facts["separation_seconds"] + facts["scoring_seconds"] for facts in details]
    separation = sum(facts["separation_seconds"] for facts in details)
    speed = {
        "seconds_per_song": float(np.mean(each)),
        "seconds_per_song_range": [min(each), max(each)],
        "separation_seconds_per_song": separation / len(details),
        "real_time_factor": separation / max(sum(facts["seconds"] for facts in details), 1e-9),
        "peak_memory_mib": max(facts["peak_memory_mib"] for facts in details),
    }
    _say(job, scores, found, protocol, speed, elapsed)
    return {
        **{label: {stem: _plain(row) for stem, row in table.items()} for label, table in found.items()},
        **speed,
        "elapsed": elapsed,
        "protocol": {**asdict(protocol), "line": protocol.line()},
        "network": job.plan.network,
        "weights": str(job.plan.weights),
        "songs": {
            score.song: {stem: _plain(row) for stem, row in aggregate([score.estimates]).items()} for score in scores
        },
    }


def _plain(row: dict[str, float]) -> dict[str, float | None]:
    """Rounded like the scores of the songs; nothing is ``null``, since JSON has no NaN."""
    return {name: round(value, 5) if np.isfinite(value) else None for name, value in row.items()}


def _say(
    job: Job,
    scores: Sequence[SongScore],
    found: dict[str, Any],
    protocol: Protocol,
    speed: dict[str, Any],
    elapsed: float,
) -> None:
    deaf = [score.song for score in scores if not any(np.isfinite(f["SDR"]).any() for f in score.estimates.values())]
    if deaf:
        console.warn(f"no window of these songs has sound in all stems, so they do not count: {', '.join(deaf)}")
    console.log(f"\n{scores_table(found)}\n")
    low, high = speed["seconds_per_song_range"]
    console.log(
        f"{speed['seconds_per_song']:.2f} s per song ({low:.2f} … {high:.2f}), "
        f"of which separation {speed['separation_seconds_per_song']:.2f} s"
    )
    console.log(f"real-time factor of the separation {speed['real_time_factor']:.3f} (time per length of music)")
    console.log(f"peak memory of a process {speed['peak_memory_mib']:.0f} MiB")
    console.log(f"protocol: {protocol.line()}")
    console.log(f"scores of {len(scores)} songs in {job.folder}; {elapsed:.1f} s")


def _times(details: dict[str, Any]) -> str:
    return (
        f"{details['seconds']:.1f} s of music separated in {details['separation_seconds']:.1f} s, "
        f"scored in {details['scoring_seconds']:.1f} s"
    )
