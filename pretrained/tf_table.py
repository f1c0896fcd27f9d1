"""Sorted tables of key-value pairs in LevelDB's format, as TensorFlow writes its checkpoint indices.

A file is a row of blocks, each followed by a type byte and a masked CRC-32C, and a footer of 48 bytes that points to
the index block. Inside a block the keys share prefixes with their predecessors.
"""

import struct
from collections.abc import Iterator

from crc32c import crc32c

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
TRAILER = 5
_MASK_DELTA = 0xA282EAD8


class FormatError(ValueError):
    """The bytes are not what the format demands; the message says where."""


def masked_crc32c(data: bytes) -> int:
    """CRC-32C rotated and offset, as LevelDB and TensorFlow store it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def varint(data: bytes, position: int) -> tuple[int, int]:
    """An unsigned LEB128 number at ``position``, and the position behind it."""
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise FormatError("a number runs past its end")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _handle(data: bytes, position: int) -> tuple[int, int, int]:
    offset, position = varint(data, position)
    size, position = varint(data, position)
    return offset, size, position


def _block(data: bytes, offset: int, size: int) -> bytes:
    """The contents of one block, checked against its CRC."""
    end = offset + size
    if end + TRAILER > len(data):
        raise FormatError(f"block at byte {offset} reaches beyond the end of the file")
    kind, stored = struct.unpack_from("<BI", data, end)
    if masked_crc32c(data[offset : end + 1]) != stored:
        raise FormatError(f"block at byte {offset} has the wrong CRC-32C")
    if kind != 0:
        raise FormatError(f"block at byte {offset} is compressed (type {kind}, 1 is snappy), which is not supported")
    return data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key-value pairs of one block; the restart points at its end only serve binary search."""
    if len(block) < 4:
        raise FormatError("a block is too short for its restart points")
    restarts = struct.unpack_from("<I", block, len(block) - 4)[0]
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise FormatError("a block has more restart points than bytes")
    position, key = 0, b""
    while position < end:
        shared, position = varint(block, position)
        fresh, position = varint(block, position)
        length, position = varint(block, position)
        if shared > len(key) or position + fresh + length > end:
            raise FormatError("an entry reaches beyond its block")
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + length]
        position += length


def read_table(data: bytes) -> dict[bytes, bytes]:
    """All pairs of a table file in their order.

    Raises:
        FormatError: not a table, damaged, or compressed
    """
    if len(data) < FOOTER or struct.unpack_from("<Q", data, len(data) - 8)[0] != MAGIC:
        raise FormatError("the table's magic number is missing at the end")
    footer = data[len(data) - FOOTER :]
    _, _, position = _handle(footer, 0)  # the meta index block has nothing to say here
    offset, size, _ = _handle(footer, position)
    pairs: dict[bytes, bytes] = {}
    for _, value in _entries(_block(data, offset, size)):
        start, length, _ = _handle(value, 0)
        pairs.update(_entries(_block(data, start, length)))
    return pairs
