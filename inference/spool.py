"""Arrays that wait on disk for a second look at the song. Nothing is left behind, however the process ends."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np


class Spool:
    """Rows of float32 written once and read again in order, any number of times.

    The file has no name where the system allows that, so that even a killed process leaves nothing. Its pages are not
    mapped: reading a long song does not grow the process.

    Args:
        row: shape of one row
        folder: where the disk space is taken; the system's folder for temporary files without one
    """

    def __init__(self, row: tuple[int, ...], folder: Path | None = None):
        self.rows = 0
        self._row = row
        self._values = math.prod(row)
        self._file = tempfile.TemporaryFile(dir=folder, prefix=".tmp-")  # noqa: SIM115 - closed by close()

    def write(self, rows: np.ndarray) -> None:
        """Append ``[n, *row]``; only before the first `read`."""
        if rows.size:
            self._file.write(np.ascontiguousarray(rows, np.float32).data.cast("B"))
        self.rows += len(rows)

    def rewind(self) -> None:
        """Read from the first row again."""
        self._file.seek(0)

    def read(self, rows: int) -> np.ndarray:
        """The next ``rows`` rows ``[n, *row]``, fewer at the end."""
        data = bytearray(rows * self._values * 4)
        count = self._file.readinto(data)
        return np.frombuffer(data, np.float32)[: count // 4].reshape(-1, *self._row)

    def read_at(self, row: int, rows: int) -> np.ndarray:
        """``rows`` rows ``[n, *row]`` from ``row`` on, fewer at the end."""
        self._file.seek(row * self._values * 4)
        return self.read(rows)

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()


class BlockSpool:
    """Arrays of float32 written one after another and read again as they were written, any number of times."""

    def __init__(self, folder: Path | None = None):
        self._spool = Spool((), folder)
        self._shapes: list[tuple[int, ...]] = []

    def write(self, block: np.ndarray) -> None:
        """Append an array of any shape."""
        self._spool.write(block.reshape(-1))
        self._shapes.append(block.shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The arrays, in order; they may be changed."""
        self._spool.rewind()
        for shape in self._shapes:
            yield self._spool.read(math.prod(shape)).reshape(shape)

    def close(self) -> None:
        """Give the disk space back."""
        self._spool.close()


class SpooledFifo:
    """A queue of waveform blocks ``[C, n]`` on disk, for a song that has to wait as a whole."""

    def __init__(self, channels: int, folder: Path | None = None):
        self._spool = Spool((channels,), folder)
        self._reading = False

    def push(self, block: np.ndarray) -> None:
        """Append a block; only before the first `pop` of any samples."""
        self._spool.write(block.T)

    def pop(self, samples: int) -> np.ndarray:
        """The oldest ``samples`` samples, which must be there."""
        if samples and not self._reading:
            self._spool.rewind()
            self._reading = True
        return self._spool.read(samples).T
