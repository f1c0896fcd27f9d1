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
        logs = [_Log(log_dir / f"workerlog.{number}") for number in range(processes)]
        launcher_log = _Log(log_dir / "launcher.log")
        with open(launcher_log.path, "ab") as log:
            launcher = subprocess.Popen(
                _command(processes, argv, device, log_dir),
                env=_environment(device, reports),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        crew = _Crew(launcher, launcher_log, Path(reports), processes)
        try:
            with _signals_to(crew):
                while not crew.ended():
                    crew.enforce()
                    logs[0].copy(crew.first_failure in (None, 0))
                    time.sleep(_TICK)
        finally:
            crew.kill()
            logs[0].copy(crew.first_failure in (None, 0))
            _remove_environment_dumps(log_dir)
        return _outcome(crew, logs)


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


def _outcome(crew: _Crew, logs: list[_Log]) -> int:
    """Say what went wrong, if anything did, and return the exit status of the whole."""
    if crew.first_failure is not None:
        return _blame(crew, crew.first_failure, logs[crew.first_failure])
    if len(crew.reports) < crew.processes:
        return complain(f"the launcher failed; the last lines of {crew.log.path}:{crew.log.last_lines()}", 1)
    return max(report.status for report in crew.reports.values())


def _blame(crew: _Crew, number: int, log: _Log) -> int:
    report = crew.reports[number]
    who = f"process {number} of {crew.processes}"
    if report.sentence:
        alike = {other.sentence for other in crew.reports.values()} == {report.sentence}
        return complain(report.sentence if alike else f"{who}: {report.sentence}", report.status)
    how = f"ended with status {report.status}"
    if report.status > 128:
        how = f"was killed by {_signal_name(report.status - 128)}"
    return complain(f"{who} {how}; the last lines of {log.path}:{log.last_lines()}", report.status)


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


class _Log:
    """What one process says in this launch, at the end of a file that may hold earlier ones."""

    def __init__(self, path: Path):
        self.path = path
        self.start = self.position = path.stat().st_size if path.exists() else 0
        self.muted = False
        self.decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode

    def copy(self, healthy: bool) -> None:
        """Put what is new on stdout. After the failure of another worker, the complaints of this one are no news."""
        if self.muted:
            return
        new = self._read(self.position)
        self.position += len(new)
        text = self.decode(new)
        if not healthy:
            text, self.muted = re.split(r"(?m)^.*Traceback", text, maxsplit=1)[0], True
        sys.stdout.write(text)
        sys.stdout.flush()

    def last_lines(self) -> str:
        """Indented, each on a line of its own."""
        lines = self.text().splitlines()[-LAST_LINES:]
        return "".join(f"\n    {line}" for line in lines) or "\n    (it said nothing)"

    def text(self) -> str:
        """All of it."""
        return self._read(self.start).decode("utf-8", errors="replace")

    def _read(self, start: int) -> bytes:
        if not self.path.exists():
            return b""
        with open(self.path, "rb") as handle:
            handle.seek(start)
            return handle.read()


class _Crew:
    """The launcher and its workers, as far as they have shown themselves."""

    def __init__(self, launcher: subprocess.Popen, log: _Log, folder: Path, processes: int):
        self.launcher, self.log, self.folder, self.processes = launcher, log, folder, processes
        self.pids: dict[int, int] = {}
        self.reports: dict[int, Report] = {}
        self.first_failure: int | None = None
        self.forward: int | None = None  # a signal for the workers
        self._told: set[int] = set()
        self._deadline = float("inf")

    def ended(self) -> bool:
        """Look at all workers; True when there is nothing left to wait for."""
        launcher_is_gone = self.launcher.poll() is not None  # before the workers: it can only end after them
        self._collect_reports()
        if self.first_failure is None and self._failed():
            self._collect_reports()  # the cause of a failure is older than the failure
            self.first_failure = min(self._failed(), key=lambda number: self.reports[number].when)
            self._set_deadline(GRACE_AFTER_DEATH)
        alive = [number for number in self.pids if not self._is_gone(number)]
        return not alive and (launcher_is_gone or len(self.reports) == self.processes)

    def _collect_reports(self) -> None:
        for number in range(self.processes):
            if number not in self.reports and (report := self._look_at(number)):
                self.reports[number] = report

    def _failed(self) -> list[int]:
        return [number for number, report in self.reports.items() if report.status not in (0, REQUEUE_STATUS)]

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
        return Report(self._status_of_the_dead(number)) if is_gone else None

    def _is_gone(self, number: int) -> bool:
        return _process_state(self.pids[number])[0] in ("", "Z", "X")

    def _status_of_the_dead(self, number: int) -> int:
        """Exit status of a worker that left no report: from the kernel, or from what the launcher says of it."""
        state, wait_status = _process_state(self.pids[number])
        code = os.waitstatus_to_exitcode(wait_status) if state == "Z" else self._code_from_launcher(number)
        return 128 - code if code < 0 else code or 1

    def _code_from_launcher(self, number: int) -> int:
        found = re.search(rf"rank {number} status failed .* code (-?\d+)", self.log.text())
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
