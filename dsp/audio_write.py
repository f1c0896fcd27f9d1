"""Writing audio files block by block, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from dsp.audio_encode import EncodingError, FlacFile, M4aFile, Mp3File, VorbisFile, mp3_bitrates
from dsp.wav_file import WavFile
from runtime.atomic import atomic_path
from runtime.errors import UserError


@dataclass(frozen=True)
class Format:
    """What a file format can hold.

    Attributes:
        suffix: of file names
        bits: per sample of integer formats; 32 for floats; None for lossy coding
        max_channels: number of channels it holds
        rates: sample rates it holds, Hz; None for any
        bitrate: default of lossy coding, bit/s; a lower one where a sample rate allows less
    """

    suffix: str
    bits: int | None = None
    max_channels: int = 1024
    rates: tuple[int, ...] | range | None = None
    bitrate: int | None = None


_MPEG_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)

_AAC_FRAME, _AAC_FRAME_BITS = 1024, 6144  # samples, and the bits per channel that the standard allows for them

FORMATS = {
    "wav16": Format(".wav", bits=16),
    "wav24": Format(".wav", bits=24),
    "float32": Format(".wav", bits=32),
    "flac": Format(".flac", bits=16, max_channels=8, rates=range(1, 655351)),
    "flac24": Format(".flac", bits=24, max_channels=8, rates=range(1, 655351)),
    "mp3": Format(".mp3", max_channels=2, rates=_MPEG_RATES, bitrate=320_000),
    "ogg": Format(".ogg", max_channels=6, rates=range(8000, 192001), bitrate=192_000),
    "m4a": Format(".m4a", max_channels=6, rates=_AAC_RATES, bitrate=256_000),
}


def suffix(format: str) -> str:
    """File name suffix of a format, with its dot. Raises `UserError` for an unknown format."""
    return _format(format).suffix


def parse_bitrate(text: str | int) -> int:
    """``320k``, ``128000`` or a number → bit/s. Raises `UserError` if it is neither."""
    value = str(text).strip().lower()
    factor = 1000 if value.endswith("k") else 1
    digits = value.removesuffix("k")
    if not digits.isdecimal() or not int(digits):
        raise UserError(f"{text} is not a bit rate: write for example 320k or 320000")
    return int(digits) * factor


class _Sink(Protocol):
    def write(self, samples: np.ndarray) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...


class AudioWriter:
    """Writes a file block by block, as a context manager.

    The file takes its name when the block ends without an exception; with one, nothing is left. Integers are rounded
    to nearest and only what exceeds their range is saturated, and counted in ``clipped``. Integer formats give back
    what was read from such a file, bit for bit.

    Args:
        path: the file, replaced if it is there; its folder is made
        sample_rate: Hz
        channels: number of channels
        format: one of `FORMATS`: wav16, wav24, float32, flac (16 bits), flac24, mp3, ogg (Vorbis) or m4a (AAC)
        bitrate: of mp3 (constant), m4a and ogg (both nominal): bit/s, or text like ``320k``

    Attributes:
        frames: samples per channel written so far
        clipped: samples that were saturated so far; lossy and float formats saturate nothing

    Raises:
        UserError: unknown format; a rate, number of channels or bit rate that it cannot hold; an encoder that fails
        OSError: if the file cannot be written
    """

    def __init__(
        self,
        path: str | os.PathLike,
        sample_rate: int,
        channels: int,
        format: str = "wav16",
        bitrate: str | int | None = None,
    ):
        self.path, self.sample_rate, self.channels, self.format = Path(path), sample_rate, channels, format
        self.frames = self.clipped = 0
        self._traits = _format(format)
        _check(format, sample_rate, channels)
        self._bitrate = _bitrate(format, sample_rate, channels, bitrate)
        self._sink: _Sink | None = None
        self._opened = self._open()

    def __enter__(self) -> AudioWriter:
        self._sink = self._opened.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._sink = None
        return self._opened.__exit__(kind, error, trace)

    def write(self, block: np.ndarray) -> None:
        """Appends ``block [C, n]`` float, full scale ±1; n may be 0.

        Raises:
            UserError: if it holds NaN or infinity, which no player can play
        """
        if self._sink is None:
            raise RuntimeError("an AudioWriter writes inside its with block only")
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(f"a block must have the shape [{self.channels}, n], not {list(block.shape)}")
        if not np.isfinite(block).all():
            raise UserError(f"{self.path} was not written: the audio for it holds NaN or infinite values")
        if not block.shape[1]:
            return
        with self._named():
            self._sink.write(self._samples(block.T))
        self.frames += block.shape[1]

    @contextmanager
    def _open(self) -> Iterator[_Sink]:
        with atomic_path(self.path) as temporary, self._named():
            sink = self._encoder(temporary)
            try:
                yield sink
            except BaseException:
                sink.abandon()
                raise
            sink.close()
            if not os.path.getsize(temporary):
                raise EncodingError("it cannot hold 0 samples; use wav16 or flac")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Gives the errors of encoders the name of the file, for they only know a temporary one."""
        try:
            yield
        except EncodingError as error:
            raise UserError(f"{self.path} could not be written as {self.format}: {error}") from error

    def _encoder(self, path: Path) -> _Sink:
        traits = self._traits
        if traits.suffix in (".wav", ".flac"):
            kind = WavFile if traits.suffix == ".wav" else FlacFile
            return kind(path, self.sample_rate, self.channels, traits.bits)
        kind = {"mp3": Mp3File, "ogg": VorbisFile, "m4a": M4aFile}[self.format]
        return kind(path, self.sample_rate, self.channels, self._bitrate)

    def _samples(self, rows: np.ndarray) -> np.ndarray:
        """``[n, C]`` as encoders take it: int16, int32 with 24 bits at the top, or float32."""
        bits = self._traits.bits
        if bits in (None, 32):
            return np.ascontiguousarray(rows, np.float32)
        full = 1 << (bits - 1)
        values = np.rint(rows * np.asarray(full, rows.dtype))
        self.clipped += int(np.count_nonzero((values < -full) | (values > full - 1)))
        np.clip(values, -full, full - 1, out=values)
        return values.astype(np.int16) if bits == 16 else values.astype(np.int32) << 8


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise UserError(f"there is no audio format {name!r} to write; choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def _check(format: str, sample_rate: int, channels: int) -> None:
    traits = FORMATS[format]
    if sample_rate < 1 or channels < 1:
        raise ValueError(f"a file needs a sample rate and channels, not {sample_rate} Hz and {channels} channels")
    flac = FORMATS["flac"]
    other = "flac" if channels <= flac.max_channels and sample_rate in flac.rates else "wav16"
    if channels > traits.max_channels:
        raise UserError(f"{format} holds {traits.max_channels} channels at most, not {channels}; use {other}")
    if traits.rates is not None and sample_rate not in traits.rates:
        raise UserError(f"{format} cannot hold a sample rate of {sample_rate} Hz; use {other}")


def _bitrate(format: str, sample_rate: int, channels: int, wanted: str | int | None) -> int | None:
    """Bit rate to encode with, bit/s; None for formats that have none."""
    default = FORMATS[format].bitrate
    if default is None:
        return None
    value = default if wanted is None else parse_bitrate(wanted)
    if format == "m4a":
        return min(value, _AAC_FRAME_BITS * sample_rate * channels // _AAC_FRAME)
    if format != "mp3":
        return value
    known = mp3_bitrates(sample_rate)
    if wanted is None:
        return min(value, known[-1])
    if value not in known:
        choice = ", ".join(f"{each // 1000}k" for each in known)
        raise UserError(f"mp3 at {sample_rate} Hz has no bit rate {wanted}; choose one of {choice}")
    return value
