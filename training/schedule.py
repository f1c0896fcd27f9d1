"""The learning rate as a pure function of step and epoch: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from typing import Any

from runtime.errors import UserError


def learning_rate(train: Any, step: int, epoch: int = 0) -> float:
    """Learning rate of the update that follows ``step`` updates.

    Args:
        train: the ``train`` section of a configuration (``lr`` and ``schedule``)
        step: updates done so far
        epoch: passes over the data done so far

    Raises:
        UserError: ``train.schedule.kind`` is not known
    """
    schedule = train.schedule
    if schedule.kind == "constant":
        factor = 1.0
    elif schedule.kind == "cosine":
        part = min(step / schedule.steps, 1.0)
        factor = schedule.floor + (1.0 - schedule.floor) * (1.0 + math.cos(math.pi * part)) / 2.0
    elif schedule.kind == "step":
        factor = schedule.factor ** (step // schedule.every)
    elif schedule.kind == "epoch":
        waiting = schedule.warmup_epochs - epoch
        factor = schedule.alpha**waiting if waiting > 0 else schedule.factor ** (-waiting // schedule.every)
    else:
        raise UserError(f"train.schedule.kind={schedule.kind}: choose constant, cosine, step or epoch")
    if step < schedule.warmup:
        factor *= (step + 1) / schedule.warmup
    return train.lr * factor
