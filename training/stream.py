"""Training batches without end: epoch after epoch, from wherever the state says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
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
        drop_last: leave out the last batch of an epoch unless it is full; otherwise the order's beginning fills it up
        limit: batches of an epoch at most
        finish: changes every batch; gets it with the epoch and the batch's number there
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
        drop_last: bool = False,
        limit: int | None = None,
        finish: Callable[[Batch, int, int], Batch] | None = None,
    ):
        self.dataset, self.state, self.workers, self.limit, self.finish = dataset, state, workers, limit, finish
        self._shares = {"seed": seed, "rank": rank, "world": processes, "batch_size": batch_size}
        self._shares["drop_last"] = drop_last
        self._batches: Iterator[Batch] | None = None

    def plan(self, epoch: int) -> EpochPlan:
        """Which segments form which batch of an epoch."""
        return EpochPlan(len(self.dataset), epoch=epoch, **self._shares)

    def length(self, plan: EpochPlan) -> int:
        """Batches that are taken of an epoch."""
        return min(len(plan), self.limit or len(plan))

    def next(self) -> Batch:
        """The next batch; the state says afterwards that it was taken."""
        state = self.state
        plan = self.plan(state.epoch)
        if self._batches is None:
            self._batches = self._begin(plan)
        batch = next(self._batches)
        state.position += 1
        if state.position == self.length(plan):
            state.epoch, state.position = state.epoch + 1, 0
            self.close()
        return batch

    def _begin(self, plan: EpochPlan) -> Iterator[Batch]:
        """The batches from the state's position on."""
        start = self.state.position
        batches = iter(BatchLoader(self.dataset, plan, start, self.workers))
        return self._finished(batches, plan.epoch, range(start, self.length(plan))) if self.finish else batches

    def _finished(self, batches: Iterator[Batch], epoch: int, positions: range) -> Iterator[Batch]:
        """With loader threads, one more finishes the next batch while the present one is used."""
        with closing(batches), ThreadPoolExecutor(1, "finish") as pool:

            def make(position: int) -> Batch:
                return self.finish(next(batches), epoch, position)

            if not self.workers:
                yield from map(make, positions)
                return
            ahead = pool.submit(make, positions[0])
            for position in positions[1:]:
                ready, ahead = ahead.result(), pool.submit(make, position)
                yield ready
            yield ahead.result()

    def close(self) -> None:
        """Stops the loader threads."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None
