"""Training batches without end: epoch after epoch, from wherever the state says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data.loader import BatchLoader
from data.sampler import EpochPlan
from training.recipes import Batch
from training.state import State


class Stream:
    """The batches of one process; ``state.epoch`` and ``state.position`` move on as they are taken.

    Args:
        dataset: the training segments
        state: where to begin, and what is kept up to date
        seed: of the order
        batch_size: segments a batch and process
        rank, processes: which share of every global batch this is
        workers: loader threads
    """

    def __init__(
        self,
        dataset: Any,
        state: State,
        seed: int,
        batch_size: int,
        rank: int = 0,
        processes: int = 1,
        workers: int = 0,
    ):
        self.dataset, self.state, self.workers = dataset, state, workers
        self._shares = {"seed": seed, "rank": rank, "world": processes, "batch_size": batch_size}
        self._batches: Iterator[Batch] | None = None

    def plan(self, epoch: int) -> EpochPlan:
        """Which segments form which batch of an epoch."""
        return EpochPlan(len(self.dataset), epoch=epoch, **self._shares)

    def next(self) -> Batch:
        """The next batch; the state says afterwards that it was taken."""
        state = self.state
        plan = self.plan(state.epoch)
        if self._batches is None:
            self._batches = iter(BatchLoader(self.dataset, plan, state.position, self.workers))
        batch = next(self._batches)
        state.position += 1
        if state.position == len(plan):
            state.epoch, state.position = state.epoch + 1, 0
            self.close()
        return batch

    def close(self) -> None:
        """Stops the loader threads."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None
