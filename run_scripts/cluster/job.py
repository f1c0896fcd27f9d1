"""What a batch job does on each of its nodes: run one command, hand signals on, requeue when it asks for that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import submitit

from runtime.nodes import port_of
from runtime.worker import requeue_status

STOP = (signal.SIGTERM, signal.SIGUSR1)  # what the command takes as a request to save and to end
_CARDS = "CUDA_VISIBLE_DEVICES"  # which submitit's local executor empties


@dataclass(frozen=True)
class Run:
    """One command in its folder, on ``nodes`` nodes. An instance is the function that submitit runs on each of them.

    Attributes:
        command: its words, the program first
        folder: where it runs
        nodes: how many nodes work on it together; with more than one they are told to the command by its flags
        cards: the submitter's choice of CUDA cards, for jobs on this machine
    """

    command: tuple[str, ...]
    folder: str
    nodes: int = 1
    cards: str | None = None

    def __call__(self) -> int:
        """Run the command and end with its status; with status 75 of the first node, requeue the job."""
        environment = submitit.JobEnvironment()
        preempted = signal.Signals[f"SIG{environment.USR_SIG}"]
        requeue = signal.getsignal(preempted)  # submitit's handler: it stores `checkpoint` and requeues the job
        early: list[int] = []
        child: subprocess.Popen | None = None

        def stop(number: int, _frame: object) -> None:
            wanted = number if number in (*STOP, signal.SIGINT) else signal.SIGTERM
            if child is None:
                early.append(wanted)
            elif child.returncode is None:
                child.send_signal(wanted)

        for number in (*STOP, signal.SIGINT, preempted):
            signal.signal(number, stop)
        child = subprocess.Popen(self.words(environment), cwd=self.folder, env=self._variables(environment))
        for wanted in early:
            child.send_signal(wanted)
        status = _status(child)
        _note(environment, status)
        if status not in (0, requeue_status()):
            sys.exit(status)  # a batch system judges by it
        if status and environment.global_rank == 0 and callable(requeue):
            requeue(preempted, None)
        return 0  # the first node requeues all of them; a failure here could have the job killed before

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What the requeued job runs: the same command, which resumes by itself."""
        return submitit.helpers.DelayedSubmission(self)

    def words(self, environment: submitit.JobEnvironment) -> list[str]:
        """The command on this node."""
        if self.nodes == 1:
            return list(self.command)
        first = "localhost" if environment.cluster == "local" else environment.hostnames[0]
        master = f"{first}:{port_of(environment.job_id)}"
        where = ["--nnodes", str(self.nodes), "--master", master, "--node-rank", str(environment.global_rank)]
        return [*self.command, *where]

    def _variables(self, environment: submitit.JobEnvironment) -> dict[str, str]:
        variables = dict(os.environ)
        if environment.cluster == "local":
            variables.pop(_CARDS, None)
            if self.cards is not None:
                variables[_CARDS] = self.cards
        return variables


def status_file(folder: str | os.PathLike, job: str, task: int) -> Path:
    """Where task ``task`` of a job leaves the exit status of its command."""
    return Path(folder) / f"{job}_{task}_status"


def _note(environment: submitit.JobEnvironment, status: int) -> None:
    path = status_file(environment.paths.folder, environment.job_id, environment.global_rank)
    path.write_text(f"{status}\n", "utf-8")


def _status(child: subprocess.Popen) -> int:
    """Its exit status, 128 + signal if one killed it."""
    code = child.wait()
    return 128 - code if code < 0 else code
