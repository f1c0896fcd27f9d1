"""Segments and whole files of originals and their coded copies, for networks that restore sound.

Follows `look2hear/datas` of JusperLee/Apollo and its training fork: a piece from the same place of both, divided by the
peak of the louder one. Different from there, a file that is shorter than a piece is followed by silence.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data.codec_generate import SILENT
from data.codec_pairs import CodecPair
from data.sampler import ROUND, generator

PIECE = 14  # stream of random numbers: where a piece begins (`data.sampler` names the others)


class CodecSegments:
    """Training pieces; ``item(epoch, index)`` is ``{"codec" [C, N], "original" [C, N], "song"}``.

    Fits `data.loader.BatchLoader`, whose batches then have ``codec [B, C, N]``, ``original [B, C, N]`` and ``songs``.
    An item is a function of (seed, epoch, index). Every pair has its turn, in an order that is drawn, before any is
    repeated, also across epochs. A piece that is silent, but for what a codec makes of silence, stays so.

    Args:
        pairs: what `data.codec_pairs.pairs_of` found
        samples: length of a piece
        seed: of what is drawn
        samples_per_epoch: pieces of an epoch; as many as there are pairs if None
        channels: 1 or 2; mono is repeated, of stereo the mean is taken
        sample_rate: Hz; the one that the pairs were found for, for the summary
    """

    def __init__(
        self,
        pairs: Sequence[CodecPair],
        samples: int,
        seed: int = 0,
        samples_per_epoch: int | None = None,
        channels: int = 2,
        sample_rate: int = 44100,
    ):
        if samples < 1 or not pairs:
            raise ValueError(f"no pieces of {samples} samples can be cut from {len(pairs)} pairs")
        self.pairs, self.samples, self.seed = list(pairs), samples, seed
        self.channels, self.sample_rate = channels, sample_rate
        self._length = samples_per_epoch or len(self.pairs)

    def __len__(self) -> int:
        """Pieces of an epoch."""
        return self._length

    @property
    def songs(self) -> list[CodecPair]:
        """The pairs."""
        return self.pairs

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays of one item."""
        return {"codec": (self.channels, self.samples), "original": (self.channels, self.samples)}

    def summary(self) -> str:
        """One line: how many pairs there are, how long they are, and how long a piece is."""
        seconds = self.samples / self.sample_rate
        return f"{_told(self.pairs, self.sample_rate)}, {len(self)} pieces of {seconds:g} s an epoch"

    def item(self, epoch: int, index: int) -> dict:
        """The arrays of one piece, and ``song``, the name of its pair."""
        out = {name: np.empty(shape, np.float32) for name, shape in self.shapes.items()}
        return {**out, **self.fill(epoch, index, out)}

    def fill(self, epoch: int, index: int, out: Mapping[str, np.ndarray]) -> dict:
        """Write the arrays of an item into ``out`` and return the rest of it."""
        pair = self._pair(epoch, index)
        rng = generator(self.seed, PIECE, epoch, index)
        first = int(rng.integers(max(pair.samples - self.samples, 0) + 1))
        count = min(self.samples, pair.samples)
        codec, original = _read(pair, first, count, self.channels)
        peak = max(np.abs(codec).max(), np.abs(original).max())
        for name, x in (("codec", codec), ("original", original)):
            out[name][:, :count] = x / peak if peak > SILENT else x
            out[name][:, count:] = 0
        return {"song": pair.name}

    def song_of(self, epoch: int, index: int) -> str:
        """Name of the pair that an item is taken from."""
        return self._pair(epoch, index).name

    def _pair(self, epoch: int, index: int) -> CodecPair:
        if not 0 <= index < len(self):
            raise IndexError(f"piece {index} of {len(self)}")
        turn, k = divmod(epoch * len(self) + index, len(self.pairs))
        return self.pairs[generator(self.seed, ROUND, turn).permutation(len(self.pairs))[k]]


class CodecFile(NamedTuple):
    """A whole pair to be judged by, at its own level: float32 ``[C, N]`` each."""

    name: str
    codec: np.ndarray
    original: np.ndarray


class CodecFiles:
    """Whole pairs, unchanged: a sequence of `CodecFile`, each read when it is asked for.

    Args:
        pairs: what `data.codec_pairs.pairs_of` found
        channels: see `CodecSegments`
        sample_rate: Hz; the one that the pairs were found for, for the summary
    """

    def __init__(self, pairs: Sequence[CodecPair], channels: int = 2, sample_rate: int = 44100):
        self.pairs, self.channels, self.sample_rate = list(pairs), channels, sample_rate

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[CodecFile]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, index: int) -> CodecFile:
        pair = self.pairs[index]
        return CodecFile(pair.name, *_read(pair, 0, pair.samples, self.channels))

    @property
    def songs(self) -> list[CodecPair]:
        """The pairs."""
        return self.pairs

    def summary(self) -> str:
        """One line: how many pairs there are, and how long they are."""
        return _told(self.pairs, self.sample_rate)

    def song_of(self, index: int) -> str:
        """Name of a pair."""
        return self.pairs[index].name


def _read(pair: CodecPair, first: int, count: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """``count`` samples from ``first`` on: codec and original."""
    from dsp import audio

    files = zip((pair.codec, pair.original), (pair.starts[1], pair.starts[0]), strict=True)
    codec, original = (audio.read(file, start + first, count, channels=channels)[0] for file, start in files)
    return codec, original


def _told(pairs: Sequence[CodecPair], sample_rate: int) -> str:
    return f"{len(pairs)} pairs of {sum(pair.samples for pair in pairs) / sample_rate / 60:.1f} minutes"
