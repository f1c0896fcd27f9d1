"""Which sample goes into which batch of which process: pure functions of a few integers, so nothing needs restoring.

A plan covers one epoch as seen by one process (rank). Position ``k`` means "the batches 0..k-1 are done"; it and the
epoch number are all that a checkpoint has to keep.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

WORD = (1 << 64) - 1


def generator(seed: int, stream: int, *address: int) -> np.random.Generator:
    """The random generator that belongs to an address, e.g. (epoch, sample); equal arguments, equal numbers.

    ``stream`` keeps the uses of one seed apart. Up to two address numbers below 2^64.
    """
    counter = [0, 0, *address, *(0,) * (2 - len(address))]  # the low words are what drawing numbers increments
    key = [seed & WORD, stream & WORD]
    return np.random.Generator(np.random.Philox(key=np.array(key, np.uint64), counter=np.array(counter, np.uint64)))


SHUFFLE, CROP, ROUND = 1, 2, 3  # streams: order of an epoch, draws of a sample, order of the chunks


@dataclass(frozen=True)
class EpochPlan:
    """Training order of one epoch, shared out among ``world`` processes; all of them get the same number of batches.

    ``batch_size`` is per process. A global batch is ``world * batch_size`` consecutive samples of the epoch's order, so
    four processes with 5 samples see together what one process sees with 20. What is left over at the end is dropped
    (``drop_last``) or filled up with samples from the beginning of the order.
    """

    length: int
    seed: int
    epoch: int
    rank: int = 0
    world: int = 1
    batch_size: int = 1
    drop_last: bool = False
    shuffle: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} is not below the number of processes {self.world}")
        if self.length < 1 or self.batch_size < 1 or self.epoch < 0:
            raise ValueError(f"no plan for {self.length} samples, batches of {self.batch_size}, epoch {self.epoch}")

    @property
    def global_batch(self) -> int:
        return self.world * self.batch_size

    def __len__(self) -> int:
        """Batches per process."""
        return self.length // self.global_batch if self.drop_last else -(-self.length // self.global_batch)

    @cached_property
    def order(self) -> np.ndarray:
        """The samples of all processes in the order of this epoch, int64 ``[len(self) * global_batch]``."""
        order = np.arange(self.length)
        if self.shuffle:
            order = generator(self.seed, SHUFFLE, self.epoch).permutation(self.length)
        return np.resize(order, len(self) * self.global_batch)

    def batch(self, k: int) -> list[int]:
        """Indices of this process's batch ``k``."""
        if not 0 <= k < len(self):
            raise IndexError(f"batch {k} of {len(self)}")
        start = k * self.global_batch + self.rank * self.batch_size
        return self.order[start : start + self.batch_size].tolist()

    def __iter__(self) -> Iterator[list[int]]:
        return (self.batch(k) for k in range(len(self)))

    def state(self, position: int) -> dict[str, int]:
        """What a checkpoint keeps: JSON-able, equal on all ranks."""
        return {"epoch": self.epoch, "position": position, "global_batch": self.global_batch, "length": self.length}

    def position(self, state: dict[str, int]) -> int:
        """Batch to go on with after ``state``.

        Exact with the same global batch. With another one (more processes, say) the samples already seen are rounded
        down to whole batches. A state of another epoch or of another number of samples is a ``ValueError``.
        """
        if state["epoch"] != self.epoch or state["length"] != self.length:
            raise ValueError(
                f"the state is of epoch {state['epoch']} over {state['length']} samples, "
                f"the plan of epoch {self.epoch} over {self.length}"
            )
        return min(state["position"] * state["global_batch"] // self.global_batch, len(self))


@dataclass(frozen=True)
class ValidationPlan:
    """Every sample exactly once over all processes, in order; the last batch and the shares may be smaller."""

    length: int
    rank: int = 0
    world: int = 1
    batch_size: int = 1
    epoch: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} is not below the number of processes {self.world}")

    @property
    def share(self) -> range:
        """The samples of this process."""
        return range(self.rank, self.length, self.world)

    def __len__(self) -> int:
        return -(-len(self.share) // self.batch_size)

    def batch(self, k: int) -> list[int]:
        if not 0 <= k < len(self):
            raise IndexError(f"batch {k} of {len(self)}")
        return list(self.share[k * self.batch_size : (k + 1) * self.batch_size])

    def __iter__(self) -> Iterator[list[int]]:
        return (self.batch(k) for k in range(len(self)))
