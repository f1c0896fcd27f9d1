"""Training segments of a set of songs: read from the cache, or decoded and transformed on the fly; the same numbers.

A segment is a function of (seed, epoch, index) and of nothing else, so workers, processes and interruptions do not
change what a run sees.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from data import cache
from data.augment import Augment, Change, shift_pitch, stretch
from data.chunks import CacheSpec, Chunk, content, plan_chunks
from data.index import Index, Song
from data.sampler import CROP, ROUND, generator
from runtime.errors import UserError


class Segments(ABC):
    """Segments of ``segment_frames`` frames of the chunks of songs, one of each an epoch; use a subclass.

    A frame is one of the STFT, or of waveforms one sample. For training a segment starts anywhere in its chunk and is
    augmented; for validation every chunk is cut into as many segments as it holds, around its middle. Songs that lack a
    stem or have less than ``segment_frames`` frames are left out and named in ``lacking`` and ``too_short``.

    Args:
        index: where the songs come from
        spec: chunks, STFT and stems
        split: a split of the index, or songs of it
        segment_frames: T, or N of waveforms
        seed: of positions and augmentation
        augment: changes for training
        training: random positions; if not given, for every split but ``valid`` and ``test``
        samples_per_epoch: length of an epoch in place of the number of chunks; every chunk has its turn before any is
            repeated, also across epochs

    Raises:
        UserError: if there is no usable segment
        ValueError: if the specification is of the other kind
    """

    kind: ClassVar[str]
    unit: ClassVar[str]  # what ``segment_frames`` counts

    def __init__(
        self,
        index: Index,
        spec: CacheSpec,
        split: str | Sequence[Song],
        segment_frames: int = 512,
        seed: int = 0,
        augment: Augment | None = None,
        training: bool | None = None,
        samples_per_epoch: int | None = None,
    ):
        if spec.kind != self.kind:
            raise ValueError(f"{type(self).__name__} has segments of the kind {self.kind}, not {spec.kind}")
        self.index, self.spec, self.segment_frames, self.seed = index, spec, segment_frames, seed
        self.augment = augment or Augment()
        self.training = split not in ("valid", "test") if training is None else training
        self.epoch = 0
        songs = index.require(split, spec.tracks) if isinstance(split, str) else list(split)
        given = index.split(split) if isinstance(split, str) else songs
        self.lacking = [song.name for song in given if not all(song.has(track) for track in spec.tracks)]
        self.songs, self.too_short, self._places = [], [], []
        for song in songs:
            if song.name not in self.lacking:
                self._add(song)
        if not self._places:
            raise UserError(self._nothing(split, len(given)))
        self._length = samples_per_epoch or len(self._places)

    def _add(self, song: Song) -> None:
        chunks = plan_chunks(song, self.spec)
        if not chunks or chunks[0].frames < self.segment_frames:
            self.too_short.append(song.name)
            return
        for k, chunk in enumerate(chunks):
            self._places += [(len(self.songs), k, chunk, first) for first in self._starts(chunk)]
        self.songs.append(song)

    def _starts(self, chunk: Chunk) -> Sequence[int]:
        """First frames of the segments of a chunk; for training there is one, and what it says is not used."""
        count, rest = (1, 0) if self.training else divmod(chunk.frames, self.segment_frames)
        return [rest // 2 + k * self.segment_frames for k in range(count)]

    def _nothing(self, split: str | Sequence[Song], given: int) -> str:
        seconds = self.spec.samples_of(self.segment_frames) / self.spec.sample_rate
        what = f"the split {split!r}" if isinstance(split, str) else "the chosen songs"
        return (
            f"{self.index.path or self.index.root}: {what} has no segment of {self.segment_frames} {self.unit} "
            f"({seconds:.1f} s): of {given} songs, cut into chunks of {self.spec.chunk_seconds:g} s, "
            f"{len(self.too_short)} are too short and {len(self.lacking)} lack a stem; "
            "use longer songs or chunks, or fewer model.segment_frames"
        )

    def __len__(self) -> int:
        """Segments of an epoch."""
        return self._length

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays of one item."""
        shape = self.spec.shape(self.segment_frames)  # [C, T, F] or [C, N]
        return {"mixture": shape, "targets": (len(self.spec.stems), *shape)}

    def summary(self) -> str:
        """One line: how many songs and segments there are, what was left out."""
        left_out = [
            f"{len(names)} songs {why} left out"
            for names, why in (
                (self.too_short, f"under {self.segment_frames} {self.unit}"),
                (self.lacking, "without all stems"),
            )
            if names
        ]
        chunks = len({(song, k) for song, k, *_ in self._places})
        return "; ".join(
            [f"{len(self.songs)} songs, {chunks} chunks, {len(self)} segments{' an epoch' * self.training}", *left_out]
        )

    def set_epoch(self, epoch: int) -> None:
        """Epoch that ``dataset[index]`` draws from."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict:
        return self.item(self.epoch, index)

    def item(self, epoch: int, index: int) -> dict:
        """``mixture`` float32 ``[C, …]``, ``targets`` ``[S, C, …]``, ``song``, and its ``start`` in samples."""
        out = {name: np.empty(shape, np.float32) for name, shape in self.shapes.items()}
        return {**out, **self.fill(epoch, index, out)}

    def fill(self, epoch: int, index: int, out: Mapping[str, np.ndarray]) -> dict:
        """Write the arrays of an item into ``out`` and return the rest of it."""
        position, chunk_index, chunk, first = self._place(epoch, index)
        change, frames = Change(), self.segment_frames
        if self.training:
            rng = generator(self.seed, CROP, epoch, index)
            offset, change = rng.random(), self.augment.draw(rng)
            frames = min(round(frames * change.speed), chunk.frames)
            first = int(offset * (chunk.frames - frames + 1))
        tracks = [out["mixture"], *out["targets"]]
        if frames == self.segment_frames:
            self._read(position, chunk_index, chunk, first, tracks)
        else:
            self._read_stretched(position, chunk_index, chunk, first, frames, tracks)
        _apply(change, tracks)
        return {"song": self.songs[position].name, "start": chunk.start + first * self.spec.frame_step}

    def song_of(self, epoch: int, index: int) -> str:
        """Name of the song that an item is taken from."""
        return self.songs[self._place(epoch, index)[0]].name

    def _place(self, epoch: int, index: int) -> tuple[int, int, Chunk, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"segment {index} of {len(self)}")
        if not self.training or self._length == len(self._places):
            return self._places[index % len(self._places)]
        turn, k = divmod(epoch * self._length + index, len(self._places))
        return self._places[generator(self.seed, ROUND, turn).permutation(len(self._places))[k]]

    def _read_stretched(
        self, position: int, chunk_index: int, chunk: Chunk, first: int, frames: int, tracks: list[np.ndarray]
    ) -> None:
        source = np.empty((len(tracks), *self.spec.shape(frames)), np.float32)
        self._read(position, chunk_index, chunk, first, list(source))
        for out, x in zip(tracks, source, strict=True):
            out[...] = stretch(x, self.segment_frames)

    @abstractmethod
    def _read(self, position: int, chunk_index: int, chunk: Chunk, first: int, tracks: list[np.ndarray]) -> None:
        """Fill ``tracks`` (mixture first, each ``[C, n, …]``) with n frames of a chunk from frame ``first`` on."""


def _apply(change: Change, tracks: list[np.ndarray]) -> None:
    for x in tracks:
        if change.pitch != 1:
            x[...] = shift_pitch(x, change.pitch)
        if change.swap:
            x[...] = x[::-1].copy()
        if change.gain != 1:
            x *= np.float32(change.gain)


class Magnitudes(Segments):
    """Segments for networks that need no phase: ``mixture`` float32 ``[C, T, F]``, ``targets`` ``[S, C, T, F]``."""

    kind, unit = "magnitude", "frames"


class Waveforms(Segments):
    """Segments for networks that need the phase: ``mixture`` float32 ``[C, N]``, ``targets`` ``[S, C, N]``.

    UserError for an augmentation that is made of magnitudes (time stretch, pitch shift).
    """

    kind, unit = "waveform", "samples"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for name in ("time_stretch", "pitch_shift"):
            if getattr(self.augment, name):
                raise UserError(f"data.augment.{name} is for magnitudes; with waveforms it must be 0")


class _Cached(Segments):
    """Raises UserError for songs that are not cached, and at its first reading for a chunk damaged on the disk."""

    def __init__(self, index: Index, spec: CacheSpec, root: str | Path, split: str | Sequence[Song], *args, **kwargs):
        super().__init__(index, spec, split, *args, **kwargs)
        missing = [song.name for song in self.songs if not cache.path_of(root, song, spec).exists()]
        if missing:
            raise UserError(
                f"{cache.folder_of(root, spec)}: {len(missing)} of {len(self.songs)} songs are not in the cache "
                f"({', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}); run `-m process_data`"
            )
        self._files = [cache.open_song(root, song, spec) for song in self.songs]

    def _read(self, position: int, chunk_index: int, chunk: Chunk, first: int, tracks: list[np.ndarray]) -> None:
        self._files[position].read(chunk_index, slice(first, first + tracks[0].shape[1]), tracks)


class _Decoded(Segments):
    def _read(self, position: int, chunk_index: int, chunk: Chunk, first: int, tracks: list[np.ndarray]) -> None:
        start = chunk.start + first * self.spec.frame_step
        source = content(self.index, self.songs[position], self.spec, start, tracks[0].shape[1])
        for out, x in zip(tracks, source, strict=True):
            out[...] = x


class CachedMagnitudes(_Cached, Magnitudes):
    """Magnitudes from the cache in ``root`` that `data.cache.build` filled."""


class DecodedMagnitudes(_Decoded, Magnitudes):
    """Magnitudes decoded from the audio files each time they are asked for: nothing on the disk, but slow."""


class CachedWaveforms(_Cached, Waveforms):
    """Waveforms from the cache in ``root`` that `data.cache.build` filled."""


class DecodedWaveforms(_Decoded, Waveforms):
    """Waveforms decoded from the audio files each time they are asked for."""
