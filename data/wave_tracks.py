"""Segments of stems to train on and whole songs to be judged by, out of songs that are decoded or cached.

Lengths and positions follow the original: a song has segments of a given length every so many seconds, the last one
filled up with zeros, and every sample is normalised by the mean and the deviation of its song's mixture. Numbers that
are drawn depend on (seed, epoch, index) only.
"""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from data.cache_file import CacheFile
from data.chunks import CacheSpec, length_of, section
from data.demucs_augment import Repitch
from data.index import Index, Song
from data.sampler import generator
from data.workers import open_pool

REPITCH, SUBSET = 5, 6  # streams of random numbers (`data.sampler` names the others)
SUBSET_SEED = 42  # of the validation songs, equal in all experiments


@dataclass(frozen=True)
class Track:
    """A song and how its samples are got: decoded, or from its cached waveforms."""

    index: Index
    spec: CacheSpec
    song: Song
    mean: float
    std: float
    cached: CacheFile | None = None

    @cached_property
    def length(self) -> int:
        """Samples at the rate of the specification."""
        return length_of(self.song, self.spec)

    def read(self, start: int, out: Sequence[np.ndarray], mixture: bool = False) -> int:
        """Fill ``out``, an array ``[C, n]`` for each stem and before them for the mixture; how many samples there were.

        What lies behind the end of the song is zero.
        """
        there = max(min(out[0].shape[1], self.length - start), 0)
        for x in out:
            x[:, there:] = 0
        if self.cached is not None:
            _read_cached(self.cached, start, [x[:, :there] for x in out], first=0 if mixture else 1)
        elif there:
            for name, x in zip(self.spec.tracks if mixture else self.spec.stems, out, strict=True):
                x[:, :there] = section(self.index, self.song, name, self.spec, start, there)
        return there

    def read_one(self, name: str, start: int, out: np.ndarray) -> int:
        """Fill ``out [C, n]`` with one stem or the mixture, without a look at the others; otherwise as `read`."""
        there = max(min(out.shape[1], self.length - start), 0)
        out[:, there:] = 0
        if self.cached is not None:
            _read_cached(self.cached, start, [out[:, :there]], first=self.spec.tracks.index(name))
        elif there:
            out[:, :there] = section(self.index, self.song, name, self.spec, start, there)
        return there


def _read_cached(cached: CacheFile, start: int, out: list[np.ndarray], first: int) -> None:
    """A section that may lie in several chunks; the last of them overlaps the one before it."""
    position, stop = start, start + out[0].shape[1]
    for k, chunk in enumerate(cached.chunks):
        end = min(chunk.start + chunk.shape[-1], stop)
        if position < end:
            here = [x[:, position - start : end - start] for x in out]
            cached.read(k, slice(position - chunk.start, end - chunk.start), here, first)
            position = end


def segments_of(track: Track, segment: float | None, shift: float | None) -> int:
    """Segments of a song: at least one, and as many as it takes to reach its end."""
    seconds = track.length / track.spec.sample_rate
    if segment is None or seconds < segment:
        return 1
    return math.ceil((seconds - segment) / (shift or segment)) + 1


class WaveSegments:
    """Training segments; ``item(epoch, index)`` is ``{"stems": float32 [S, C, N], "song": name}``.

    Fits `data.loader.BatchLoader`, whose batches then have ``stems [B, S, C, N]`` and ``songs``. The mixture is the sum
    of the stems, made after the batch has been augmented.

    Args:
        tracks: the songs; one may come several times, which gives it more weight
        segment, shift: seconds
        normalize: subtract the song's mean and divide by its deviation
        seed: of what is drawn
        repitch: change pitch and tempo of some segments; all are shorter then (see `Repitch.length`)
        processes: how many stretch beside this one, from the first such segment to `close`; 0 for none
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        segment: float,
        shift: float | None = None,
        normalize: bool = True,
        seed: int = 0,
        repitch: Repitch | None = None,
        processes: int = 0,
    ):
        self.tracks, self.shift, self.normalize, self.seed = list(tracks), shift or segment, normalize, seed
        self.repitch, self.processes = repitch, processes
        self._pool: ProcessPoolExecutor | None = None
        self._opening = threading.Lock()
        spec = self.tracks[0].spec
        self.sample_rate = spec.sample_rate
        self._shape = (len(spec.stems), spec.channels, int(segment * spec.sample_rate))
        counts = [segments_of(track, segment, shift) for track in self.tracks]
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays of one item."""
        sources, channels, samples = self._shape
        return {"stems": (sources, channels, self.repitch.length(samples) if self.repitch else samples)}

    def summary(self) -> str:
        """One line: how many songs and segments there are, and how long a segment is."""
        songs = len({(track.index.root, track.song.folder) for track in self.tracks})
        seconds = self.shapes["stems"][-1] / self.sample_rate
        return f"{songs} songs, {len(self)} segments of {seconds:g} s an epoch"

    def item(self, epoch: int, index: int) -> dict:
        """``stems`` float32 ``[S, C, N]`` and ``song``, the name of the song."""
        out = {"stems": np.empty(self.shapes["stems"], np.float32)}
        return {**out, **self.fill(epoch, index, out)}

    def fill(self, epoch: int, index: int, out: Mapping[str, np.ndarray]) -> dict:
        """Write the stems of an item into ``out`` and return the rest of it."""
        track, k = self._place(index)
        stems = out["stems"] if self.repitch is None else np.empty(self._shape, np.float32)
        there = track.read(int(self.sample_rate * self.shift * k), list(stems))
        if self.normalize:
            _normalise(stems[..., :there], track.mean, track.std)
        if self.repitch is not None:
            out["stems"][...] = self._repitched(stems, epoch, index)
        return {"song": track.song.name}

    def song_of(self, epoch: int, index: int) -> str:
        """Name of the song that an item is taken from."""
        return self._place(index)[0].song.name

    def close(self) -> None:
        """End the processes that stretch."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _repitched(self, stems: np.ndarray, epoch: int, index: int) -> np.ndarray:
        """Other pitch and tempo. Stretching goes on here when a process is killed that stretches.

        That happens for lack of memory, and where a batch system sends its signals to all processes of a job.
        """

        def moved(pool: ProcessPoolExecutor | None) -> np.ndarray:
            return self.repitch(stems, generator(self.seed, REPITCH, epoch, index), self.sample_rate, pool)

        try:
            return moved(self._stretchers())
        except BrokenProcessPool:
            return moved(None)

    def _stretchers(self) -> ProcessPoolExecutor | None:
        if not self.processes:
            return None
        with self._opening:  # several loader threads may ask at once
            self._pool = self._pool or open_pool(self.processes)
            return self._pool

    def _place(self, index: int) -> tuple[Track, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"segment {index} of {len(self)}")
        position = int(np.searchsorted(self._ends, index, side="right"))
        return self.tracks[position], index - (int(self._ends[position - 1]) if position else 0)


class WholeTrack(NamedTuple):
    """A song to be judged by: ``mixture [C, N]``, ``stems [S, C, N]``, and the level of its mono mixture.

    ``normalised`` says whether ``mean`` has been subtracted and ``std`` divided by already.
    """

    name: str
    mixture: np.ndarray
    stems: np.ndarray
    mean: float
    std: float
    normalised: bool


class WaveTracks:
    """Songs for validation and test, one after the other: a sequence of `WholeTrack`, each read when it is asked for.

    Args:
        tracks: the songs
        normalize: subtract the song's mean and divide by its deviation
        segment, shift: seconds, for pieces of songs in place of whole ones
        samples: keep no more than so many items, chosen once and for all
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        normalize: bool = True,
        segment: float | None = None,
        shift: float | None = None,
        samples: int | None = None,
    ):
        self.normalize, self.segment, self.shift = normalize, segment, shift or segment
        self._places = [(track, k) for track in tracks for k in range(segments_of(track, segment, shift))]
        if samples is not None:
            self._places = subset(self._places, samples)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[WholeTrack]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, index: int) -> WholeTrack:
        track, k = self._places[index]
        spec, start, samples = track.spec, 0, track.length
        if self.segment is not None:
            start, samples = int(spec.sample_rate * self.shift * k), int(self.segment * spec.sample_rate)
        audio = np.empty((len(spec.tracks), spec.channels, samples), np.float32)
        there = track.read(start, list(audio), mixture=True)
        mean, std = track.mean, track.std
        if not std > 0:  # a test song, which nobody has measured yet
            mono = audio[0].mean(axis=0, dtype=np.float64)
            mean, std = (float(mono.mean()), float(mono.std(ddof=1))) if samples > 1 else (0.0, 0.0)
            std = std if std > 0 else 1.0  # silence stays silence
        if self.normalize:
            _normalise(audio[..., :there], mean, std)
        return WholeTrack(track.song.name, audio[0], audio[1:], mean, std, self.normalize)

    def song_of(self, index: int) -> str:
        return self._places[index][0].song.name


def _normalise(x: np.ndarray, mean: float, std: float) -> None:
    x -= np.float32(mean)
    x /= np.float32(std)


def subset(items: list, count: int) -> list:
    """``count`` of the items in an order that is always the same, or all of them as they are."""
    if count >= len(items):
        return items
    return [items[k] for k in generator(SUBSET_SEED, SUBSET).permutation(len(items))[:count]]
