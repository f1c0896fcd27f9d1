"""Reading with libsndfile: wav, flac, ogg, aiff and their relatives."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from dsp.audio_source import VORBIS_ORDER, AudioInfo, unreadable
from runtime.errors import UserError

_PIECE = 1 << 16  # samples per channel decoded at once
_UNKNOWN_LENGTH = 1 << 62  # libsndfile's count for streams without one is above this
_SEEKABLE = re.compile(r"PCM|FLOAT|DOUBLE|ULAW|ALAW|VORBIS")  # codings whose seeks land on the exact sample
_SHORT = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_NO_DATA = re.compile(r"^\s*data : 0$", re.MULTILINE)
_OGG_PAGE = 65307  # bytes of the largest page
_HEADERS = 1 << 14  # bytes; a WAV file without sound is not larger
# sizes that programs write into the header of a stream they cannot go back to
_OPEN_ENDED = (range(0x7FFFF000, 0x80000000), range(0xFFFFFF00, 0x100000000))


class SndfileReader:
    """Raises soundfile.LibsndfileError for what libsndfile does not know; see `dsp.audio_source.Reader`."""

    streams = 1

    def __init__(self, path: Path):
        self.path = path
        self._file = soundfile.SoundFile(os.fsencode(path))
        self.info = AudioInfo(
            frames=self._file.frames,
            sample_rate=self._file.samplerate,
            channels=self._file.channels,
            format=self._file.format,
            subtype=self._file.subtype,
            exact=self._file.frames < _UNKNOWN_LENGTH,
        )

    @classmethod
    def open(cls, path: Path) -> SndfileReader | None:
        """A reader, or None for what libsndfile cannot read, or not well enough. `UserError` for a truncated file."""
        if _not_for_libsndfile(path):
            return None
        try:
            reader = cls(path)
        except soundfile.LibsndfileError:
            return None
        if not reader._suits():
            reader.close()
            return None
        try:
            reader._check_whole()
        except UserError:
            reader.close()
            raise
        return reader

    def _suits(self) -> bool:
        """False for what PyAV reads better, although libsndfile opens it.

        libsndfile guesses the length of an MP3 without a Xing header and cuts off what comes after; it does not read
        FLAC of unknown length.
        """
        return self.info.exact and self.info.format != "MP3"

    def _check_whole(self) -> None:
        """Raises `UserError` if the header promises more than the file holds."""
        for promised, present in _SHORT.findall(self._file.extra_info):
            missing = int(promised) - int(present)
            open_ended = any(int(promised) in sizes for sizes in _OPEN_ENDED)
            if missing > 16 * self.info.channels and not open_ended:
                raise unreadable(self.path, f"it is truncated, {missing} bytes are missing; copy or download it again")
        if not self.info.frames and _NO_DATA.search(self._file.extra_info) and self.path.stat().st_size > _HEADERS:
            raise unreadable(self.path, "its header was never completed; repair it with an audio editor")
        if self.info.format == "OGG" and _ends_inside_a_page(self.path):
            raise unreadable(self.path, "it is truncated; copy or download it again")

    def decoded(self, start: int, frames: int) -> Iterator[np.ndarray]:
        total = self.info.frames
        end = total if frames < 0 else min(total, start + frames)
        exact = self._file.seekable() and _SEEKABLE.search(self.info.subtype)
        position = min(start, total) if exact else 0
        self._file.seek(position)
        order = _usual_order(self.info)
        while position < end:
            block = self._read(min(_PIECE, end - position))
            if not len(block):
                lack = f"it ends after {position} of {total} samples"
                raise unreadable(self.path, f"{lack}, so it is truncated; copy or download it again")
            if position + len(block) > start:
                yield block[max(0, start - position) :, order].T
            position += len(block)

    def _read(self, count: int) -> np.ndarray:
        try:
            return self._file.read(count, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise unreadable(self.path, f"damaged or truncated audio ({error.error_string})") from error

    def close(self) -> None:
        self._file.close()


def _not_for_libsndfile(path: Path) -> bool:
    """Names by which libsndfile goes instead of looking at the contents: it would ask for the rate of headerless audio,
    and its MP3 decoder, which is not wanted anyway, comments on what it finds."""
    suffix = path.suffix.lower()
    if suffix != ".mp3":
        return suffix == ".raw"
    with open(path, "rb") as handle:
        return handle.read(4) not in (b"RIFF", b"fLaC", b"OggS", b"FORM")


def _ends_inside_a_page(path: Path) -> bool:
    """Whether an Ogg file ends before its last page does (RFC 3533, 6)."""
    with open(path, "rb") as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(0, size - _OGG_PAGE))
        end = handle.read()
    place = end.rfind(b"OggS")
    if place < 0:
        return False
    page = end[place:]
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _usual_order(info: AudioInfo) -> list[int] | slice:
    """Columns of a decoded block in the order of WAV."""
    if info.subtype in ("VORBIS", "OPUS") and info.channels in VORBIS_ORDER:
        return list(np.argsort(VORBIS_ORDER[info.channels]))
    return slice(None)
