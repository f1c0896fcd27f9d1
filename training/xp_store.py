"""What experiments leave in their folders: overrides, history, logs, checkpoints; and how far they are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from runtime import checkpoint, console
from runtime.atomic import atomic_write
from runtime.errors import UserError
from runtime.files import require_writable
from training.xp import ARGV, Experiment, counted

HISTORY = "history.jsonl"  # one line an epoch
LOG = "train.log"  # what the first process said, of all sessions


def initialise(experiment: Experiment) -> Path:
    """Make the folder and note the overrides there, so that the signature is known from now on; returns the folder.

    Only those that make the signature are noted: a look with ``flag=debug`` must not follow the experiment for ever.

    Raises:
        UserError: the folder cannot be written
    """
    folder = require_writable(experiment.folder)
    path, text = folder / ARGV, json.dumps(counted(experiment))
    if not path.is_file() or path.read_text("utf-8") != text:
        with atomic_write(path, "w") as handle:
            handle.write(text)
    return folder


def is_known(experiment: Experiment) -> bool:
    """Whether it was initialised."""
    return (experiment.folder / ARGV).is_file()


def history(experiment: Experiment) -> list[dict[str, Any]]:
    """One record an epoch, as far as it was trained: scores by name below ``train``, ``valid`` and maybe ``test``.

    Raises:
        UserError: the file is damaged
    """
    path = experiment.folder / HISTORY
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def is_done(experiment: Experiment) -> bool:
    """Whether all its epochs are trained."""
    return len(history(experiment)) >= experiment.cfg.epochs


def is_running(experiment: Experiment) -> bool:
    """Whether a process of this machine is training it."""
    lock = experiment.folder / ".lock"
    try:
        inode, locks = lock.stat().st_ino, Path("/proc/locks").read_text("ascii")
    except OSError:
        return False
    return any("FLOCK" in line and line.split()[5].endswith(f":{inode}") for line in locks.splitlines())


def state(experiment: Experiment) -> str:
    """One word: ``running``, ``done``, ``stopped`` (part of it is trained), ``ready`` (initialised) or ``new``."""
    if is_running(experiment):
        return "running"
    if is_done(experiment):
        return "done"
    if history(experiment) or checkpoint.latest(experiment.folder):
        return "stopped"
    return "ready" if is_known(experiment) else "new"


def latest_log(experiment: Experiment) -> Path:
    """The log that was written to last: that of the training, or of a batch job that could not begin to train.

    Raises:
        UserError: there is none
    """
    found = [experiment.folder / LOG, *experiment.folder.glob("jobs/*_0_log.out")]
    there = [path for path in found if path.is_file()]
    if not there:
        raise UserError(f"{experiment.folder} has no log yet: {experiment.signature} has not been run")
    return max(there, key=lambda path: path.stat().st_mtime)


def last_scores(experiment: Experiment) -> tuple[Mapping | None, Mapping | None]:
    """The last validation and test scores of the history."""
    lines = history(experiment)
    return tuple(next((line[kind] for line in reversed(lines) if line.get(kind)), None) for kind in ("valid", "test"))


def logged(experiment: Experiment) -> AbstractContextManager[None]:
    """Within the block, what is said goes to the experiment's log, too."""
    return console.logged(experiment.folder / LOG)


def follow(path: Path, lines: int = 200) -> None:
    """Become ``tail -f``: show the end of a file and what is added."""
    os.execvp("tail", ["tail", "-n", str(lines), "-f", os.fspath(path)])
