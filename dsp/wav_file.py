"""Writing WAV files that may outgrow 4 GiB: RIFF that becomes RF64 on closing (EBU Tech 3306)."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

import numpy as np

RIFF_LIMIT = 0xFFFFFFFF  # largest size that a RIFF header can hold, bytes
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # of the sub-formats that stand for a classic format tag
_SPEAKERS = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x13F, 8: 0x63F}  # masks of mono … 7.1
_DS64 = struct.Struct("<4sIQQQI")  # chunk id, size, RIFF size, data size, samples, table length


class WavFile:
    """A WAV file being written; the samples are little-endian integers of 16 or 24 bits, or float32.

    A ``JUNK`` chunk keeps the place of the 64-bit sizes, so that a file that gets too large only needs its header
    changed.

    Args:
        path: the file, overwritten
        sample_rate: Hz
        channels: interleaved channels
        bits: 16, 24, or 32 for float
    """

    def __init__(self, path: str | os.PathLike, sample_rate: int, channels: int, bits: int):
        self.channels, self.bits = channels, bits
        self._block = channels * bits // 8
        self._size = 0  # bytes of samples
        self._handle: BinaryIO = open(path, "wb")  # noqa: SIM115 - closed by close() or abandon()
        header = b"RIFF\0\0\0\0WAVE" + _DS64.pack(b"JUNK", _DS64.size - 8, 0, 0, 0, 0)
        header += self._format_chunk(sample_rate)
        if bits == 32:  # a format other than PCM must tell its number of samples
            header += struct.pack("<4sII", b"fact", 4, 0)
        header += b"data\0\0\0\0"
        self._header_size = len(header)
        self._handle.write(header)

    def write(self, samples: np.ndarray) -> None:
        """Appends ``samples [n, C]``: int16, int32 whose upper 24 bits count, or float32."""
        if self.bits == 24:
            raw = np.ascontiguousarray(samples, "<i4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
        else:
            raw = np.ascontiguousarray(samples, "<i2" if self.bits == 16 else "<f4").tobytes()
        self._handle.write(raw)
        self._size += len(raw)

    def close(self) -> None:
        """Completes the header and closes the file."""
        with self._handle as handle:
            if self._size % 2:
                handle.write(b"\0")
            self._finish(handle)

    def abandon(self) -> None:
        """Closes the file as it is."""
        self._handle.close()

    def _finish(self, handle: BinaryIO) -> None:
        frames = self._size // self._block
        riff = self._header_size - 8 + self._size + self._size % 2
        large = riff > RIFF_LIMIT
        handle.seek(0)
        handle.write(struct.pack("<4sI", b"RF64" if large else b"RIFF", 0xFFFFFFFF if large else riff))
        if large:
            handle.seek(12)
            handle.write(_DS64.pack(b"ds64", _DS64.size - 8, riff, self._size, frames, 0))
        if self.bits == 32:
            handle.seek(self._header_size - 12)
            handle.write(struct.pack("<I", min(frames, 0xFFFFFFFF)))
        handle.seek(self._header_size - 4)
        handle.write(struct.pack("<I", 0xFFFFFFFF if large else self._size))

    def _format_chunk(self, rate: int) -> bytes:
        """Classic for mono and stereo, which every program reads; extensible for more, which need a speaker mask."""
        tag = _FLOAT if self.bits == 32 else _PCM
        extensible = self.channels > 2
        basic = struct.pack(
            "<HHIIHH",
            _EXTENSIBLE if extensible else tag,
            self.channels,
            rate,
            rate * self._block,
            self._block,
            self.bits,
        )
        if extensible:
            mask = _SPEAKERS.get(self.channels, 0)
            basic += struct.pack("<HHIH", 22, self.bits, mask, tag) + _GUID_TAIL
        elif tag == _FLOAT:
            basic += struct.pack("<H", 0)
        return struct.pack("<4sI", b"fmt ", len(basic)) + basic
