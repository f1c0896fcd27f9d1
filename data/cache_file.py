"""The file that holds one cached song: chunks of arrays, and behind them a table that says what they are.

::

    64 bytes    magic, zeros
    chunks      each at a multiple of 64 bytes: one array [track, ...] in the payload's number format, little endian
    table       JSON: what the caller says of the song, and for every chunk its start, shape, offset, CRC-32 and scales
    24 bytes    length of the table (u64), CRC-32 of the table (u32), format version (u32), magic

The table is at the end, as in Parquet, because scales and checksums are known only when the arrays are written; a file
that was cut short has lost it. The shape after the track axis is the caller's business: ``[C, T, F]`` for magnitudes,
``[C, N]`` for waveforms.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from data.payload import PAYLOADS, Payload
from runtime.errors import UserError
from runtime.files import atomic_write

VERSION = 1
MAGIC = b"PSCACHE\0"
ALIGNMENT = 64
TRAILER = struct.Struct("<QII8s")
OPEN_FILES = 256  # mapped at a time; a mapping costs a file descriptor, of which a process often has 1024


@dataclass(frozen=True)
class Entry:
    """One chunk in a file: where it is, and what is needed to decode it (``scales`` has a list for each track)."""

    start: int
    shape: tuple[int, ...]
    offset: int
    crc: int
    scales: tuple[list[float], ...]


def write(path: Path, about: dict, payload: str, chunks: Iterable[tuple[int, np.ndarray]]) -> int:
    """Write a file atomically and return its size in bytes.

    ``about`` is any JSON object; ``chunks`` yields ``(start, float32 [track, ...])`` and is consumed one at a time.
    """
    form, entries = PAYLOADS[payload], []
    with atomic_write(path) as handle:
        handle.write(MAGIC.ljust(ALIGNMENT, b"\0"))
        for start, array in chunks:
            entries.append(_write_chunk(handle, form, start, array))
        table = json.dumps({**about, "payload": payload, "chunks": entries}, ensure_ascii=False).encode()
        handle.write(table)
        handle.write(TRAILER.pack(len(table), zlib.crc32(table), VERSION, MAGIC))
        return handle.tell()


def _write_chunk(handle, form: Payload, start: int, array: np.ndarray) -> dict:
    handle.write(b"\0" * (-handle.tell() % ALIGNMENT))
    offset, crc, scales = handle.tell(), 0, []
    for track in array:
        stored, scale = form.encode(track)
        stored = np.ascontiguousarray(stored, dtype=form.dtype)
        crc = zlib.crc32(stored, crc)
        handle.write(stored)
        scales.append(scale)
    return {"start": start, "shape": list(array.shape), "offset": offset, "crc": crc, "scales": scales}


class CacheFile:
    """A cached song opened for reading. UserError, naming the file and the remedy, for one that is damaged.

    ``about`` is what was given to `write`, ``chunks`` the table. Opening reads only the table; the checksum of a chunk
    is compared when the chunk is first read.
    """

    def __init__(self, path: Path):
        self.path = path
        table, self._identity = _read_table(path)
        try:
            self.payload = PAYLOADS[table.pop("payload")]
            rows = table.pop("chunks")
            self.chunks = [
                Entry(r["start"], tuple(r["shape"]), r["offset"], r["crc"], tuple(r["scales"])) for r in rows
            ]
        except (KeyError, TypeError) as error:
            raise damaged(path, "its table is not as expected") from error
        self.about: dict = table
        self._checked: set[int] = set()

    def read(self, k: int, window: slice, out: Sequence[np.ndarray], first: int = 0) -> None:
        """Decode frames ``window`` of chunk ``k``: ``out`` has a float32 array ``[C, frames, …]`` for each track.

        The tracks before ``first`` are left out.
        """
        self.verify(k)
        stored, scales = self._stored(k), self.chunks[k].scales
        for track, x in enumerate(out, first):
            self.payload.decode(stored[track, :, window], scales[track], x)

    def verify(self, k: int | None = None) -> None:
        """Compare the checksum of chunk ``k``, or of all, unless that has been done."""
        for chunk in range(len(self.chunks)) if k is None else (k,):
            if chunk not in self._checked:
                if zlib.crc32(self._stored(chunk)) != self.chunks[chunk].crc:
                    raise damaged(self.path, f"the checksum of its chunk {chunk} is wrong")
                self._checked.add(chunk)

    def _stored(self, k: int) -> np.ndarray:
        entry = self.chunks[k]
        count = int(np.prod(entry.shape))
        try:
            flat = np.frombuffer(_mapped(self.path, self._identity), self.payload.dtype, count, entry.offset)
        except ValueError as error:
            raise damaged(self.path, f"its chunk {k} is cut short") from error
        return flat.reshape(entry.shape)


@lru_cache(maxsize=OPEN_FILES)
def _mapped(path: Path, identity: tuple) -> np.memmap:
    """``identity`` tells a rebuilt file from the one before it."""
    return np.memmap(path, mode="r")


def _read_table(path: Path) -> tuple[dict, tuple]:
    """The table, and what identifies this very file."""
    try:
        with open(path, "rb") as handle:
            stat = os.fstat(handle.fileno())
            size = stat.st_size
            if size < ALIGNMENT + TRAILER.size:
                raise damaged(path, "it is cut short")
            handle.seek(size - TRAILER.size)
            length, crc, version, magic = TRAILER.unpack(handle.read(TRAILER.size))
            if magic != MAGIC or length > size - ALIGNMENT - TRAILER.size:
                raise damaged(path, "it is cut short or not a cache file")
            if version != VERSION:
                raise damaged(path, f"its format version is {version}, this program reads {VERSION}")
            handle.seek(size - TRAILER.size - length)
            table = handle.read(length)
    except FileNotFoundError as error:
        raise UserError(f"{path}: not in the cache; run `-m process_data`") from error
    if zlib.crc32(table) != crc:
        raise damaged(path, "the checksum of its table is wrong")
    return json.loads(table), (stat.st_ino, stat.st_mtime_ns, size)


def damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path}: the cached song is damaged ({why}); run `-m process_data` again, which rebuilds it")
