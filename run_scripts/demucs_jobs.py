"""Batch jobs that train Demucs experiments: which one trains what, and how it is."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import UserError
from runtime.files import read_json, write_json
from runtime.nearest import did_you_mean

if TYPE_CHECKING:
    from training.xp import Experiment

_NOTE = "job.json"  # in an experiment's folder: the batch job that was submitted last for it
_PER_NODE = 8  # cards; more are spread over several nodes
_ALIVE = ("PENDING", "RUNNING", "REQUEUED", "RESIZING", "SUSPENDED", "COMPLETING", "CONFIGURING", "READY", "UNKNOWN")


@dataclass(frozen=True)
class Job:
    """A Slurm job.

    Attributes:
        name: its number, as Slurm has it
        folder: where submitit keeps what belongs to it
    """

    name: str
    folder: Path

    def state(self) -> str:
        """Slurm's word for how it is; ``UNKNOWN`` right after submission, ``NO SLURM`` where there is none."""
        if shutil.which("sacct") is None:
            return "NO SLURM"
        import submitit

        return str(submitit.SlurmJob(self.folder, self.name).state)

    def is_alive(self) -> bool:
        """Whether it runs or will run."""
        return self.state() in _ALIVE

    def cancel(self) -> None:
        """End it for good."""
        import submitit

        with contextlib.suppress(OSError):
            submitit.SlurmJob(self.folder, self.name).cancel(check=False)


def of(experiment: Experiment) -> Job | None:
    """The batch job that was submitted last for an experiment."""
    path = experiment.folder / _NOTE
    return Job(str(read_json(path)["job"]), experiment.folder / "jobs") if path.is_file() else None


def signature_of(job: str, root: Path) -> str:
    """The experiment that a batch job trains.

    Raises:
        UserError: none below ``root``
    """
    known = {str(read_json(path)["job"]): path.parent.name for path in root.glob(f"xps/*/{_NOTE}")}
    if job not in known:
        remedy = did_you_mean(job, known) if known else "no job was submitted from here"
        raise UserError(f"{root / 'xps'} has no experiment of job {job}: {remedy}")
    return known[job]


def has_slurm() -> bool:
    """Whether jobs can be submitted from this machine."""
    return shutil.which("sbatch") is not None


def request(experiment: Experiment, cards: int | None, minutes: int, options: Any, flags: Sequence[str]) -> list[str]:
    """The command line of ``cluster/submit.py`` that trains an experiment.

    Args:
        experiment: initialised
        cards: altogether; None: on this machine, with all that there are
        minutes: before it is requeued
        options: ``partition``, ``comment`` and ``constraint`` of the grid's command line
        flags: of this machine, for the training
    """
    from run_scripts.demucs_options import SCRIPT

    command = ["python", str(SCRIPT), "run", "-f", experiment.signature, *flags]
    command.append(f"dora.dir={experiment.folder.parents[1]}")
    asked = ["--name", f"demucs-{experiment.signature}", "--folder", str(experiment.folder / "jobs")]
    asked += ["--time", str(minutes)]
    if cards is None:
        return [*asked, "--", *command, "-d"]
    nodes = -(-cards // _PER_NODE)
    if cards % nodes:
        raise UserError(f"-g {cards}: the cards cannot be shared out to {nodes} nodes", status=2)
    asked += ["--nodes", str(nodes), "--cards", str(cards // nodes)]
    if options.partition:
        asked += ["--partition", options.partition]
    constraint = experiment.cfg.slurm.constraint if options.constraint is None else options.constraint
    for key, value in (("comment", options.comment), ("constraint", constraint)):
        asked += ["--sbatch", f"{key}={value}"] if value else []
    return [*asked, "--", *command, "-npn", str(cards // nodes)]


def submit(experiment: Experiment, arguments: Sequence[str]) -> Job:
    """Submit to Slurm what `request` says.

    Raises:
        UserError: Slurm refuses it
    """
    import submitit

    from run_scripts.cluster import submit as door
    from run_scripts.cluster.job import Run

    options = door.parse(arguments)
    cluster = door.executor(options, Path(options.folder))
    cluster.parameters["setup"] += list(experiment.cfg.slurm.setup)
    try:
        job = cluster.submit(Run(tuple(door.program(options.command)), os.getcwd(), options.nodes))
    except submitit.core.utils.FailedJobError as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1:]
        raise UserError(f"Slurm refused the job: {' '.join(reason)}") from error
    write_json(experiment.folder / _NOTE, {"job": job.job_id})
    return Job(job.job_id, Path(options.folder))


def run_here(arguments: Sequence[str]) -> int:
    """Do on this machine what `request` says, and wait for it; returns its exit status."""
    from run_scripts.cluster import submit as door

    return door.main(["--local", *arguments])
