"""Batches prepared ahead by threads while the network computes.

Threads, because the work (reading a mapped file, converting numbers, decoding audio, FFT) is done in C without Python's
lock: they share memory with the consumer, need no start-up, and cannot be killed one by one. Nothing here imports
paddle; batches are numpy arrays.
"""

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np

from runtime.errors import UserError


class Dataset(Protocol):
    """What the loader asks of a data set, e.g. `data.datasets.Magnitudes`."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]: ...

    def fill(self, epoch: int, index: int, out: Mapping[str, np.ndarray]) -> dict: ...

    def song_of(self, epoch: int, index: int) -> str: ...


class Plan(Protocol):
    """What the loader asks of a plan, e.g. `data.sampler.EpochPlan`."""

    epoch: int

    def __len__(self) -> int: ...

    def batch(self, k: int) -> list[int]: ...


class LoadError(RuntimeError):
    """A segment could not be made; names it and its song. The cause is chained."""


class BatchLoader:
    """Iterate over the batches of a plan from batch ``start`` on, in the plan's order.

    A batch is a dict: the data set's arrays stacked (``mixture [B, C, T, F]``, ``targets [B, S, C, T, F]``, float32),
    and the rest of its items as lists under the plural (``songs``, ``starts``). Its arrays are the consumer's for as
    long as it refers to them or to a part of them, and are used again afterwards.

    Args:
        dataset: makes the segments; a `UserError` it raises reaches the consumer, any other exception as `LoadError`
        plan: which segments form which batch
        start: batch to begin with
        workers: threads; 0 makes each batch when it is asked for
        prefetch: batches prepared ahead
    """

    def __init__(self, dataset: Dataset, plan: Plan, start: int = 0, workers: int = 0, prefetch: int = 2):
        self.dataset, self.plan, self.start = dataset, plan, start
        self.workers, self.prefetch = workers, max(prefetch, 1)
        self.waited_seconds = 0.0
        self._first = self._last = 0.0
        self._arrays: list[dict[str, np.ndarray]] = []

    def __len__(self) -> int:
        return max(len(self.plan) - self.start, 0)

    @property
    def waited(self) -> float:
        """Share of the time between the first and the last request that the consumer spent waiting for data."""
        return self.waited_seconds / max(self._last - self._first, 1e-9)

    def __iter__(self) -> Iterator[dict]:
        self.waited_seconds = 0.0
        self._first = self._last = time.perf_counter()
        batches = self._ahead() if self.workers else self._at_once()
        try:
            while True:
                asked = time.perf_counter()
                batch = next(batches, None)
                self._last = time.perf_counter()
                self.waited_seconds += self._last - asked
                if batch is None:
                    return
                yield batch
                del batch  # or its arrays would look used while the next one is made
        finally:
            batches.close()

    def _at_once(self) -> Iterator[dict]:
        for k in range(self.start, len(self.plan)):
            yield self._make(k)

    def _make(self, k: int) -> dict:
        indices = self.plan.batch(k)
        arrays = self._free_arrays(len(indices))
        return _batch(arrays, [self._fill(index, _part(arrays, row)) for row, index in enumerate(indices)])

    def _ahead(self) -> Iterator[dict]:
        """Keep ``prefetch`` batches in the making; every worker takes the next segment, whichever batch it is for."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loader")
        pending: deque[tuple[dict[str, np.ndarray], list[Future]]] = deque()
        try:
            for k in range(self.start, len(self.plan) + self.prefetch):
                if k < len(self.plan):
                    pending.append(self._begin(pool, k))
                if k - self.start >= self.prefetch and pending:
                    yield _collect(*pending.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, pool: ThreadPoolExecutor, k: int) -> tuple[dict[str, np.ndarray], list[Future]]:
        indices = self.plan.batch(k)
        arrays = self._free_arrays(len(indices))
        return arrays, [pool.submit(self._fill, index, _part(arrays, row)) for row, index in enumerate(indices)]

    def _fill(self, index: int, out: dict[str, np.ndarray]) -> dict:
        epoch = self.plan.epoch
        try:
            return self.dataset.fill(epoch, index, out)
        except UserError:
            raise
        except Exception as error:
            song = self.dataset.song_of(epoch, index)
            raise LoadError(f"segment {index} of epoch {epoch}, from the song {song}: {error}") from error

    def _free_arrays(self, size: int) -> dict[str, np.ndarray]:
        """Arrays of a batch: ones that nobody refers to any more, or new ones.

        Fresh memory costs more than filling it does. A view, or a tensor made without copying, refers to its array.
        """
        for arrays in self._arrays:
            if all(len(a) == size and sys.getrefcount(a) <= _IDLE for a in arrays.values()):
                return dict(arrays)
        new = {name: np.empty((size, *shape), np.float32) for name, shape in self.dataset.shapes.items()}
        if len(self._arrays) < self.prefetch + _CONSUMED:
            self._arrays.append(new)
        return dict(new)


_CONSUMED = 3  # batches that a consumer may keep without new memory being taken for each
_IDLE = 3  # references to an array that is only in `_arrays`: the dict's, the loop variable's, getrefcount's own


def _part(arrays: dict[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    return {name: array[row] for name, array in arrays.items()}


def _collect(arrays: dict[str, np.ndarray], rows: list[Future]) -> dict:
    return _batch(arrays, [row.result() for row in rows])


def _batch(arrays: dict[str, np.ndarray], infos: list[dict]) -> dict:
    names = infos[0] if infos else ()
    return {**arrays, **{f"{name}s": [info[name] for info in infos] for name in names}}
