"""One command, several processes: starts paddle's launcher, shows what the first worker says, and ends with it.

On several nodes each node runs the command, and the commands keep in touch (see `meeting`).

The workers are the same command line again (`in_worker` tells them apart). They report by small files (see `worker`),
so that the parent knows them without asking the launcher: a signal goes to the workers themselves, which save and end
with ``requeue_status()``; when one of them dies, the others are ended after a short grace.
"""

from __future__ import annotations

import codecs
import ctypes
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
from runtime.agreement import Ending, Peers
from runtime.console import complain, log
from runtime.crew import Crew, suspicion
from runtime.device import Device, card_labels, is_host
from runtime.meeting import Meeting
from runtime.worker import in_worker, rank, requeue_status, world_size

__all__ = ["in_worker", "launch", "rank", "requeue_status", "world_size"]

LAST_LINES = 15  # of a failed worker's log
_TICK = 0.1  # s
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)


def launch(
    processes: int, argv: Sequence[str], device: Device, log_dir: str | os.PathLike, meeting: Meeting | None = None
) -> int:
    """Run ``python argv…`` in ``processes`` processes on ``device`` and return their common exit status.

    The output of worker 0 appears on stdout as it comes; all outputs are in ``log_dir/workerlog.<rank>``. If a worker
    fails, its error message or its last lines go to stderr and its status (128 + signal if it was killed) is returned.
    SIGTERM, SIGHUP, SIGUSR1 and SIGINT are forwarded to the workers; a second SIGINT kills them.

    With a ``meeting``, so many processes run on each of its nodes, which share ``log_dir``; the outputs are in
    ``log_dir/node-<n>/workerlog.<process of that node>``. Signals reach the workers of all nodes, and every node ends
    with the same message and status. Raises `UserError` if the nodes do not find together.
    """
    log_dir = Path(log_dir).absolute()
    log_dir.mkdir(parents=True, exist_ok=True)
    peers = Peers(meeting)
    peers.start(processes, log_dir)
    if meeting is not None:
        log_dir = log_dir / f"node-{meeting.rank}"
        log_dir.mkdir(exist_ok=True)
    ranks = range(peers.node * processes, (peers.node + 1) * processes)
    if ranks.start:
        log(f"processes {ranks.start} to {ranks.stop - 1} run here, outputs in {log_dir}; process 0 talks on node 0")
    with tempfile.TemporaryDirectory(prefix="paddlestems-") as reports:
        logs = {rank: _Log(log_dir / f"workerlog.{number}") for number, rank in enumerate(ranks)}
        launcher_log = _Log(log_dir / "launcher.log")
        with open(launcher_log.path, "ab") as handle:
            launcher = subprocess.Popen(
                _command(processes, argv, device, log_dir, meeting),
                env=_environment(device, reports, meeting),
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        crew = Crew(launcher, ranks, Path(reports), launcher_log.text)

        def show() -> None:
            if 0 in logs:
                logs[0].copy(crew.first_failure in (None, 0) and crew.elsewhere != "failed")

        try:
            with _signals_to(lambda number: peers.signal(crew, number)):
                while not crew.ended():
                    peers.exchange(crew)
                    crew.enforce()
                    show()
                    time.sleep(_TICK)
                peers.exchange(crew)  # the end may be the news
        finally:
            crew.kill()
            _remove_environment_dumps(log_dir)
            show()
        ending = peers.agree(_ending(crew, logs, launcher_log, peers))
        return complain(ending.sentence, ending.status) if ending.sentence else ending.status


def _command(processes: int, argv: Sequence[str], device: Device, log_dir: Path, meeting: Meeting | None) -> list[str]:
    options = ["--nproc_per_node", str(processes), "--log_dir", str(log_dir)]
    if meeting is None:
        options += ["--host", "127.0.0.1"]
    else:
        options += ["--nnodes", str(meeting.count), "--rank", str(meeting.rank)]
        options += ["--master", meeting.master, "--host", meeting.address]
    if not is_host(device.name):
        options += ["--devices", ",".join(card_labels(device.kind, processes))]
    return [sys.executable, "-m", "paddle.distributed.launch", *options, *argv]


def _environment(device: Device, reports: str, meeting: Meeting | None) -> dict[str, str]:
    environment = {**os.environ, worker.REPORTS: reports}
    if meeting is not None:  # the launchers meet over HTTP, which a proxy would catch
        for name in ("no_proxy", "NO_PROXY"):
            known = [environment[name]] if environment.get(name) else []
            environment[name] = ",".join([*known, meeting.master.partition(":")[0]])
    if is_host(device.name):  # the launcher takes these for a wish to use cards
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


def _ending(crew: Crew, logs: dict[int, _Log], launcher_log: _Log, peers: Peers) -> Ending:
    """How the processes of this node ended, and the sentence about it, if one is due."""
    number = crew.first_failure
    if number is not None:
        sentence, cause = _blame(crew, number, logs[number], peers), crew.reports[number]
        return Ending("failed", cause.status, sentence, suspicion(cause))
    if (asked := crew.yielded()) is not None:
        return Ending("yielded", asked.status, asked.sentence)
    if crew.elsewhere:
        return Ending("followed", 1)
    if len(crew.reports) < len(crew.ranks):
        shown = f"the launcher failed; the last lines of {launcher_log.path}:{launcher_log.last_lines()}"
        return Ending("failed", 1, shown, (True, float("inf")))
    last = max(crew.reports.values(), key=lambda report: report.status)
    return Ending("done", last.status, last.sentence)


def _blame(crew: Crew, number: int, log: _Log, peers: Peers) -> str:
    report = crew.reports[number]
    who = f"process {number} of {len(crew.ranks) * peers.nodes}{peers.here}"
    if report.sentence:
        common = number == 0 or {other.sentence for other in crew.reports.values()} == {report.sentence}
        return report.sentence if common else f"{who}: {report.sentence}"
    how = f"ended with status {report.status}"
    if report.status > 128:
        how = f"was killed by {_signal_name(report.status - 128)}"
    return f"{who} {how}; the last lines of {log.path}:{log.last_lines()}"


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


@contextmanager
def _signals_to(take: Callable[[int], None]) -> Iterator[None]:
    heard = [number for number in _FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]  # nohup, a shell's &
    before = {number: signal.signal(number, lambda caught, _: take(caught)) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
