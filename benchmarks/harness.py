"""Timing two programs against each other in one run.

Each side is a process of its own that prepares itself, then does one unit of work whenever it is told to. The sides
take turns (A B A B …), so that a machine whose speed drifts drifts for both, and the ratio is the median of the ratios
of neighbours. A side is a Python module that calls :func:`serve` with its unit of work.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

THREADS = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class Pair:
    """Seconds of both sides and the median of ours / rival over neighbouring runs."""

    ours: float
    rival: float
    ratio: float


@dataclass(frozen=True)
class Row:
    """One line of the table that ``make bench`` prints: times side by side, or a single figure in the note."""

    what: str
    pair: Pair | None = None
    note: str = ""

    def cells(self) -> list[str]:
        """Texts of the columns what, ours, rival, ours / rival, note."""
        times = (
            [f"{self.pair.ours:.3g} s", f"{self.pair.rival:.3g} s", f"{self.pair.ratio:.2f}"] if self.pair else [""] * 3
        )
        return [self.what, *times, self.note]


class Side:
    """A child process that works on request."""

    def __init__(self, name: str, module: str, *arguments: str, environment: dict[str, str] | None = None):
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(THREADS), **(environment or {})},
        )

    def work(self) -> dict:
        """One unit of work; returns what the side measured (``seconds`` at least)."""
        print("go", file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"the side {self.name!r} ended with status {self.process.wait()}")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


def serve(unit: Callable[[], dict | None]) -> None:
    """Child: runs ``unit`` once per line on the standard input and answers with its wall time and this peak memory."""
    for _ in sys.stdin:
        started = time.perf_counter()
        extra = unit() or {}
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mib": peak, **extra}), flush=True)


def compare(ours: Side, rival: Side, runs: int = 5, warmup: int = 1) -> Pair:
    """Lets the sides take turns and closes them."""
    try:
        pairs = [(ours.work()["seconds"], rival.work()["seconds"]) for _ in range(warmup + runs)][warmup:]
    finally:
        ours.close()
        rival.close()
    mine, theirs = zip(*pairs, strict=True)
    ratio = statistics.median(a / b for a, b in pairs)
    return Pair(statistics.median(mine), statistics.median(theirs), ratio)
