"""In which stretches of a song a source sounds.

The rule is that of `preprocessing.py` in amanteur/BandSplitRNN-Pytorch, after Luo and Yu, "Music Source Separation with
Band-split RNN" (2022), section IV-A. A song is looked at through windows that overlap; each is divided into chunks. The
source sounds in a window if in every channel more than a given share of the chunks are louder than a threshold: a low
quantile of the levels of that channel's chunks in this window (in the paper: in the song), and never less than a floor.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from data.index import Index, Song
from runtime.errors import UserError
from runtime.nearest import did_you_mean


@dataclass(frozen=True)
class Activity:
    """The detector with its settings; their names are those of the original's configuration.

    Args:
        sr: sample rate in Hz at which songs are looked at and samples are counted
        window_size_in_sec: seconds
        overlap_ratio: from one window to the next, as a share of the window
        n_chunks_per_segment: chunks of a window
        eps: stands for the level of a silent chunk
        gamma: the threshold is never below this level (1 is full scale)
        threshold_max_quantile: the quantile of the levels in a window that is their threshold
        threshold_segment: the share of the chunks, more than which must be louder than the threshold

    Raises:
        UserError: values that cannot work
    """

    sr: int = 44100
    window_size_in_sec: float = 6
    overlap_ratio: float = 0.5
    n_chunks_per_segment: int = 10
    eps: float = 1e-5
    gamma: float = 1e-3
    threshold_max_quantile: float = 0.15
    threshold_segment: float = 0.5

    def __post_init__(self) -> None:
        if self.sr < 1 or self.n_chunks_per_segment < 1 or not 0 < self.overlap_ratio <= 1 or self.step < 1:
            raise UserError(
                f"source activity detection: sr={self.sr}, window_size_in_sec={self.window_size_in_sec}, "
                f"n_chunks_per_segment={self.n_chunks_per_segment}, overlap_ratio={self.overlap_ratio}: the ratio must "
                "lie above 0 and not above 1, the others above 0"
            )
        if self.window % self.n_chunks_per_segment:
            raise UserError(
                f"source activity detection: a window of {self.window} samples cannot be divided into "
                f"n_chunks_per_segment={self.n_chunks_per_segment} equal chunks; choose another number"
            )
        for name in ("threshold_max_quantile", "threshold_segment"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"source activity detection: {name}={getattr(self, name)} must lie between 0 and 1")
        if self.eps < 0 or self.gamma < 0:
            raise UserError(f"source activity detection: eps={self.eps}, gamma={self.gamma}: a level is not below 0")

    @classmethod
    def from_config(cls, values: Any) -> "Activity":
        """Settings by name, for example the group ``sad`` of a configuration; a name that is none is a UserError."""
        known = {field.name: field.type for field in fields(cls)}
        for name, value in dict(values).items():
            if name not in known:
                raise UserError(f"source activity detection: no setting is called {name}; {did_you_mean(name, known)}")
            if isinstance(value, bool) or not isinstance(value, (int,) if known[name] is int else (int, float)):
                raise UserError(f"source activity detection: {name}={value!r} is not a number that it can be")
        return cls(**dict(values))

    @classmethod
    def from_file(cls, path: str | Path) -> "Activity":
        """Settings from a YAML file; what it leaves out keeps its default."""
        from omegaconf import DictConfig, OmegaConf
        from omegaconf.errors import OmegaConfBaseException
        from yaml import YAMLError

        if not Path(path).is_file():
            raise UserError(f"{path}: there is no such file with settings of the source activity detection")
        try:
            values = OmegaConf.load(path)
        except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a YAML file: {error}") from error
        if not isinstance(values, DictConfig):
            raise UserError(f"{path}: not a YAML file of names and values")
        try:
            return cls.from_config(OmegaConf.to_container(values, resolve=True))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    @property
    def window(self) -> int:
        """Samples."""
        return int(self.sr * self.window_size_in_sec)

    @property
    def step(self) -> int:
        """Samples from one window to the next."""
        return int(self.window * self.overlap_ratio)

    def starts(self, blocks: Iterable[np.ndarray]) -> list[int]:
        """First samples of the windows in which a signal sounds; the windows lie wholly within it.

        Args:
            blocks: the signal at `sr` in pieces ``[C, n]`` of any lengths; memory is a window and one of them
        """
        found, position, held = [], 0, None
        for block in blocks:
            held = block if held is None else np.concatenate([held, block], axis=1)
            while held.shape[1] >= self.window:
                if self.sounds(held[:, : self.window]):
                    found.append(position)
                held, position = held[:, self.step :], position + self.step
        return found

    def sounds(self, window: np.ndarray) -> bool:
        """Whether a signal sounds in one window ``[C, N]``."""
        chunks = window.reshape(len(window), self.n_chunks_per_segment, -1)
        # Summed exactly enough that equal chunks have equal levels wherever they lie; compared with the original's
        # precision, for levels as equal as those of a steady tone hang on it.
        level = np.sqrt(np.square(chunks).mean(axis=-1, dtype=np.float64)).astype(np.float32)  # [C, chunk]
        level[level == 0] = self.eps
        threshold = np.maximum(_quantile(level, self.threshold_max_quantile), np.float32(self.gamma))
        loud = np.count_nonzero(level > threshold[:, None], axis=-1).astype(np.float32)
        return bool(np.all(loud / np.float32(self.n_chunks_per_segment) > np.float32(self.threshold_segment)))


def _quantile(x: np.ndarray, q: float) -> np.ndarray:
    """Linear between the two nearest values, float32 ``[C, n] -> [C]``: in single precision, as PyTorch computes it."""
    x = np.sort(x, axis=-1)
    rank = np.float32(q) * np.float32(x.shape[-1] - 1)
    below = int(rank)
    low, high = x[:, below], x[:, min(below + 1, x.shape[-1] - 1)]
    share = rank - np.float32(below)
    return low + share * (high - low) if share < 0.5 else high - (high - low) * (1 - share)


def song_starts(song: Song, index: Index, stem: str, activity: Activity) -> list[int]:
    """First samples, at the detector's rate, of the windows of a song in which a stem sounds.

    Raises:
        UserError: a file that cannot be read, or values that are no audio (NaN, infinite)
    """
    length = song.frames * activity.sr // song.sample_rate
    starts = activity.starts(_blocks(song, index, stem, activity))
    return [start for start in starts if start + activity.window <= length]


def _blocks(song: Song, index: Index, stem: str, activity: Activity) -> Iterator[np.ndarray]:
    """A stem, perhaps the sum of several files, at the detector's rate."""
    from dsp import audio
    from dsp.resample import StreamResampler

    size = max(activity.step * song.sample_rate // activity.sr, 1)
    files = [audio.blocks(index.file(song, part), size) for part in song.parts(stem)]
    resampler = StreamResampler(song.sample_rate, activity.sr, song.channels)
    for parts in zip(*files, strict=True):
        block = sum(parts[1:], parts[0])
        if not np.isfinite(block).all():
            raise UserError(f"{song.folder}: the {stem} has values that are no audio (NaN or infinite)")
        yield resampler.push(block)
    yield resampler.push(np.zeros((song.channels, 0), np.float32), last=True)
