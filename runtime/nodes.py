"""Which node of how many this command is, and where they meet: from its flags, or from Slurm."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from runtime.errors import UserError


@dataclass(frozen=True)
class Place:
    """Where and as which of ``count`` nodes this command takes part; ``rank`` is ``None`` where that is to be given."""

    count: int
    host: str
    port: int
    rank: int | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def place(count: int | None, master: str | None, rank: int | None) -> Place | None:
    """What ``--nnodes``, ``--master`` and ``--node-rank`` ask for, completed from Slurm; ``None`` for one node.

    Raises `UserError` for what cannot be: a rank beyond the nodes, an address without port, several nodes and nowhere
    to meet.
    """
    if count is None or count == 1:
        if master is not None or rank is not None:
            given = "--master" if master is not None else "--node-rank"
            raise UserError(f"{given} is for several nodes: say how many with --nnodes", status=2)
        return None
    if rank is not None and rank >= count:
        raise UserError(f"--node-rank {rank}: the {count} nodes are counted from 0 to {count - 1}", status=2)
    if master is None and rank is None and "SLURM_PROCID" in os.environ:
        return _from_slurm(count)
    if master is None:
        raise UserError(
            f"--nnodes {count} needs --master HOST:PORT, the address of the first node (srun gives it by itself)",
            status=2,
        )
    host, colon, port = master.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 65536) or ":" in host:
        raise UserError(f"--master {master} is not HOST:PORT, such as node17:29500", status=2)
    return Place(count, host, int(port), rank)


def _from_slurm(count: int) -> Place:
    """The place of this task of an ``srun`` that started one task a node."""
    environment = os.environ
    nodes, tasks = environment.get("SLURM_NNODES", "1"), environment.get("SLURM_NTASKS", "1")
    if nodes != str(count):
        raise UserError(f"--nnodes {count}: Slurm gave this step {nodes} nodes; use srun --nodes={count}", status=2)
    if tasks != nodes:
        raise UserError(
            f"Slurm started {tasks} tasks on {nodes} nodes: use srun --ntasks-per-node=1, and -npn", status=2
        )
    listed = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST") or ""
    if not listed:
        raise UserError("SLURM_JOB_NODELIST is not set: say --master HOST:PORT and --node-rank", status=2)
    return Place(
        count, first_host(listed), port_of(environment.get("SLURM_JOB_ID", "0")), int(environment["SLURM_NODEID"])
    )


def first_host(listed: str) -> str:
    """The first host of Slurm's short form: ``node[07-12,15],login`` begins with ``node07``."""
    found = re.match(r"([^\[,]*)(?:\[([^\],-]*)[^\]]*\]([^,\[]*))?", listed)
    assert found is not None  # every part may be empty
    return "".join(part or "" for part in found.groups())


def port_of(job: str) -> int:
    """A port for the job of this number (anything with digits), below those that systems hand out by themselves."""
    return 20000 + int(re.sub(r"\D", "", job) or 0) % 10000
