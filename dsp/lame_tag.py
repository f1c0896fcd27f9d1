"""Sets the length that an MP3 file's first frame announces, in the tag that LAME introduced and all players read."""

from __future__ import annotations

import os
import struct

_START = 512  # bytes at the beginning of a file in which the tag lies
_FRAMES, _DELAY, _CHECKSUM = 8, 141, 154  # places in it of the number of frames, of delay and padding, and of the CRC


def settle_length(path: str | os.PathLike, samples: int) -> None:
    """Corrects the padding in the tag of an MP3 file without ID3 tag, in place, so that ``samples`` samples count.

    FFmpeg notes down the padding of the last frame only; where LAME needs one frame more than the sound to flush its
    delay, the frame before is padded, too, and the file would come back up to one frame too long.

    Raises:
        ValueError: no such tag
    """
    with open(path, "r+b") as handle:
        head = bytearray(handle.read(_START))
        place = max(head.find(b"Xing"), head.find(b"Info"))
        if place < 0 or len(head) < place + _CHECKSUM + 2:
            raise ValueError(f"{path}: no LAME tag")
        frames = struct.unpack_from(">I", head, place + _FRAMES)[0]
        frame = 1152 if head[1] >> 3 & 1 else 576  # samples; the bit says MPEG-1
        fields = int.from_bytes(head[place + _DELAY : place + _DELAY + 3], "big")
        delay = fields >> 12
        padding = frames * frame - delay - samples
        head[place + _DELAY : place + _DELAY + 3] = (delay << 12 | padding).to_bytes(3, "big")
        struct.pack_into(">H", head, place + _CHECKSUM, crc16(head[: place + _CHECKSUM]))
        handle.seek(0)
        handle.write(head)


def crc16(data: bytes | bytearray) -> int:
    """CRC-16/ARC: polynomial 0x8005, bits reversed, beginning with 0."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value
