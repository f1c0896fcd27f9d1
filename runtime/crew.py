"""Watching the processes of a launch: who is there, how each ended, and that nobody stays behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from runtime.worker import Report, pid_file, report_file, requeue_status

PATIENCE = 1.0  # s for the siblings of a failed worker to come to the same end by themselves
GRACE_AFTER_FAILURE = 10.0  # s for them to end when they are told to
GRACE_AFTER_YIELD = 10.0  # s for them to end when one has ended because a signal asked it to
GRACE_AFTER_SIGNAL = 300.0  # s for saving when the command was asked to stop


class Crew:
    """Paddle's launcher and its workers, as far as they have shown themselves.

    Attributes:
        ranks: the numbers of the workers; those of other nodes come before and after
        received: signals to pass on to the workers
        reports: how workers ended, by rank
        first_failure: rank of the worker whose end ended the others, if one did
        elsewhere: "failed" or "yielded" once workers of another node have done so
    """

    def __init__(self, launcher: subprocess.Popen, ranks: range, folder: Path, launcher_says: Callable[[], str]):
        self.launcher, self.ranks, self.folder, self.launcher_says = launcher, ranks, folder, launcher_says
        self.received: list[int] = []
        self.elsewhere: str | None = None
        self.reports: dict[int, Report] = {}
        self.first_failure: int | None = None
        self._pids: dict[int, int] = {}
        self._told: dict[int, int] = {}  # how many of the signals each worker has got
        self._end_siblings_at = self._deadline = float("inf")
        self._killed = False

    def ended(self) -> bool:
        """Look at all workers; True when there is nothing left to wait for."""
        launcher_is_gone = self.launcher.poll() is not None  # before the workers: it can only end after them
        self._collect_reports()
        if self.yielded() or self.elsewhere == "yielded":
            self._set_deadline(GRACE_AFTER_YIELD)
        elif self.first_failure is None and self._failed() and not (self._killed and self.elsewhere):
            self._collect_reports()  # the cause of a failure is older than the failure
            self.first_failure = min(self._failed(), key=lambda number: suspicion(self.reports[number]))
            self._end_all_soon()
        alive = [number for number in self._pids if not self._is_gone(number)]
        return not alive and (launcher_is_gone or len(self.reports) == len(self.ranks))

    def yielded(self) -> Report | None:
        """How a worker ended that did so because a signal asked it to; its siblings' ends are no failures then.

        A worker that saves ends after all have agreed to; one that is told before it computes ends at once, and a
        sibling that computes already can only wait for it in vain, or complain that it is gone.
        """
        if self.first_failure is not None or self.elsewhere == "failed" or not self.received:
            return None
        by_status = {report.status: report for report in self.reports.values()}
        asked = (requeue_status(), *(128 + number for number in self.received))
        return next((by_status[status] for status in asked if status in by_status), None)

    def hear_from(self, kind: str) -> None:
        """Workers of another node have ``failed`` or ``yielded``: those of this one cannot go on without them."""
        if self.elsewhere is None:
            self.elsewhere = kind
            if kind == "failed":
                self._end_all_soon()

    def enforce(self) -> None:
        """Pass on signals, end the siblings of a failed worker, kill whoever is left at the deadline."""
        if self.received:
            self._set_deadline(GRACE_AFTER_SIGNAL)
        if time.monotonic() > self._end_siblings_at:
            self.received.append(signal.SIGTERM)
            self._end_siblings_at = float("inf")
        for number, pid in self._pids.items():
            for wanted in self.received[self._told.get(number, 0) :]:
                self._told[number] = self._told.get(number, 0) + 1
                if number not in self.reports:
                    _send(os.kill, pid, wanted)
        if self.received.count(signal.SIGINT) > 1 or time.monotonic() > self._deadline:
            self.kill()

    def kill(self) -> None:
        """End everything at once, with all that the workers have started (each leads a process group)."""
        self._killed = True
        for pid in {*self._pids.values(), *_children(self.launcher.pid), self.launcher.pid}:
            _send(os.killpg, pid, signal.SIGKILL)
        self.launcher.wait()

    def _end_all_soon(self) -> None:
        self._end_siblings_at = min(self._end_siblings_at, time.monotonic() + PATIENCE)
        self._set_deadline(PATIENCE + GRACE_AFTER_FAILURE)

    def _set_deadline(self, grace: float) -> None:
        """Kill whoever is left so many seconds after the first call; shorter graces win."""
        self._deadline = min(self._deadline, time.monotonic() + grace)

    def _failed(self) -> list[int]:
        as_asked = {0, requeue_status(), *(128 + number for number in self.received)}
        return [number for number, report in self.reports.items() if report.status not in as_asked]

    def _collect_reports(self) -> None:
        for number in self.ranks:
            if number not in self._pids and (path := pid_file(self.folder, number)).exists():
                self._pids[number] = int(path.read_text())
            if number in self._pids and number not in self.reports and (report := self._look_at(number)):
                self.reports[number] = report

    def _look_at(self, number: int) -> Report | None:
        is_gone = self._is_gone(number)  # before the report: it is written while the process lives
        if (path := report_file(self.folder, number)).exists():
            return Report(**json.loads(path.read_text("utf-8")))
        return Report(self._status_of_the_dead(number)) if is_gone else None

    def _is_gone(self, number: int) -> bool:
        return _process_state(self._pids[number])[0] in ("", "Z", "X")

    def _status_of_the_dead(self, number: int) -> int:
        """Exit status of a worker that left no report: from the kernel, or from what the launcher says of it."""
        state, wait_status = _process_state(self._pids[number])
        code = os.waitstatus_to_exitcode(wait_status) if state == "Z" else self._code_from_launcher(number)
        return 128 - code if code < 0 else code or 1

    def _code_from_launcher(self, number: int) -> int:
        found = re.search(rf"rank {number - self.ranks.start} status failed .* code (-?\d+)", self.launcher_says())
        return int(found[1]) if found else 1


def suspicion(report: Report) -> tuple[bool, float]:
    """Sorts the causes before the consequences: the collectives abort a process whose sibling is gone."""
    return report.status == 128 + signal.SIGABRT, report.when


def _process_state(pid: int) -> tuple[str, int]:
    """State letter and wait status of a process; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return fields[0], int(fields[-1])


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(child) for child in path.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _send(how: Callable[[int, int], None], target: int, number: int) -> None:
    try:
        how(target, number)
    except ProcessLookupError:
        return  # it ended by itself
