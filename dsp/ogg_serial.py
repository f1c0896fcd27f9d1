"""Gives an Ogg file a serial number that follows from its contents, so that the same sound makes the same file."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

_SERIAL, _CHECKSUM, _HEADER = slice(14, 18), slice(22, 26), 27  # places in the header of a page (RFC 3533, 6)
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def settle_serial(path: str | os.PathLike) -> None:
    """Replaces the random serial number of the one stream of an Ogg file, in place.

    The number is a checksum of the contents: files of different sound stay different, as chaining them demands.
    """
    with open(path, "r+b") as handle:
        serial = 0
        for _, page in _pages(handle):
            serial = zlib.crc32(page[_HEADER:], serial)
        handle.seek(0)
        for place, page in _pages(handle):
            page[_SERIAL] = struct.pack("<I", serial)
            page[_CHECKSUM] = bytes(4)
            page[_CHECKSUM] = struct.pack("<I", ogg_checksum(page))
            handle.seek(place)
            handle.write(page)


def ogg_checksum(page: bytes | bytearray) -> int:
    """Checksum of a page whose checksum field is 0.

    Ogg uses the polynomial of zlib without its bit reversal and inversion, so reversing and inverting once more allows
    zlib to do the work.
    """
    value = zlib.crc32(bytes(page).translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)


def _pages(handle: BinaryIO) -> Iterator[tuple[int, bytearray]]:
    """Place and bytes of each page; the caller may move the handle in between."""
    place = 0
    while True:
        handle.seek(place)
        header = handle.read(_HEADER)
        if not header:
            return
        if header[:4] != b"OggS":
            raise ValueError(f"no Ogg page at byte {place}")
        sizes = handle.read(header[26])
        page = bytearray(header + sizes + handle.read(sum(sizes)))
        yield place, page
        place += len(page)
