"""New music out of a batch of stems, as Demucs is trained: shift, flip, scale and remix; and other pitch and tempo.

The first four work on a whole batch, because a remix takes its sources from several songs. What happens to it depends
on (seed, epoch, position) alone; with several processes each of them draws for all and takes its own rows, so that
their number changes nothing. Pitch and tempo are changed one segment at a time, before it joins a batch.
"""

from collections.abc import Collection
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.sampler import generator
from dsp.repitch import repitch
from runtime.errors import UserError

BATCH = 4  # stream of random numbers: changes of a batch (`data.sampler` names the others)


@dataclass(frozen=True)
class Augmentation:
    """What is done to a batch; the names are those of the configuration, ``augment.scale.min`` being ``scale_min``.

    Args:
        shift_same: the sources of a song are shifted together
        flip: exchange left and right, and change the sign, of each source with probability ½ each
        scale_proba: probability that a batch has the gain of each of its sources drawn from scale_min … scale_max
        remix_proba: probability that the sources of a batch are dealt out anew among the songs of each group
        group_size: songs in a group; 0 makes one group of the batch

    Raises:
        UserError: a probability that is none, or a minimum above the maximum
    """

    shift_same: bool = False
    flip: bool = True
    scale_proba: float = 1.0
    scale_min: float = 0.25
    scale_max: float = 1.25
    remix_proba: float = 1.0
    group_size: int = 4

    def __post_init__(self) -> None:
        for name in ("scale_proba", "remix_proba"):
            _require_probability(f"augment.{name.replace('_', '.')}", getattr(self, name))
        if self.scale_min > self.scale_max:
            raise UserError(f"augment.scale.min {self.scale_min} is above augment.scale.max {self.scale_max}")
        if self.group_size < 0:
            raise UserError(f"augment.remix.group_size is {self.group_size}; it must be at least 0")

    @classmethod
    def from_config(cls, augment: Any) -> "Augmentation":
        """The part of the configuration that is called ``augment``."""
        return cls(
            shift_same=bool(augment.shift_same),
            flip=bool(augment.flip),
            scale_proba=float(augment.scale.proba or 0),
            scale_min=float(augment.scale.min),
            scale_max=float(augment.scale.max),
            remix_proba=float(augment.remix.proba or 0),
            group_size=int(augment.remix.group_size or 0),
        )


def batch_generator(seed: int, epoch: int, position: int) -> np.random.Generator:
    """The random numbers of one global batch: ``position`` counts the batches of the epoch."""
    return generator(seed, BATCH, epoch, position)


def augment(
    batch: np.ndarray,
    options: Augmentation,
    rng: np.random.Generator,
    shift: int,
    training: bool = True,
    rank: int = 0,
    processes: int = 1,
) -> np.ndarray:
    """A new batch ``[B, S, C, N - shift]`` out of ``[B, S, C, N]``, which stays as it is.

    Each source begins up to ``shift`` samples later, has its channels exchanged (of two), its sign and its level
    changed, and then its song: source s of a group's songs is permuted among them. Without ``training`` only the last
    ``shift`` samples are cut off.

    Args:
        batch: waveforms, float32
        options: what is done, and how often
        rng: `batch_generator` of the global batch, the same in all processes
        shift: samples
        rank, processes: which share of the global batch this is

    Raises:
        UserError: a batch that cannot be divided into groups, or is not longer than the shift
    """
    songs, sources, channels, samples = batch.shape
    length = samples - shift
    if length < 1:
        raise UserError(f"segments of {samples} samples cannot be shifted by {shift}: dset.shift must be shorter")
    if not training:
        return batch[..., :length]
    group = options.group_size or songs
    if options.remix_proba and songs % group:
        raise UserError(
            f"a batch of {songs} songs a process cannot be remixed in groups of {group}: "
            "change batch_size or augment.remix.group_size"
        )
    place, total = slice(rank * songs, (rank + 1) * songs), songs * processes
    # Everything is drawn, whether it is used or not, so that one option does not change another's luck.
    offset = rng.integers(max(shift, 1), size=(total, sources))[place]
    swap = rng.integers(2, size=(total, sources))[place]
    sign = 1 - 2 * rng.integers(2, size=(total, sources))[place]
    scaled, gain = rng.random(), rng.uniform(options.scale_min, options.scale_max, (total, sources))[place]
    remixed, order = rng.random(), rng.random((total, sources))[place]
    if options.shift_same:
        offset = np.repeat(offset[:, :1], sources, axis=1)
    factor = np.ones((songs, sources))
    if options.flip:
        factor = factor * sign
    if scaled < options.scale_proba:
        factor = factor * gain
    origin = np.repeat(np.arange(songs)[:, None], sources, axis=1)
    if remixed < options.remix_proba:
        deal = order.reshape(songs // group, group, sources).argsort(axis=1)  # a permutation in each group and source
        origin = (deal + np.arange(0, songs, group)[:, None, None]).reshape(songs, sources)
    out = np.empty((songs, sources, channels, length), np.float32)
    for song, source in np.ndindex(songs, sources):
        k = origin[song, source]
        first = offset[k, source]
        x = batch[k, source, :, first : first + length]
        if options.flip and channels == 2 and swap[k, source]:
            x = x[::-1]
        np.multiply(x, np.float32(factor[k, source]), out=out[song, source])
    return out


@dataclass(frozen=True)
class Repitch:
    """Other pitch and tempo for a share of the segments, the same for all of their stems.

    Every segment is cut to `length` of it, changed or not, so that all have the same.

    Args:
        proba: share of the segments that are changed
        max_pitch: semitones, a whole number drawn from - max_pitch … max_pitch
        max_tempo: percent that the tempo changes at most
        tempo_std: standard deviation of the change in percent, before it is limited
        same: one draw for all stems; without it each has its own
        vocals: positions of the stems that are voices

    Raises:
        UserError: a probability that is none, or limits that cannot be kept
    """

    proba: float = 0.2
    max_pitch: int = 2
    max_tempo: float = 12.0
    tempo_std: float = 5.0
    same: bool = True
    vocals: Collection[int] = ()

    def __post_init__(self) -> None:
        _require_probability("augment.repitch.proba", self.proba)
        if not (0 <= self.max_tempo < 100 and 0 <= self.max_pitch <= 12 and self.tempo_std >= 0):
            raise UserError(
                f"augment.repitch: max_tempo {self.max_tempo} must lie in 0 … 99 %, "
                f"max_pitch {self.max_pitch} in 0 … 12 semitones, tempo_std {self.tempo_std} not below 0"
            )

    def length(self, samples: int) -> int:
        """Samples that are left of a segment: what a tempo of + max_tempo % cannot take away."""
        return int((1 - 0.01 * self.max_tempo) * samples)

    def __call__(
        self, stems: np.ndarray, rng: np.random.Generator, sample_rate: int, pool: Executor | None = None
    ) -> np.ndarray:
        """``[S, C, length(N)]`` out of stems ``[S, C, N]``, float32.

        Stretching keeps Python's lock; in the processes of ``pool`` it does not stop the threads around it.
        """
        length, changed = self.length(stems.shape[-1]), rng.random() < self.proba
        draws = 1 if self.same else len(stems)
        pitch = rng.integers(-self.max_pitch, self.max_pitch + 1, size=draws)
        tempo = np.clip(rng.normal(0, self.tempo_std, size=draws), -self.max_tempo, self.max_tempo)
        if not changed:
            return stems[..., :length]
        one = [min(k, draws - 1) for k in range(len(stems))]
        moves = [
            (stem, int(pitch[k]), float(tempo[k]), position in self.vocals, sample_rate)
            for position, (stem, k) in enumerate(zip(stems, one, strict=True))
        ]
        if pool is None:
            moved = [repitch(*move) for move in moves]
        else:
            moved = [future.result() for future in [pool.submit(repitch, *move) for move in moves]]
        return np.stack([stem[:, :length] for stem in moved])


def _require_probability(key: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"{key} is {value}; a probability lies between 0 and 1")
