"""Encoders behind `dsp.audio_write.AudioWriter`: flac, mp3 and ogg by libsndfile, m4a by PyAV.

Those of `dsp.codec` are here, too: MP3 of all bit rates and qualities and Opus, by PyAV.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import soundfile

from dsp.audio_source import VORBIS_ORDER
from dsp.lame_tag import settle_length
from dsp.ogg_serial import settle_serial

_PIECE = 1 << 12  # samples per channel given to libsndfile at once: its Vorbis encoder overruns the stack with many

_SYSTEM_ERROR = 2  # libsndfile's code for what the operating system refuses

# Nominal bit rates of libvorbis for stereo at 44.1 kHz (bit/s) at the qualities 0, 0.1 … 1
_VORBIS_BITRATES = (64e3, 80e3, 96e3, 112e3, 128e3, 160e3, 192e3, 224e3, 256e3, 320e3, 500e3)

_LAMBDA = 118  # FFmpeg counts qualities of encoders in units of this

_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


class EncodingError(Exception):
    """An encoder refused or could not write."""


def mp3_bitrates(sample_rate: int) -> tuple[int, ...]:
    """Bit rates (bit/s) of MPEG layer III at a sample rate whose frames have room for the LAME tag.

    The tag says where the sound begins and ends; without it a file does not come back at its length.
    """
    if sample_rate >= 32000:  # MPEG-1
        kilobits, samples, side = (48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320), 1152, 32
    else:
        kilobits, samples, side = (24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160), 576, 17
    needed = 8 * (4 + side + 156)  # bits: header, side information, tag
    return tuple(
        1000 * value
        for value in kilobits
        if 1000 * value * samples >= needed * sample_rate and (value <= 64 or sample_rate >= 16000)
    )


def mp3_level(bitrate: int, sample_rate: int) -> float:
    """libsndfile's compression level for a bit rate: 0 for the highest at that sample rate, 1 for the lowest."""
    lowest, highest = (32000, 320000) if sample_rate >= 32000 else (8000, 160000 if sample_rate >= 16000 else 64000)
    return (highest - bitrate) / (highest - lowest)


def mp3_scale(bitrate: int) -> float:
    """The factor by which LAME lowers the level at a constant bit rate."""
    return {192000: 0.97, 224000: 0.98}.get(bitrate, 0.95 if bitrate < 192000 else 1.0)


def vorbis_quality(bitrate: int, sample_rate: int, channels: int) -> float:
    """Quality 0 … 1 whose nominal rate is near ``bitrate`` bit/s; rates grow about as channels and samples do."""
    comparable = bitrate * 2 / channels * 44100 / sample_rate
    return float(np.interp(comparable, _VORBIS_BITRATES, np.linspace(0, 1, len(_VORBIS_BITRATES))))


class SndfileFile:
    """A file being written by libsndfile.

    Args:
        path: the file, overwritten
        sample_rate: Hz
        channels: interleaved channels
        format: libsndfile's container
        coding: libsndfile's subtype
        traits: further arguments of `soundfile.SoundFile`

    Raises:
        EncodingError: if libsndfile fails, on opening, writing or closing
    """

    def __init__(
        self, path: str | os.PathLike, sample_rate: int, channels: int, format: str, coding: str, **traits: object
    ):
        self.path = path
        with _errors():
            self._file = soundfile.SoundFile(
                os.fsencode(path), "w", sample_rate, channels, coding, format=format, **traits
            )

    def write(self, samples: np.ndarray) -> None:
        """Appends ``samples [n, C]``: int16, int32 whose upper 24 bits count, or float32."""
        with _errors():
            for start in range(0, len(samples), _PIECE):
                self._file.write(np.ascontiguousarray(samples[start : start + _PIECE]))

    def close(self) -> None:
        """Completes the file."""
        with _errors():
            self._file.close()

    def abandon(self) -> None:
        """Closes the file that nobody will keep, so it does not matter whether it can be completed."""
        with suppress(soundfile.LibsndfileError):
            self._file.close()


class FlacFile(SndfileFile):
    """A FLAC file of 16 or 24 bits."""

    def __init__(self, path: str | os.PathLike, sample_rate: int, channels: int, bits: int):
        super().__init__(path, sample_rate, channels, "FLAC", f"PCM_{bits}")
        self._empty = _empty_flac(sample_rate, channels, bits)

    def close(self) -> None:
        super().close()
        if not os.path.getsize(self.path):  # libsndfile writes the header with the first sample
            with open(self.path, "wb") as handle:
                handle.write(self._empty)


class Mp3File(SndfileFile):
    """An MP3 file of constant bit rate (bit/s, one of `mp3_bitrates`), with delay and padding in its LAME tag."""

    def __init__(self, path: str | os.PathLike, sample_rate: int, channels: int, bitrate: int):
        level = mp3_level(bitrate, sample_rate)
        traits = {"bitrate_mode": "CONSTANT", "compression_level": level}
        super().__init__(path, sample_rate, channels, "MP3", "MPEG_LAYER_III", **traits)
        self._gain = np.float32(1 / mp3_scale(bitrate))

    def write(self, samples: np.ndarray) -> None:
        super().write(samples * self._gain)


class VorbisFile(SndfileFile):
    """An Ogg Vorbis file of a nominal bit rate (bit/s)."""

    def __init__(self, path: str | os.PathLike, sample_rate: int, channels: int, bitrate: int):
        level = 1 - vorbis_quality(bitrate, sample_rate, channels)
        super().__init__(path, sample_rate, channels, "OGG", "VORBIS", compression_level=level)
        self._order = VORBIS_ORDER.get(channels, range(channels))

    def write(self, samples: np.ndarray) -> None:
        super().write(samples[:, list(self._order)])

    def close(self) -> None:
        super().close()
        settle_serial(self.path)


class AvFile:
    """A file being written by FFmpeg's libraries.

    Args:
        path: the file, overwritten
        sample_rate: Hz
        channels: number of channels
        coder: FFmpeg's name of the encoder
        container: FFmpeg's name of the container
        bitrate: bit/s; None leaves it to ``coding``
        coding: options of the encoder
        **muxing: options of the container

    Raises:
        EncodingError: if FFmpeg fails, on opening, writing or closing
    """

    def __init__(
        self,
        path: str | os.PathLike,
        sample_rate: int,
        channels: int,
        coder: str,
        container: str,
        bitrate: int | None,
        coding: dict[str, str] | None = None,
        **muxing: str,
    ):
        import av  # 0.15 s that nobody pays who writes other formats
        from av.error import FFmpegError

        self._av, self._error = av, FFmpegError
        self._rate, self._layout, self._position = sample_rate, _LAYOUTS[channels], 0
        self._handle = open(path, "wb")  # noqa: SIM115 - a handle, not a name: FFmpeg reads protocols into names
        try:
            self._container = av.open(self._handle, "w", format=container, options=muxing)
            self._stream = self._container.add_stream(coder, rate=sample_rate, options=coding)
            self._stream.layout = self._layout
            if bitrate is not None:
                self._stream.bit_rate = bitrate
        except (FFmpegError, ValueError) as error:
            self._handle.close()
            raise EncodingError(str(error)) from error

    def write(self, samples: np.ndarray) -> None:
        """Appends ``samples [n, C]`` float32."""
        planes = np.ascontiguousarray(samples.T)
        frame = self._av.AudioFrame.from_ndarray(planes, format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts = self._rate, self._position
        self._position += len(samples)
        self._encode(frame)

    def close(self) -> None:
        """Completes the file."""
        with self._handle:
            self._encode(None)
            try:
                self._container.close()
            except self._error as error:
                raise EncodingError(str(error)) from error

    def abandon(self) -> None:
        """Closes the file that nobody will keep, so it does not matter whether it can be completed."""
        with self._handle, suppress(self._error):
            self._container.close()

    def _encode(self, frame: object) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except self._error as error:
            raise EncodingError(str(error)) from error


class M4aFile(AvFile):
    """An M4A file (AAC) of a nominal bit rate (bit/s)."""

    def __init__(self, path: str | os.PathLike, sample_rate: int, channels: int, bitrate: int):
        # with this time scale the edit list, in which players look for the length, counts samples
        super().__init__(path, sample_rate, channels, "aac", "ipod", bitrate, movie_timescale=str(sample_rate))


class LameFile(AvFile):
    """An MP3 file of any bit rate of the standard (bit/s), or of a quality of LAME, 0 (best) … 9, at variable bit rate.

    Delay and padding are in its LAME tag, for which FFmpeg takes a longer frame where those of the sound are too short.
    """

    def __init__(
        self, path: str | os.PathLike, sample_rate: int, channels: int, bitrate: int, quality: int | None = None
    ):
        coding = {} if quality is None else {"flags": "+qscale", "global_quality": str(_LAMBDA * quality)}
        # no names and versions of programs in the file: the same sound makes the same bytes
        plain = {"fflags": "+bitexact", "id3v2_version": "0"}
        rate = bitrate if quality is None else None
        super().__init__(path, sample_rate, channels, "libmp3lame", "mp3", rate, coding, **plain)
        self._path = path
        self._gain = np.float32(1 if quality is not None else 1 / mp3_scale(bitrate))

    def write(self, samples: np.ndarray) -> None:
        super().write(samples * self._gain)

    def close(self) -> None:
        super().close()
        settle_length(self._path, self._position)


class OpusFile(AvFile):
    """An Ogg Opus file of a nominal bit rate (bit/s), at one of Opus's sample rates."""

    def __init__(self, path: str | os.PathLike, sample_rate: int, channels: int, bitrate: int):
        super().__init__(path, sample_rate, channels, "libopus", "ogg", bitrate, fflags="+bitexact")


@contextmanager
def _errors() -> Iterator[None]:
    """Turns libsndfile's errors into `EncodingError`."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        refused = error.code == _SYSTEM_ERROR
        raise EncodingError("writing failed; is there space left?" if refused else error.error_string) from error


def _empty_flac(sample_rate: int, channels: int, bits: int) -> bytes:
    """A FLAC file without samples: the signature and the stream information (RFC 9639, 8.2)."""
    block_size = 4096
    description = sample_rate << 44 | (channels - 1) << 41 | (bits - 1) << 36  # the 36 bits for the length stay 0
    information = 2 * block_size.to_bytes(2, "big") + bytes(6) + description.to_bytes(8, "big") + bytes(16)
    return b"fLaC" + bytes([0x80]) + len(information).to_bytes(3, "big") + information
