"""Pairs of a mixture and one of its sources, cut from the stretches of songs in which that source sounds.

This follows `dataset.py` and the random crop of `augmentations.py` in amanteur/BandSplitRNN-Pytorch: the stretches come
from a list that `data.activity_lists` writes; both sounds of a stretch are divided by the peak of the louder one; for
training some pairs lose their target, some get other songs' sources in place of their own, and a piece is cut from each
at random; for validation as many pieces as fit. Numbers that are drawn depend on (seed, epoch, index) only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.activity_lists import Stretch, rate_of, read_list
from data.index import Song
from data.sampler import ROUND, generator
from data.wave_tracks import Track
from runtime.errors import UserError

MIXTURE = "mixture"
SALIENT = 8  # stream of random numbers: draws of a pair (`data.sampler` names the others)


@dataclass(frozen=True)
class Geometry:
    """How long a piece is and how far apart those for validation begin, in samples."""

    samples: int
    step: int


def geometry(seconds: float = 3.0, step: float = 1.0, sample_rate: int = 44100, window: int = 2048, hop: int = 512):
    """The original's `Geometry`: a little more than ``seconds`` and ``step``, so that whole hops of the STFT fill both.

    What is added is ``window - samples % hop``: at 44.1 kHz 3 s become 134144 samples, 1 s becomes 45944.
    """
    samples = int(seconds * sample_rate)
    more = window - samples % hop
    return Geometry(samples + more, int(step * sample_rate) + more)


@dataclass(frozen=True)
class Remix:
    """How a training pair is changed; the names are those of the original's configuration.

    Args:
        silent_prob: share of the pairs whose target is taken out of the mixture and made silent
        mix_prob: share of the pairs that get a new mixture: the target and one or more other sources, each from a
            stretch of the list drawn for it, at its own level
        mix_tgt_too: the target may be among those other sources; it is then added to the target as well
        first_chunk: cut the piece from the beginning of the stretch in place of anywhere

    Raises:
        UserError: a probability that is none
    """

    silent_prob: float = 0.1
    mix_prob: float = 0.25
    mix_tgt_too: bool = False
    first_chunk: bool = False

    def __post_init__(self) -> None:
        for name in ("silent_prob", "mix_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"train_dataset.{name} is {getattr(self, name)}; a probability lies between 0 and 1")


NO_REMIX = Remix(silent_prob=0.0, mix_prob=0.0)


class SalientSegments:
    """Pairs to train on or to be judged by; ``item(epoch, index)`` is ``{"mixture", "target", "song"}``.

    Fits `data.loader.BatchLoader`, whose batches then have ``mixture [B, C, N]``, ``target [B, C, N]`` and ``songs``.

    Args:
        tracks: the songs of the split; their specification is of waveforms, and its stems are the target and what may
            be mixed with it
        path: the list of the target, ``{target}_{split}.txt``
        target: the source to be separated
        samples: length of a piece, see `geometry`
        remix: changes for training
        seed: of what is drawn
        training: a random piece of each stretch; else all pieces that begin ``step`` samples apart, unchanged
        samples_per_epoch: length of an epoch in training in place of the number of stretches; every stretch has its
            turn before any is repeated, also across epochs
        step: samples between the pieces for validation; ``samples`` if not given

    Raises:
        UserError: a list that is missing, damaged or empty, or that is not of these songs; pieces longer than a stretch

    Attributes:
        songs: those that the list has stretches of
        stretches: of the list, in its order
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        path: str | Path,
        target: str,
        samples: int,
        remix: Remix = NO_REMIX,
        seed: int = 0,
        training: bool = True,
        samples_per_epoch: int | None = None,
        step: int | None = None,
    ):
        self.path, self.target, self.samples, self.remix, self.seed = Path(path), target, samples, remix, seed
        self.training = training
        self._tracks = {track.song.name: track for track in tracks}
        self._spec = tracks[0].spec
        if target not in self._spec.stems:
            raise UserError(f"train_dataset.target={target}: choose one of {', '.join(self._spec.stems)}")
        self.stretches = read_list(self.path)
        self._check()
        named = {stretch.song for stretch in self.stretches}
        self.songs: list[Song] = [track.song for name, track in self._tracks.items() if name in named]
        self._others = [stem for stem in self._spec.stems if remix.mix_tgt_too or stem != target]
        self._peaks: dict[Stretch, np.float32] = {}
        self._places = self._cut(step or samples)
        self._length = samples_per_epoch if training and samples_per_epoch else len(self._places)

    def __len__(self) -> int:
        """Pieces of an epoch."""
        return self._length

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays of one item."""
        shape = (self._spec.channels, self.samples)
        return {"mixture": shape, "target": shape}

    def summary(self) -> str:
        """One line: how many songs, stretches and pieces there are, and how long a piece is."""
        pieces = f"{len(self)} pieces of {self.samples / self._spec.sample_rate:.3g} s{' an epoch' * self.training}"
        return f"{len(self.songs)} songs, {len(self.stretches)} stretches with {self.target}, {pieces}"

    def item(self, epoch: int, index: int) -> dict[str, Any]:
        """``mixture`` and ``target``, float32 ``[C, N]``, and ``song``, the name of the song."""
        out = {name: np.empty(shape, np.float32) for name, shape in self.shapes.items()}
        return {**out, **self.fill(epoch, index, out)}

    def fill(self, epoch: int, index: int, out: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Write the arrays of an item into ``out`` and return the rest of it."""
        stretch, first = self._place(epoch, index)
        if self.training:
            self._draw(stretch, generator(self.seed, SALIENT, epoch, index), out)
        else:
            self._read(stretch, first, out)
        return {"song": stretch.song}

    def song_of(self, epoch: int, index: int) -> str:
        """Name of the song that an item is taken from."""
        return self._place(epoch, index)[0].song

    # --------------------------------------------------------------------------------------------------- the pieces

    def _check(self) -> None:
        """Whether the list is one of these songs, and its stretches are long enough."""
        if not self.stretches:
            raise UserError(f"{self.path}: lists nothing: no song has a stretch with {self.target}")
        rate = rate_of(self.path)
        if rate not in (None, self._spec.sample_rate):
            raise UserError(
                f"{self.path}: counts samples at {rate} Hz, but they are read at {self._spec.sample_rate} Hz; give "
                "this configuration a folder of its own (train_dataset.txt_dir), where its lists are made"
            )
        for stretch in self.stretches:
            track = self._tracks.get(stretch.song)
            if track is None:
                raise UserError(
                    f"{self.path}: the song {stretch.song!r} is not in this split of the data set; "
                    "make the list of this data set with `-m prepare`"
                )
            if stretch.stop > track.length:
                raise UserError(
                    f"{self.path}: {stretch.song} is said to sound up to sample {stretch.stop}, but has only "
                    f"{track.length}; make the list of this data set with `-m prepare`"
                )
            if stretch.stop - stretch.start < self.samples:
                raise UserError(
                    f"{self.path}: its stretches of {stretch.stop - stretch.start} samples are shorter than the "
                    f"{self.samples} that are to be cut from them; give this configuration a folder of its own "
                    "(train_dataset.txt_dir), or make longer ones with `-m prepare`"
                )

    def _cut(self, step: int) -> list[tuple[Stretch, int]]:
        """Stretches, and where in them a piece begins; for training that is drawn later."""
        if self.training:
            return [(stretch, 0) for stretch in self.stretches]
        return [
            (stretch, first)
            for stretch in self.stretches
            for first in range(0, stretch.stop - stretch.start - self.samples + 1, step)
        ]

    def _place(self, epoch: int, index: int) -> tuple[Stretch, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"piece {index} of {len(self)}")
        if len(self) == len(self._places):
            return self._places[index]
        turn, k = divmod(epoch * len(self) + index, len(self._places))
        return self._places[generator(self.seed, ROUND, turn).permutation(len(self._places))[k]]

    def _read(self, stretch: Stretch, first: int, out: Mapping[str, np.ndarray]) -> None:
        """A pair, divided by the peak of its whole stretch; silence stays silence."""
        track, peak = self._tracks[stretch.song], self._peak(stretch)
        for name, x in ((MIXTURE, out["mixture"]), (self.target, out["target"])):
            track.read_one(name, stretch.start + first, x)
            if peak > 0:
                x /= peak

    def _peak(self, stretch: Stretch) -> np.float32:
        """Of both sounds of a stretch; read once, so that from then on a piece of it will do."""
        if stretch not in self._peaks:
            x = np.empty((self._spec.channels, stretch.stop - stretch.start), np.float32)
            peak = np.float32(0)
            for name in (MIXTURE, self.target):
                self._tracks[stretch.song].read_one(name, stretch.start, x)
                peak = max(peak, x.max(), -x.min())
            self._peaks[stretch] = peak
        return self._peaks[stretch]

    # ------------------------------------------------------------------------------------------------- augmentation

    def _draw(self, stretch: Stretch, rng: np.random.Generator, out: Mapping[str, np.ndarray]) -> None:
        """A training pair. Everything is drawn, used or not, so that one option does not change another's luck."""
        position, silent, mixed = rng.random(3)
        sources = rng.permutation(len(self._others))[: rng.integers(1, len(self._others) + 1)] if self._others else []
        origins = rng.integers(len(self.stretches), size=len(self._others))
        share = 0.0 if self.remix.first_chunk else position
        self._read(stretch, _first(stretch, self.samples, share), out)
        if silent < self.remix.silent_prob:
            out["mixture"][...] -= out["target"]
            out["target"][...] = 0
        if mixed < self.remix.mix_prob and self._others:
            out["mixture"][...] = out["target"]
            for source in sources:
                self._add(self._others[source], self.stretches[origins[source]], share, out)

    def _add(self, name: str, stretch: Stretch, share: float, out: Mapping[str, np.ndarray]) -> None:
        """Add a source of another song at its own level."""
        x = np.empty_like(out["mixture"])
        self._tracks[stretch.song].read_one(name, stretch.start + _first(stretch, self.samples, share), x)
        out["mixture"][...] += x
        if name == self.target:
            out["target"][...] += x


def _first(stretch: Stretch, samples: int, share: float) -> int:
    """Where in a stretch a piece begins; its very last place is left out, as in the original."""
    return int(share * max(stretch.stop - stretch.start - samples, 1))
