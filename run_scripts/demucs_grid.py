"""The experiments of a grid: list them, train them, follow them."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from run_scripts import demucs_options as demucs
from run_scripts import options as shared
from runtime import console
from runtime.console import log
from runtime.errors import UserError

if TYPE_CHECKING:
    from training.xp import Experiment
    from training.xp_grids import Grid

EPILOG = """\
Without --dry_run, experiments that are neither done nor running are trained: as Slurm jobs where there is Slurm, else
(or with --local) on this machine, one after the other. One that continues from another waits until that one is done.

A pattern chooses the experiments whose name contains it (* and ? stand for anything), !pattern those whose name does
not, a number the experiment of that index; slurm.KEY=VALUE and dora.dir=FOLDER are settings instead. The name is what
the experiment changes, as `--dry_run` shows it, and its signature.

examples:
  python run_scripts/run_demucs.py grid mdx --dry_run --init
  python run_scripts/run_demucs.py grid mmi model=htdemucs '!sparse' --dry_run
  python run_scripts/run_demucs.py grid repro -g 8 -p gpu -i 10
"""
_HEADER = ("index", "state", "sig", "sid", "epoch", "train", "valid", "best", "nsdr", "test nsdr", "test sdr", "name")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = demucs.parser("grid", __doc__, EPILOG)
    parser.add_argument("grid", metavar="NAME", nargs="?", help="of the grid; without it, the grids are listed")
    parser.add_argument("patterns", metavar="pattern", nargs="*", help="choose experiments, see below")
    demucs.add_machine(parser)
    what = parser.add_argument_group("what to do").add_argument
    what("--dry_run", action="store_true", help="show the table, train nothing")
    what("--init", action="store_true", help="make the folders, so that the signatures are known from now on")
    what("-C", "--cancel", action="store_true", help="end the batch jobs")
    what("--clear", action="store_true", help="train all anew; what was done so far is set aside, not removed")
    what("-r", "--retry", action="store_true", help="submit those again whose job failed or was ended")
    what("-R", "--replace", action="store_true", help="end running jobs and submit them again")
    what("-D", "--replace_done", action="store_true", help="run those again that are done")
    look = parser.add_argument_group("what to see")
    look.add_argument("--no_monitoring", dest="monitor", action="store_false", help="show the table once and end")
    text = "minutes from one table to the next (default: 5)"
    look.add_argument("-i", "--interval", type=_minutes, default=5.0, metavar="MIN", help=text)
    trim = look.add_mutually_exclusive_group()
    text = "scores after as many epochs as the experiment of that index has"
    trim.add_argument("-T", "--trim", type=shared.natural, metavar="IDX", help=text)
    text = "scores after as many epochs as the slowest experiment has"
    trim.add_argument("-L", "--trim_last", action="store_true", help=text)
    one = look.add_mutually_exclusive_group()
    one.add_argument("-f", "--folder", type=shared.natural, metavar="IDX", help="show the folder of one, nothing else")
    one.add_argument("-l", "--log", type=shared.natural, metavar="IDX", help="… its log")
    one.add_argument("-t", "--tail", type=shared.natural, metavar="IDX", help="… the end of its log, and follow it")
    job = parser.add_argument_group("jobs").add_argument
    job("-g", "--gpus", type=shared.positive, metavar="N", help="cards of a job (default: what the grid asks for)")
    job("-p", "--partition", metavar="NAME", help="queue of the cluster")
    job("--dev", dest="partition", action="store_const", const="devlab", help="-p devlab")
    job("-c", "--comment", metavar="TEXT", help="of the jobs")
    job("--constraint", metavar="FEATURE", help="that a node must have (default: slurm.constraint)")
    job("--local", action="store_true", help="train on this machine, even if there is Slurm")
    job("--no_git_save", action="store_true", help="has no effect: jobs always run the program as it is here")
    return parser.parse(arguments)


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no positive number of minutes")
    return value


# ------------------------------------------------------------------------------------------------------------ choosing


def chosen(grid: Grid, patterns: Sequence[str]) -> list[Experiment]:
    """The experiments of a grid that fit all patterns; of these, those of the indices if any are given.

    Raises:
        UserError: no experiment is left, an index beyond the last
    """
    indices = [int(pattern) for pattern in patterns if pattern.isdecimal() and len(pattern) < 4]
    words = [pattern for pattern in patterns if not (pattern.isdecimal() and len(pattern) < 4)]
    found = [each for each in grid.experiments if all(_fits(_name(each), word) for word in words)]
    if indices:
        if max(indices) >= len(found):
            raise UserError(f"{max(indices)}: there are {len(found)} experiments, counted from 0")
        found = [found[index] for index in indices]
    if not found:
        raise UserError(f"no experiment of the grid {grid.name} fits {' '.join(words)}")
    return found


def _name(experiment: Experiment) -> str:
    return f"{demucs.short(experiment.delta)} {experiment.signature}"


def _fits(name: str, pattern: str) -> bool:
    if pattern.startswith("!"):
        return not _fits(name, pattern[1:])
    # brackets are part of lists here, not a choice of letters
    return fnmatchcase(name, f"*{pattern.replace('[', '[[]')}*")


def names(experiments: Sequence[Experiment]) -> tuple[list[str], str]:
    """What each changes that not all change alike, and what all do."""
    common = [item for item in experiments[0].delta if all(item in each.delta for each in experiments)]
    own = [demucs.short([item for item in each.delta if item not in common]) for each in experiments]
    return own, demucs.short(common)


# ------------------------------------------------------------------------------------------------------------- showing


def table(experiments: Sequence[Experiment], options: argparse.Namespace) -> str:
    """State and scores of the experiments, one line each."""
    from run_scripts import demucs_jobs
    from training import xp_store

    histories = [xp_store.history(each) for each in experiments]
    if options.trim is not None:
        histories = [lines[: len(_at(histories, options.trim))] for lines in histories]
    elif options.trim_last:
        histories = [lines[: min(map(len, histories))] for lines in histories]
    rows = []
    for index, (each, name, lines) in enumerate(zip(experiments, names(experiments)[0], histories, strict=True)):
        job = demucs_jobs.of(each)
        state = job.state().lower() if job and job.is_alive() else xp_store.state(each)
        rows.append((index, state, each.signature, job.name if job else None, len(lines), *scores(lines), name))
    return console.table(rows, _HEADER)


def scores(lines: Sequence[dict]) -> tuple[float | None, ...]:
    """Training loss; validation loss, the best of what is judged by, and nSDR (dB); nSDR and median SDR of a test."""
    last = lines[-1] if lines else {}
    losses = [line["valid"]["loss"] for line in lines if "loss" in line.get("valid", {})]
    test = next((line["test"] for line in reversed(lines) if line.get("test")), {})
    return (
        _text(last.get("train", {}).get("loss")),
        _text(losses[-1] if losses else None),
        _text(last.get("valid", {}).get("best")),
        last.get("valid", {}).get("nsdr"),
        test.get("nsdr"),
        test.get("sdr_med", test.get("sdr")),
    )


def _text(loss: float | None) -> str | None:
    return None if loss is None else f"{loss:.4f}"


def _at(items: Sequence, index: int):
    if index >= len(items):
        raise UserError(f"{index}: there are {len(items)} experiments, counted from 0", status=2)
    return items[index]


def show_one(experiments: Sequence[Experiment], options: argparse.Namespace) -> int:
    """Folder or log of one experiment, and nothing else."""
    from training import xp_store

    if options.folder is not None:
        log(str(_at(experiments, options.folder).folder))
        return 0
    path = xp_store.latest_log(_at(experiments, options.log if options.tail is None else options.tail))
    if options.tail is not None:
        xp_store.follow(path)
    with open(path, encoding="utf-8", errors="replace") as file:
        shutil.copyfileobj(file, sys.stdout)
    return 0


# ------------------------------------------------------------------------------------------------------------ training


class Launcher:
    """Trains the experiments of a grid, each once and not before what it continues from."""

    def __init__(self, grid: Grid, experiments: Sequence[Experiment], options: argparse.Namespace):
        from run_scripts import demucs_jobs

        self.grid, self.options = grid, options
        self.waiting = [each for each in experiments if self._is_wanted(each)]
        self.local = options.local or not demucs_jobs.has_slurm()
        self.status = 0

    def _is_wanted(self, experiment: Experiment) -> bool:
        from run_scripts import demucs_jobs
        from training import xp_store

        job, state = demucs_jobs.of(experiment), xp_store.state(experiment)
        if job and job.is_alive():
            return self.options.replace or self.options.clear
        if state == "running":
            return False
        if self.options.clear:
            return True
        if state == "done":
            return self.options.replace_done
        return job is None or self.options.retry

    def advance(self) -> bool:
        """Train, or submit, all that need not wait; returns whether there were any."""
        ready = [each for each in self.waiting if _parent_is_done(each)]
        for experiment in ready:
            self.waiting.remove(experiment)
            if self.local:
                self._train(experiment)
            else:
                self._submit(experiment)
        return bool(ready)

    def _train(self, experiment: Experiment) -> None:
        from run_scripts import demucs_jobs

        flags = demucs.machine_flags(self.options)
        arguments = demucs_jobs.request(experiment, None, experiment.cfg.slurm.time, self.options, flags)
        if self.options.gpus:
            arguments = [*arguments[:-1], "-npn", str(self.options.gpus)]
        self.status = max(self.status, demucs_jobs.run_here(arguments))

    def _submit(self, experiment: Experiment) -> None:
        from run_scripts import demucs_jobs

        before = demucs_jobs.of(experiment)
        if before and before.is_alive():
            before.cancel()
        needs, flags = self.grid.needs, demucs.machine_flags(self.options)
        cards, minutes = self.options.gpus or needs.cards, needs.minutes or experiment.cfg.slurm.time
        arguments = demucs_jobs.request(experiment, cards, minutes, self.options, flags)
        log(f"job {demucs_jobs.submit(experiment, arguments).name}: {experiment.signature}")


def _parent_is_done(experiment: Experiment) -> bool:
    from training import xp, xp_store

    parent = experiment.cfg.continue_from
    return parent is None or xp_store.is_done(xp.load(parent, [f"dora.dir={experiment.folder.parents[1]}"]))


def launch(grid: Grid, experiments: Sequence[Experiment], options: argparse.Namespace) -> int:
    """Train what is to be trained, and show how it goes until nothing is left to wait for."""
    from run_scripts import demucs_jobs
    from training import xp_store
    from training.prepare import set_aside

    launcher = Launcher(grid, experiments, options)
    if options.clear:
        for experiment in experiments:
            if (job := demucs_jobs.of(experiment)) and job.is_alive():
                job.cancel()
            set_aside(experiment.folder)
    for experiment in experiments:
        xp_store.initialise(experiment)
    while launcher.advance() and launcher.local:
        pass  # what was trained may be what others waited for
    while True:
        log(table(experiments, options))
        busy = [each for each in experiments if xp_store.is_running(each) or _is_alive(each)]
        if not busy or not options.monitor:
            break
        time.sleep(60 * options.interval)
        launcher.advance()
    for experiment in launcher.waiting:
        log(f"{experiment.signature} waits for {experiment.cfg.continue_from}: train that, then run the grid again")
    return launcher.status


def _is_alive(experiment: Experiment) -> bool:
    from run_scripts import demucs_jobs

    job = demucs_jobs.of(experiment)
    return job is not None and job.is_alive()


def cancel(experiments: Sequence[Experiment]) -> int:
    """End the batch jobs."""
    from run_scripts import demucs_jobs

    for experiment in experiments:
        job = demucs_jobs.of(experiment)
        if job and job.is_alive():
            job.cancel()
            log(f"ended job {job.name} of {experiment.signature}")
    return 0


def main(arguments: list[str]) -> int:
    """Lists or trains; returns the exit status."""
    options = parse(arguments)
    from training import xp_grids, xp_store

    if options.grid is None:
        log("grids: " + ", ".join(xp_grids.names()))
        return 0
    settings = [text for text in options.patterns if text.startswith(("slurm.", "dora."))]
    grid = xp_grids.read(options.grid, settings)
    experiments = chosen(grid, [text for text in options.patterns if text not in settings])
    if options.dry_run and (options.clear or options.cancel):
        raise UserError("--dry_run changes nothing: leave it out, or --clear and -C", status=2)
    if any(index is not None for index in (options.folder, options.log, options.tail)):
        return show_one(experiments, options)
    log(f"grid {grid.name}: {grid.title}")
    log(f"common: {names(experiments)[1] or 'nothing'}")
    if options.cancel:
        return cancel(experiments)
    if not options.dry_run:
        return launch(grid, experiments, options)
    if options.init:
        for experiment in experiments:
            xp_store.initialise(experiment)
    log(table(experiments, options))
    return 0
