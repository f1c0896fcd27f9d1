"""The evaluator: draws songs, has them separated and scored, and says how good that is and under which protocol.

The command makes a `Job` and does it (see `scoring`), in this process or in several; what is printed at the end (see
`summary`) is computed from the files that the songs leave.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference import planning, shares
from inference.scoring import Job, read_score, work
from inference.summary import conclude
from runtime import config, console
from runtime import device as devices
from runtime.errors import UserError
from runtime.files import require_writable, write_json

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from data.index import Index, Song

GROUP, DEFAULT = "spleeter", "spleeter/2stems"
_FLAGS = ("shifts", "overlap", "segment")  # of the command line, that the separator knows by these names
_SECTIONS = ("data", "separation", "model_dir", "network", "device")  # of the configuration, that matter here


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
        processes=processes(options.processes or 1, len(songs), cfg.device, plan.network),
        engine=options.engine,
        separation=_separation(options, cfg),
        bss=options.bss,
        window=options.window,
        hop=options.hop or options.window,
        restart=options.restart,
    )
    require_writable(job.folder)
    if options.json:
        _require_file(Path(options.json))
    minutes = sum(song.seconds for song in songs) / 60
    console.log(f"songs: {len(songs)} of {options.split} in {index.path} ({minutes:.1f} min)")
    status = run(job, script)
    if status:
        return status
    scores = [read_score(job.file(song)) for song in songs]
    drawn = {"split": options.split, "fraction": options.fraction, "seed": options.seed}
    result = conclude(job, scores, drawn, time.perf_counter() - started)
    if options.json:
        write_json(options.json, result)
    return 0


def _require_file(path: Path) -> None:
    """The result is written at the end of long work; what stands in its way is told before."""
    if path.is_dir():
        raise UserError(f"--json {path} is a folder: name a file")
    require_writable(path.resolve().parent)


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


def _separation(options: Namespace, cfg: DictConfig) -> dict[str, Any]:
    """Options of the separator that the command line asks for; all others are the weights' own."""
    flags = {key: getattr(options, key) for key in _FLAGS if getattr(options, key) is not None}
    if options.whole:
        flags["split"] = False
    if options.overlap_window:
        flags["window"] = options.overlap_window
    return {**flags, **{key: cfg.separation[key] for key in cfg.separation if _is_given(options, f"separation.{key}")}}


def _plan(options: Namespace, cfg: DictConfig) -> planning.Plan:
    """What ``-n`` and ``--weights`` name, else the run that was trained last."""
    name, wanted = options.name, cfg.network if options.config or _is_given(options, "network") else None
    if name is None and options.weights is None and options.repo is None:
        from runtime import checkpoint

        return planning.separating(checkpoint.newest(cfg.model_dir, wanted))
    plan = planning.separating(name or wanted, options.weights, options.offline, options.repo)
    if options.config and not plan.model:  # foreign weights do not say how their network is built
        from omegaconf import OmegaConf

        values = OmegaConf.to_container(cfg, resolve=True)
        return replace(plan, model=values["model"], separation=values["separation"])
    return plan


def _is_given(options: Namespace, key: str) -> bool:
    return any(text.startswith(f"{key}=") for text in options.overrides)


def processes(asked: int, songs: int, device: str, network: str) -> int:
    """No more processes than songs; too many for the cards are refused even if fewer will do."""
    wanted = min(asked, songs)
    devices.select(device, network, wanted)  # first: it deals the threads of the CPU to those that will be there
    devices.select(device, network, asked)
    return wanted


def run(job: Job, script: str) -> int:
    """Do the job, in as many processes as it says; returns the exit status. ``script`` is the file of ``eval.py``."""
    return shares.run(job, work, [script])
