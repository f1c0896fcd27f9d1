"""Other levels, and other voices in the background, for a batch of pairs of a mixture and its target.

This follows `augmentations.py` of amanteur/BandSplitRNN-Pytorch, whose third change, the random crop, is made where
the segments are read (`data.salient`). What happens to a batch depends on (seed, epoch, position) alone.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from data.sampler import generator
from runtime.errors import UserError

BATCH = 9  # stream of random numbers: changes of a batch (`data.sampler` names the others)
SILENCE = np.float32(1e-8)  # added to a level before something is divided by it


@dataclass(frozen=True)
class Change:
    """A change that happens to a whole batch with the probability ``p``, with decibels of its own for each pair.

    Raises:
        UserError: a probability that is none, or a minimum above the maximum
    """

    p: float = 0.0
    min_db: float = 0.0
    max_db: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise UserError(f"augmentations: p={self.p}; a probability lies between 0 and 1")
        if not self.min_db <= self.max_db:
            raise UserError(f"augmentations: min_db={self.min_db} is above max_db={self.max_db}")

    def draw(self, rng: np.random.Generator, rows: int) -> tuple[bool, np.ndarray]:
        """Whether it happens, and a factor for each pair: float32 ``[rows, 1, 1]``.

        Everything is drawn, whether it is used or not, so that one change does not alter another's luck.
        """
        happens, db = rng.random() < self.p, rng.uniform(self.min_db, self.max_db, (rows, 1, 1))
        return happens, (10 ** (db / 20)).astype(np.float32)


@dataclass(frozen=True)
class BatchAugmentation:
    """What is done to a batch, in this order; as it stands, nothing is.

    Args:
        gainscale: mixture and target together become louder or softer by so many dB
        mix: the target of a pair drawn from the batch is added to mixture and target, so many dB below each of them
    """

    gainscale: Change = Change()
    mix: Change = Change()

    @classmethod
    def from_config(cls, augmentations: Any) -> "BatchAugmentation":
        """The group ``augmentations`` of a configuration; of a change that is not there nothing is done."""
        names = [field.name for field in fields(cls) if augmentations.get(field.name) is not None]
        return cls(**{name: Change(**augmentations[name]) for name in names})


def batch_generator(seed: int, epoch: int, position: int) -> np.random.Generator:
    """The random numbers of one global batch: ``position`` counts the batches of the epoch."""
    return generator(seed, BATCH, epoch, position)


def augment(
    batch: dict[str, Any],
    options: BatchAugmentation,
    rng: np.random.Generator,
    rank: int = 0,
    processes: int = 1,
) -> dict[str, Any]:
    """Change ``mixture`` and ``target`` of a batch, float32 ``[B, C, N]``, in place; the batch itself is returned.

    With several processes each draws for all and takes its own rows, so that levels do not depend on their number. A
    voice in the background comes from the rows of the same process. It is normalised to the level of what it is added
    to in each channel, once for the mixture and once for the target: as in the original the two differ.

    Args:
        rng: `batch_generator` of the global batch, the same in all processes
        rank, processes: which share of the global batch this is
    """
    mixture, target = batch["mixture"], batch["target"]
    rows = len(mixture)
    place, total = slice(rank * rows, (rank + 1) * rows), rows * processes
    scaled, gain = options.gainscale.draw(rng, total)
    mixed, distance = options.mix.draw(rng, total)
    origin = rng.integers(rows, size=total)[place]
    if scaled:
        mixture *= gain[place]
        target *= gain[place]
    if mixed:
        voices = target[origin]
        voices /= _level(voices) + SILENCE
        mixture += voices * (_level(mixture) / distance[place])
        target += voices * (_level(target) / distance[place])
    return batch


def _level(x: np.ndarray) -> np.ndarray:
    """Root of the mean square of each channel, ``[B, C, N] -> [B, C, 1]``."""
    return np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True))
