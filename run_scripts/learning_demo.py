"""What the demos that train on songs of one's own share: the songs, the options, the time it took."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from run_scripts.options import Parser, positive
from run_scripts.run_demo import ROOT, Commands
from runtime.errors import UserError


class LearningDemo(Commands):
    """Commands that learn from songs, which are synthetic unless there are others.

    Args:
        folder: where all results land
        dataset: songs indexed by preprocess.py, or None
        processes: that train and evaluate
        overrides: ``key=value`` for the training
    """

    def __init__(self, folder: Path, dataset: Path | None, processes: int, overrides: list[str]):
        super().__init__(folder)
        self.synthetic = dataset is None
        self.dataset = dataset.resolve() if dataset else self.folder / "dataset"
        self.processes = ["-npn", str(processes)]
        self.overrides = overrides

    def songs(self) -> None:
        """Synthetic songs, unless there are others."""
        if self.synthetic:
            options = ["--songs", "14", "--test", "2", "--seconds", "20", "--seed", "0"]
            self.command("-m", "data.synthetic", f"{self.dataset}", *options)
            self.command("preprocess.py", "--dataset", f"{self.dataset}")

    def cost(self, folder: Path, minutes: float) -> str:
        """A last line: what training the run in ``folder`` took of the processors, and the whole demo by the clock."""
        elapsed = (time.monotonic() - self.started) / 60
        return f"{folder}: {minutes:.1f} CPU minutes of training; {elapsed:.1f} minutes in all"


def add_arguments(
    parser: Parser,
    name: str,
    example: str,
    dataset: Callable[[str], Path] | None = None,
    what: str = "songs indexed by preprocess.py, with a test split",
) -> None:
    """Add ``--folder``, ``--dataset``, ``-npn`` and ``key=value``.

    Args:
        name: of the folder below ``demo``
        example: of a ``key=value``
        dataset: checks the folder that ``--dataset`` names; None wants an index in it
        what: such a folder holds
    """
    text = f"where everything is written (default: demo/{name} in the repository)"
    parser.add_argument("--folder", type=Path, default=ROOT / "demo" / name, help=text)
    text = f"{what} (default: synthetic songs)"
    parser.add_argument("--dataset", type=dataset or _indexed, metavar="FOLDER", help=text)
    text = "processes that train and evaluate (default: 1)"
    parser.add_argument("-npn", dest="processes", type=positive, default=1, metavar="N", help=text)
    text = f"change a value of the training, such as {example}"
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=text)


def _indexed(text: str) -> Path:
    if not Path(text, "index.jsonl").is_file():
        raise UserError(f"{text} has no index.jsonl: run preprocess.py --dataset {text} first")
    return Path(text)


def cpu_minutes() -> float:
    """What the commands that have ended took of the processors."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) / 60


def untrained(folder: Path) -> Path:
    """A run beside another, whose network is as it was before the first step; returns its folder."""
    import models
    from models.tensors import tensors
    from runtime import checkpoint

    state: dict[str, Any] = checkpoint.read_state(checkpoint.latest(ROOT / folder))
    network = models.create(state["network"], **state["config"]["model"])
    target = folder.with_name(f"{folder.name}-untrained")
    facts = {key: state[key] for key in ("network", "config", "config_name", "signature")}
    arrays = {name: value.numpy() for name, value in tensors(network).items()}
    checkpoint.save(ROOT / target / "best", {"model": arrays}, {**facts, "step": 0})
    return target
