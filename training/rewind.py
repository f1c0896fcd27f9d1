"""Going back to an earlier checkpoint of a run. Imports no paddle."""

from __future__ import annotations

import time
from pathlib import Path

from runtime import checkpoint
from runtime.console import log
from runtime.errors import UserError
from training.prepare import claim

KINDS = ("best", "checkpoints")  # in this order: what is left by an interruption is gone back on by the next attempt


def rewind(folder: Path, step: int) -> None:
    """Makes the checkpoint of ``step`` the last one of a run; later ones are set aside in its folder, not removed.

    Args:
        folder: the run's folder
        step: updates that had been done

    Raises:
        UserError: there is no such checkpoint, or the run is being trained
    """
    known = {_step(path): path for path in checkpoint.steps(folder / "checkpoints")}
    if step not in known:
        there = ", ".join(map(str, known)) or "none"
        raise UserError(f"{folder} has no checkpoint of step {step} to go on from; those that there are: {there}")
    later = [path for kind in KINDS for path in reversed(checkpoint.steps(folder / kind)) if _step(path) > step]
    if not later:
        return
    aside = folder / time.strftime("until-%Y%m%d-%H%M%S")
    with claim(folder):
        for path in later:
            (aside / path.parent.name).mkdir(parents=True, exist_ok=True)
            path.rename(aside / path.parent.name / path.name)
    log(f"gone back to step {step}; what came later was set aside as {aside}")


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
