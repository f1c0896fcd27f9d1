"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from typing import Any

from runtime.errors import UserError


def learning_rate(train: Any, step: int) -> float:
    """Learning rate of the update that follows ``step`` updates.

    Args:
        train: the ``train`` section of a configuration (``lr`` and ``schedule``)
        step: updates done so far

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
    else:
        raise UserError(f"train.schedule.kind={schedule.kind}: choose constant, cosine or step")
    if step < schedule.warmup:
        factor *= (step + 1) / schedule.warmup
    return train.lr * factor
