"""Work that several processes share: the command is run again in each of them, with a file that says all."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from inference.planning import Plan
from runtime import device as devices
from runtime.files import read_json, write_json
from runtime.launch import launch


class Shared(ABC):
    """What such work has to know: the network, on what and in how many processes, and where results go.

    A base for data classes with these fields and more; their values go through JSON.
    """

    plan: Plan
    device: str
    processes: int
    folder: Path

    def write(self, path: Path) -> Path:
        """For the other processes."""
        write_json(path, asdict(self))
        return path

    @classmethod
    def read(cls: type[Job], path: str | Path) -> Job:
        """What `write` wrote."""
        facts = dict(read_json(path))
        own = {"plan": Plan.restore(facts["plan"]), "folder": Path(facts["folder"])}
        return cls(**{**facts, **own, **cls.fields_of(facts)})

    @classmethod
    @abstractmethod
    def fields_of(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the other fields that JSON changes, as they were."""


Job = TypeVar("Job", bound=Shared)


def run(job: Job, work: Callable[[Job], int], script: Sequence[str]) -> int:
    """Do the job, here or in as many processes as it says; returns the exit status.

    Args:
        job: see `Shared`
        work: does this process' share of it
        script: the command that does the same with ``--work FILE``, of what ``job.write`` wrote
    """
    if job.processes == 1:
        return work(job)
    device = devices.select(job.device, job.plan.network, job.processes)
    with tempfile.TemporaryDirectory(prefix="paddlestems-") as folder:
        path = job.write(Path(folder) / "job.json")
        return launch(job.processes, [*script, "--work", str(path)], device, job.folder / "logs")
