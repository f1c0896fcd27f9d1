"""Timing two programs against each other in one run.

Each side is a process of its own that prepares itself, then does one unit of work whenever it is told to. The sides
take turns (A B A B …), so that a machine whose speed drifts drifts for both, and the ratio is the median of the ratios
of neighbours. A side is a Python module that calls :func:`serve` with its unit of work; a module that has both sides of
a network calls :func:`take_side`, and :func:`race` runs it as each of them.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIDES = ("paddle", "torch")
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


@dataclass(frozen=True)
class Task:
    """What both sides of a network are to do.

    Attributes:
        unit: kind of work, by a name that the module knows
        options: what else it wants to know, as JSON has it
        weights: file of `benchmarks.weights`
        output: where a side that computes an array leaves its first one
    """

    unit: str
    options: dict[str, Any]
    weights: Path
    output: Path

    def arguments(self) -> list[str]:
        """For the command line of a side."""
        return [self.unit, json.dumps(self.options), str(self.weights), str(self.output)]


def take_side(paddle: Callable[[Task], None], torch: Callable[[Task], None]) -> None:
    """Child: does the task of the command line with the side that it names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("unit")
    parser.add_argument("options", type=json.loads)
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    given = vars(parser.parse_args())
    {"paddle": paddle, "torch": torch}[given.pop("side")](Task(**given))


def serve_results(output: Path, compute: Callable[[], np.ndarray]) -> None:
    """Child: the unit of work is an array; the first one is left in a file."""

    def unit() -> None:
        result = compute()
        if not output.exists():
            np.save(output, result)

    serve(unit)


def serve_steps(loss: Callable[[], Any], step: Callable[[], None], clear: Callable[[], None]) -> None:
    """Child: the unit of work is a training step, of either framework; ``step`` and ``clear`` are the optimiser's."""

    def unit() -> dict:
        value = loss()
        value.backward()
        step()
        clear()
        return {"loss": value.item()}

    serve(unit)


def off_by(what: str) -> Callable[[np.ndarray, np.ndarray], str]:
    """Says how far the results of both sides are apart, as a share of the rival's peak."""
    return lambda ours, rival: f"{what} differ by {np.abs(ours - rival).max() / np.abs(rival).max():.1e} of the peak"


def race(
    module: str,
    unit: str,
    weights: Path,
    options: dict[str, Any],
    agreement: Callable[[np.ndarray, np.ndarray], str],
    runs: int,
) -> tuple[Pair, str]:
    """Times of both sides of a module, and a note: how well they agree, and the peak memory of both processes.

    Args:
        module, unit, weights, options: see `Task`
        agreement: says how well the first results agree; of training steps the first losses are shown instead
        runs: measured runs of each side
    """
    with tempfile.TemporaryDirectory() as folder:
        tasks = {name: Task(unit, options, weights, Path(folder, f"{name}.npy")) for name in SIDES}
        sides = [Side(name, module, name, *task.arguments()) for name, task in tasks.items()]
        first = [side.work() for side in sides]
        steps = "loss" in first[0]
        pair = compare(*sides, runs=runs, warmup=1 if steps else 0)
        if steps:
            agreed = "first losses " + " and ".join(f"{found['loss']:.7f}" for found in first)
        else:
            agreed = agreement(*(np.load(task.output) for task in tasks.values()))
    memory = " and ".join(f"{found['peak_mib']:.0f}" for found in first)
    return pair, f"{agreed}; peak memory {memory} MiB"
