"""What is known of a Demucs experiment."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from run_scripts import demucs_options as demucs
from runtime.console import log
from runtime.errors import UserError

if TYPE_CHECKING:
    from training.xp import Experiment

EPILOG = """\
examples:
  python run_scripts/run_demucs.py info -f 81de367c
  python run_scripts/run_demucs.py info -f 81de367c hdemucs.channels=32
  python run_scripts/run_demucs.py info -m model=htdemucs batch_size=8
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = demucs.parser("info", __doc__, EPILOG)
    demucs.add_experiment(parser)
    add = parser.add_argument
    add("-j", "--job_id", dest="job", metavar="JOB", help="the experiment that this batch job trains, instead of -f")
    add("-m", "--metrics", action="store_true", help="scores of every epoch, one JSON line each")
    add("-C", "--checkpoint", action="store_true", help="where the last and the best checkpoint are")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("-l", "--log", action="store_true", help="show the log")
    shown.add_argument("-t", "--tail", action="store_true", help="show the end of the log and follow it")
    add("--cancel", action="store_true", help="end its batch job")
    return parser.parse(arguments)


def find(options: argparse.Namespace) -> Experiment:
    """What the command line asks about."""
    if options.job is None:
        return demucs.experiment(options)
    if options.signature or [text for text in options.overrides if not text.startswith("dora.dir=")]:
        raise UserError("-j names the experiment: leave out -f and the overrides", status=2)
    from run_scripts import demucs_jobs
    from training import xp

    return xp.load(demucs_jobs.signature_of(options.job, xp.root(options.overrides)), options.overrides)


def describe(experiment: Experiment) -> list[str]:
    """The lines that are always shown."""
    from run_scripts import demucs_jobs
    from training import xp_store
    from training.xp_values import written

    epochs = len(xp_store.history(experiment))
    lines = [f"signature: {experiment.signature}", "changes:" + ("" if experiment.delta else " none")]
    lines += [f"  {key}={written(value)}" for key, value in experiment.delta]
    lines += [f"folder: {experiment.folder}"]
    lines += [f"state: {xp_store.state(experiment)}, {epochs} of {experiment.cfg.epochs} epochs"]
    if job := demucs_jobs.of(experiment):
        lines.append(f"job: {job.name}, {job.state()}")
    for kind, scores in zip(("valid", "test"), xp_store.last_scores(experiment), strict=True):
        if scores:
            lines.append(f"{kind}: " + "  ".join(f"{name} {value:.5g}" for name, value in numbers(scores)))
    return lines


def numbers(scores: dict) -> list[tuple[str, float]]:
    """Name and value of every number in scores; those of single averages of the weights are left to ``-m``."""
    return [(name, value) for name, value in scores.items() if isinstance(value, int | float)]


def main(arguments: list[str]) -> int:
    """Prints; returns the exit status."""
    options = parse(arguments)
    experiment = find(options)
    from run_scripts import demucs_jobs
    from runtime import checkpoint
    from training import xp_store

    for line in describe(experiment):
        log(line)
    if options.checkpoint:
        log(f"last checkpoint: {checkpoint.latest(experiment.folder) or 'none'}")
        log(f"best checkpoint: {checkpoint.best(experiment.folder) or 'none'}")
    if options.metrics:
        for line in xp_store.history(experiment):
            log(json.dumps(line))
    if options.cancel:
        job = demucs_jobs.of(experiment)
        if job is None or not job.is_alive():
            raise UserError(f"{experiment.signature} has no batch job that could be ended")
        job.cancel()
        log(f"ended job {job.name}")
    if options.log:
        with open(xp_store.latest_log(experiment), encoding="utf-8", errors="replace") as file:
            shutil.copyfileobj(file, sys.stdout)
    if options.tail:
        sys.stdout.flush()
        xp_store.follow(xp_store.latest_log(experiment))
    return 0
