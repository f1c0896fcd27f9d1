"""Validation on all processes: every segment once, the mean exact whoever measured it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from data.loader import BatchLoader
from data.sampler import ValidationPlan
from runtime.distributed import Group
from training.recipes import Recipe


@dataclass(frozen=True)
class Share:
    """The batches of one process, as segments of the data set (``batch``) and as places in the result (``places``)."""

    items: Sequence[int]
    plan: ValidationPlan
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.plan)

    def places(self, k: int) -> list[int]:
        return self.plan.batch(k)

    def batch(self, k: int) -> list[int]:
        return [self.items[place] for place in self.plan.batch(k)]


class Validation:
    """Mean scores of a network over the validation segments.

    The scores of the single segments are gathered before they are added, so the sum does not depend on how many
    processes shared the work.

    Args:
        dataset: the validation segments
        recipe: measures a batch, one number a segment and score
        group: the processes
        batch_size: segments in a forward pass
        segments: take so many, evenly spread; None is all
        workers: loader threads
    """

    def __init__(
        self, dataset: Any, recipe: Recipe, group: Group, batch_size: int, segments: int | None = None, workers: int = 0
    ):
        self.dataset, self.recipe, self.group, self.workers = dataset, recipe, group, workers
        self.count = min(segments or len(dataset), len(dataset))
        items = np.linspace(0, len(dataset) - 1, self.count).round().astype(int).tolist()
        self._share = Share(items, ValidationPlan(self.count, group.rank, group.size, batch_size))
        self._rounds = len(ValidationPlan(self.count, 0, group.size, batch_size))  # the first process has most

    def run(self, model: paddle.nn.Layer, asked_to_stop: Callable[[], bool]) -> dict[str, float] | None:
        """Mean of each score, the same on all processes.

        Args:
            model: the network; it is in training mode afterwards
            asked_to_stop: called before every batch, equally often by all processes, and answered alike

        Returns:
            The scores, or None if it was asked to stop. A segment whose score is not a number does not count, but for
            the loss, where that is a failure; a score that no segment has is left out.
        """
        names = self.recipe.scores
        values = np.zeros((len(names), self.count))
        batches = iter(BatchLoader(self.dataset, self._share, workers=self.workers))
        model.eval()
        try:
            for k in range(self._rounds):
                if asked_to_stop():
                    return None
                if k < len(self._share):
                    with paddle.no_grad():
                        measured = self.recipe.validate(model, next(batches))
                    values[:, self._share.places(k)] = [measured[name] for name in names]
        finally:
            batches.close()
            model.train()
        values = self.group.all_reduce_sum(values)  # exact: one process has the number, the others zero
        means = {"loss": math.fsum(values[0]) / self.count}
        for name, row in zip(names[1:], values[1:], strict=True):
            defined = row[~np.isnan(row)]
            means |= {name: math.fsum(defined) / len(defined)} if len(defined) else {}
        return means


def segments(cfg: Any, valid: Any, recipe: Recipe, group: Group) -> Validation:
    """Validation by segments of one size, as a configuration says."""
    return Validation(valid, recipe, group, cfg.train.batch_size, cfg.train.valid_segments, cfg.data.workers)
