"""What every decoder of the house offers, and the cutting of its output into blocks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from runtime.errors import UserError

# Place in the usual order (that of WAV) of each channel of Vorbis and Opus with 3 … 7 channels (Vorbis I, 4.3.9).
# libsndfile leaves them in the codecs' own order.
VORBIS_ORDER = {3: (0, 2, 1), 5: (0, 2, 1, 3, 4), 6: (0, 2, 1, 4, 5, 3), 7: (0, 2, 1, 5, 6, 4, 3)}


@dataclass(frozen=True)
class AudioInfo:
    """What a file says about its sound.

    Attributes:
        frames: samples per channel; 0 if the header does not say
        sample_rate: Hz
        channels: number of channels
        format: container, e.g. ``WAV``, ``FLAC``, ``OGG``, ``MP3``, ``MOV`` (MP4 and M4A)
        subtype: coding, e.g. ``PCM_16``, ``VORBIS``, ``AAC``
        exact: True when ``frames`` is certain; False when it is the header's estimate, which only decoding can settle
    """

    frames: int
    sample_rate: int
    channels: int
    format: str
    subtype: str
    exact: bool

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.sample_rate


class Reader(Protocol):
    """An open audio file; a context manager."""

    info: AudioInfo
    streams: int

    def decoded(self, start: int, frames: int) -> Iterator[np.ndarray]:
        """Float32 pieces ``[C, n]`` of any size from sample ``start`` on, at most ``frames`` samples (all if < 0)."""

    def close(self) -> None: ...


def unreadable(path: str | os.PathLike, why: str) -> UserError:
    """The error for a file that is not what it should be."""
    return UserError(f"cannot read {os.fspath(path)}: {why}")


def excerpt(pieces: Iterable[np.ndarray], start: int, frames: int) -> Iterator[np.ndarray]:
    """Drops ``start`` samples of a decoded stream, ends it after ``frames`` more (never if < 0)."""
    position, end = 0, start + frames if frames >= 0 else None
    for piece in pieces:
        first = max(0, start - position)
        last = piece.shape[-1] if end is None else min(piece.shape[-1], end - position)
        if first < last:
            yield piece[:, first:last]
        position += piece.shape[-1]
        if end is not None and position >= end:
            return


def recut(pieces: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples in contiguous blocks ``[C, size]``; only the last one may be shorter."""
    block, filled = None, 0
    for piece in pieces:
        while piece.shape[-1]:
            if block is None:
                block, filled = np.empty((piece.shape[0], size), np.float32), 0
            count = min(size - filled, piece.shape[-1])
            block[:, filled : filled + count] = piece[:, :count]
            filled, piece = filled + count, piece[:, count:]
            if filled == size:
                yield block
                block = None
    if block is not None:
        yield np.ascontiguousarray(block[:, :filled])
