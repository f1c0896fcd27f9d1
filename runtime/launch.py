"""One command, several processes: starts paddle's launcher, shows what the first worker says, and ends with it.

The workers are the same command line again (`in_worker` tells them apart). They report by small files (see `worker`),
so that the parent knows them without asking the launcher: a signal goes to the workers themselves, which save and end
with ``REQUEUE_STATUS``; when one of them dies, the others are ended after a short grace.
"""

from __future__ import annotations

import codecs
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runtime import worker
from runtime.console import complain
from runtime.device import Device, card_labels
from runtime.worker import Report, in_worker, rank, world_size

__all__ = ["REQUEUE_STATUS", "in_worker", "launch", "rank", "world_size"]

REQUEUE_STATUS = int(os.environ.get("PADDLESTEMS_REQUEUE_STATUS", "75"))  # EX_TEMPFAIL: saved, start me again
GRACE_AFTER_DEATH = 10.0  # s for the siblings of a failed worker, who wait for it in vain
GRACE_AFTER_SIGNAL = 300.0  # s for saving when the command was asked to stop
LAST_LINES = 15  # of a failed worker's log
_TICK = 0.1  # s
_FORWARDED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def launch(processes: int, argv: Sequence[str], device: Device, log_dir: str | os.PathLike) -> int:
    """Run ``python argv…`` in ``processes`` processes on ``device`` and return their common exit status.

    The output of worker 0 appears on stdout as it comes; all outputs are in ``log_dir/workerlog.<rank>``. If a worker
    fails, its error message or its last lines go to stderr and its status (128 + signal if it was killed) is returned.
    SIGTERM, SIGUSR1 and SIGINT are forwarded to the workers; a second SIGINT kills them.
    """
    log_dir = Path(log_dir).absolute()
    log_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="paddlestems-") as reports:
        console = _Tail(log_dir / "workerlog.0")
        with open(log_dir / "launcher.log", "wb") as log:
            launcher = subprocess.Popen(
                _command(processes, argv, device, log_dir),
                env=_environment(device, reports),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        crew = _Crew(launcher, log_dir / "launcher.log", Path(reports), processes)
        try:
            with _signals_to(crew):
                while not crew.ended():
                    crew.enforce()
                    console.copy()
                    time.sleep(_TICK)
        finally:
            crew.kill()
            console.copy()
            _remove_environment_dumps(log_dir)
        return _outcome(crew, log_dir)


def _command(processes: int, argv: Sequence[str], device: Device, log_dir: Path) -> list[str]:
    cards = [] if device.kind == "cpu" else ["--devices", ",".join(card_labels(device.kind, processes))]
    options = ["--nproc_per_node", str(processes), "--host", "127.0.0.1", "--log_dir", str(log_dir), *cards]
    return [sys.executable, "-m", "paddle.distributed.launch", *options, *argv]


def _environment(device: Device, reports: str) -> dict[str, str]:
    environment = {"GLOG_minloglevel": "2", **os.environ, worker.REPORTS: reports}
    if device.kind == "cpu":  # the launcher takes these for a wish to use cards
        environment.pop("CUDA_VISIBLE_DEVICES", None)
        environment["CUSTOM_DEVICE_ROOT"] = ""
    return environment


def _end_with_parent() -> None:
    """Runs in the new process: have Linux send it SIGTERM when the parent is gone, whatever the parent died of."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _remove_environment_dumps(log_dir: Path) -> None:
    """The launcher writes all variables of the environment, secrets included, beside the logs."""
    for pattern in ("envlog.*", "backup_env.*.json", "default.*.log"):
        for path in log_dir.glob(pattern):
            path.unlink()


def _outcome(crew: _Crew, log_dir: Path) -> int:
    """Say what went wrong, if anything did, and return the exit status of the whole."""
    if crew.first_failure is not None:
        return _blame(crew, crew.first_failure, log_dir)
    statuses = [report.status for report in crew.reports.values()]
    if len(statuses) < crew.processes:
        return complain(f"the launcher failed:{_last_lines(log_dir / 'launcher.log')}", 1)
    return max(statuses, default=0)


def _blame(crew: _Crew, number: int, log_dir: Path) -> int:
    report = crew.reports[number]
    if report.sentence:
        alike = all(other.sentence in ("", report.sentence) for other in crew.reports.values())
        who = "" if alike and number == 0 else f"process {number} of {crew.processes}: "
        return complain(who + report.sentence, report.status)
    how = f"ended with status {report.status}"
    if report.status > 128:
        how = f"was killed by {_signal_name(report.status - 128)}"
    log = log_dir / f"workerlog.{number}"
    return complain(
        f"process {number} of {crew.processes} {how}; the last lines of {log}:{_last_lines(log)}", report.status
    )


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _last_lines(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").splitlines()[-LAST_LINES:] if log.exists() else []
    return "".join(f"\n    {line}" for line in lines) or "\n    (it said nothing)"


class _Tail:
    """Copies what is appended to a file to stdout."""

    def __init__(self, path: Path):
        self.path = path
        self.position = path.stat().st_size if path.exists() else 0
        self.decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode

    def copy(self) -> None:
        if not self.path.exists():
            return
        with open(self.path, "rb") as handle:
            handle.seek(self.position)
            new = handle.read()
        if new:
            self.position += len(new)
            sys.stdout.write(self.decode(new))
            sys.stdout.flush()


class _Crew:
    """The launcher and its workers, as far as they have shown themselves."""

    def __init__(self, launcher: subprocess.Popen, launcher_log: Path, folder: Path, processes: int):
        self.launcher, self.launcher_log, self.folder, self.processes = launcher, launcher_log, folder, processes
        self.pids: dict[int, int] = {}
        self.reports: dict[int, Report] = {}
        self.first_failure: int | None = None
        self.forward: int | None = None  # a signal for the workers
        self._told: set[int] = set()
        self._deadline = float("inf")

    def ended(self) -> bool:
        """Look at all workers; True when there is nothing left to wait for."""
        launcher_is_gone = self.launcher.poll() is not None  # before the workers: it can only end after them
        for number in range(self.processes):
            if number not in self.reports and (report := self._look_at(number)):
                self.reports[number] = report
        failures = [number for number, report in self.reports.items() if report.status not in (0, REQUEUE_STATUS)]
        if failures and self.first_failure is None:
            self.first_failure = min(failures, key=lambda number: self.reports[number].when)
            self._set_deadline(GRACE_AFTER_DEATH)
        alive = [number for number in self.pids if not self._is_gone(number)]
        return not alive and (launcher_is_gone or len(self.reports) == self.processes)

    def stop(self, number: int) -> None:
        """Have every worker, also one that has yet to start, get this signal; the second SIGINT kills."""
        if number == signal.SIGINT and self.forward is not None:
            self._deadline = 0.0
        self.forward = number
        self._told.clear()
        self._set_deadline(GRACE_AFTER_SIGNAL)

    def enforce(self) -> None:
        """Pass on a signal, end the siblings of a failed worker, and kill whoever is left at the deadline."""
        wanted = self.forward or (signal.SIGTERM if self.first_failure is not None else None)
        for number in set(self.pids) - self._told if wanted else ():
            self._told.add(number)
            if number not in self.reports:
                _send(os.kill, self.pids[number], wanted)
        if time.monotonic() > self._deadline:
            self.kill()

    def kill(self) -> None:
        """End everything at once, with all that the workers have started (each leads a process group)."""
        for pid in self.pids.values():
            _send(os.killpg, pid, signal.SIGKILL)
        _send(os.killpg, self.launcher.pid, signal.SIGKILL)
        self.launcher.wait()

    def _set_deadline(self, grace: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + grace)

    def _look_at(self, number: int) -> Report | None:
        if number not in self.pids:
            if (path := worker.pid_file(self.folder, number)).exists():
                self.pids[number] = int(path.read_text())
            return None
        is_gone = self._is_gone(number)  # before the report: it is written while the process lives
        if (path := worker.report_file(self.folder, number)).exists():
            return Report(**json.loads(path.read_text("utf-8")))
        return Report(self._status_of_the_dead(number), when=time.time()) if is_gone else None

    def _is_gone(self, number: int) -> bool:
        return _process_state(self.pids[number])[0] in ("", "Z", "X")

    def _status_of_the_dead(self, number: int) -> int:
        """Exit status of a worker that left no report: from the kernel, or from what the launcher says of it."""
        state, wait_status = _process_state(self.pids[number])
        code = os.waitstatus_to_exitcode(wait_status) if state == "Z" else self._code_from_launcher(number)
        return 128 - code if code < 0 else code or 1

    def _code_from_launcher(self, number: int) -> int:
        text = self.launcher_log.read_text("utf-8", errors="replace")
        found = re.search(rf"rank {number} status failed .* code (-?\d+)", text)
        return int(found[1]) if found else 1


def _process_state(pid: int) -> tuple[str, int]:
    """State letter and wait status of a process; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return fields[0], int(fields[-1])


def _send(how: Callable[[int, int], None], target: int, number: int) -> None:
    try:
        how(target, number)
    except ProcessLookupError:
        return  # it ended by itself


@contextmanager
def _signals_to(crew: _Crew) -> Iterator[None]:
    before = {number: signal.signal(number, lambda received, _frame: crew.stop(received)) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
