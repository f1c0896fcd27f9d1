"""What a process that was launched with others knows, and what it tells the one that launched it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.errors import UserError

REPORTS = "PADDLESTEMS_REPORTS"  # folder in which workers leave their process id and, at the end, their report


def requeue_status() -> int:
    """Status of a job that saved and wants to be started again: 75 (EX_TEMPFAIL), or what the batch system wants."""
    text = os.environ.get("PADDLESTEMS_REQUEUE_STATUS", "75")
    if not (text.isdecimal() and 0 < int(text) < 256):
        raise UserError(f"PADDLESTEMS_REQUEUE_STATUS={text} is no exit status: use a whole number from 1 to 255")
    return int(text)


def in_worker() -> bool:
    """Whether paddle's launcher started this process as one of several."""
    return "PADDLE_TRAINER_ID" in os.environ and world_size() > 1


def rank() -> int:
    """Number of this process among its siblings, from 0."""
    return int(os.environ.get("PADDLE_TRAINER_ID", "0"))


def world_size() -> int:
    """How many processes work together."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))


def local_size() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("PADDLE_LOCAL_SIZE") or world_size())


@dataclass(frozen=True)
class Report:
    """How a worker ended."""

    status: int  # exit status, 128 + number of the signal that killed it
    sentence: str = ""  # its error message, if it ended with one
    when: float = 0.0  # seconds since the epoch; 0 for one that died without a report, the likely cause of others' ends


def pid_file(folder: Path, number: int) -> Path:
    """Where worker ``number`` writes its process id."""
    return folder / f"worker-{number}.pid"


def report_file(folder: Path, number: int) -> Path:
    """Where worker ``number`` writes its `Report`."""
    return folder / f"worker-{number}.json"


@contextmanager
def worker_scope() -> Iterator[Callable[[int, str], int] | None]:
    """Tell the launching process our process id; yield how to leave, or ``None`` for a process that nobody watches.

    ``leave(status, sentence)`` hands over how we end and returns the status to exit with: always 0, because paddle's
    launcher kills the siblings of a failed process after three seconds, and these may be writing a checkpoint.
    """
    folder = os.environ.pop(REPORTS, None)  # not for the processes that this one may start
    if folder is None or not in_worker():
        yield None
        return
    _write(pid_file(Path(folder), rank()), str(os.getpid()))

    def leave(status: int, sentence: str) -> int:
        report = Report(status, sentence, time.time())
        _write(report_file(Path(folder), rank()), json.dumps(asdict(report)))
        return 0

    yield leave


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)
