"""What lossy coding does to sound: encoders with all their bit rates, and the low-pass filter that may come before.

The files come back sample for sample at their place and at their length, by `dsp.audio.read` as by libsndfile: MP3 by
the delay and padding in its LAME tag, M4A by its edit list, Ogg by its granule positions. The level is kept, although
LAME lowers it by default (`dsp.audio_encode.mp3_scale`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from dsp.audio_encode import EncodingError, LameFile, M4aFile, OpusFile, VorbisFile
from dsp.resample import resample, resampled_length
from runtime.errors import UserError

_BLOCK = 1 << 16  # samples per channel given to an encoder at once
_TAPS = 2047  # of the low-pass filter; what is left out of its response is below -140 dB from 100 Hz on

_MPEG1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # kbit/s of layer III
_MPEG2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # at half and quarter sample rates
_MPEG_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


@dataclass(frozen=True)
class Codec:
    """A lossy codec.

    Attributes:
        suffix: of its files
        rates: sample rates that it is used at here, Hz; sound of another one is resampled on the way in
        portable: whether all common readers give the sound back at its place and length, at its own sample rate
    """

    suffix: str
    rates: tuple[int, ...]
    portable: bool


CODECS = {
    "mp3": Codec(".mp3", _MPEG_RATES, portable=True),
    "aac": Codec(".m4a", _AAC_RATES, portable=False),
    "ogg": Codec(".ogg", (), portable=True),
    "opus": Codec(".opus", (48000,), portable=False),
}


def allowed_bitrate(codec: str, bitrate: int, sample_rate: int, channels: int) -> int:
    """The bit rate (bit/s) next to ``bitrate`` that a codec has for sound of this sample rate and channels."""
    rate = coding_rate(codec, sample_rate)
    if codec == "mp3":
        known = _MPEG1 if rate >= 32000 else _MPEG2 if rate >= 16000 else _MPEG2[:8]
        return min((1000 * value for value in known), key=lambda value: (abs(value - bitrate), value))
    low, high = {
        "aac": (8000 * channels, 6144 * rate * channels // 1024),  # what the standard allows for a frame
        "opus": (6000 * channels, 256000 * channels),
        "ogg": (int(32000 * channels * rate / 44100), int(250000 * channels * rate / 44100)),  # qualities 0 … 1
    }[codec]
    return min(max(bitrate, low), high)


def coding_rate(codec: str, sample_rate: int) -> int:
    """Sample rate at which a codec codes sound of ``sample_rate`` Hz: the next one up that it has, else its highest."""
    rates = CODECS[codec].rates
    return min((rate for rate in rates if rate >= sample_rate), default=max(rates, default=sample_rate))


def encode(
    path: str | os.PathLike, x: np.ndarray, sample_rate: int, codec: str, bitrate: int, quality: int | None = None
) -> None:
    """Writes ``x [C, N]`` float32 (one or two channels) as a coded file; see `CODECS`.

    Args:
        path: the file, overwritten
        x: the sound, full scale ±1
        sample_rate: Hz
        codec: mp3, aac, ogg (Vorbis) or opus
        bitrate: bit/s, one that `allowed_bitrate` gives back; mp3 has it constant, the others on the average
        quality: of LAME, 0 (best) … 9 in place of the bit rate, for mp3 only

    Raises:
        UserError: an encoder that fails
    """
    rate, channels = coding_rate(codec, sample_rate), x.shape[0]
    kind = {"mp3": LameFile, "aac": M4aFile, "ogg": VorbisFile, "opus": OpusFile}[codec]
    further = {"quality": quality} if codec == "mp3" else {}
    rows = (x if rate == sample_rate else resample(x, sample_rate, rate)).T
    try:
        sink = kind(path, rate, channels, bitrate, **further)
        try:
            for start in range(0, len(rows), _BLOCK):
                sink.write(np.ascontiguousarray(rows[start : start + _BLOCK], np.float32))
        except BaseException:
            sink.abandon()
            raise
        sink.close()
    except EncodingError as error:
        raise UserError(f"{os.fspath(path)} could not be coded as {codec}: {error}") from error


def decode(path: str | os.PathLike, sample_rate: int, samples: int) -> np.ndarray:
    """The sound of a file that `encode` wrote, float32 ``[C, N]`` at ``sample_rate`` Hz.

    A codec that works at another sample rate gives back a length that rounds to ``samples``; it is then exactly that.
    """
    from dsp import audio

    x, rate = audio.read(path)
    if rate == sample_rate:
        return x
    expected = resampled_length(samples, sample_rate, rate)
    y = resample(x, rate, sample_rate)
    return np.pad(y[:, :samples], [(0, 0), (0, max(samples - y.shape[1], 0))]) if x.shape[1] == expected else y


def lowpass(x: np.ndarray, sample_rate: int, frequency: float) -> np.ndarray:
    """``x [C, N]`` without the highs: -3 dB at ``frequency`` Hz, 12 dB an octave above, and nothing moved in time.

    The response in frequency is that of FFmpeg's filter ``lowpass`` (two poles, by the bilinear transform); the phase
    is 0, because that filter would delay sound below its corner by up to a sample.
    """
    from scipy.signal import oaconvolve

    if not 0 < frequency < sample_rate / 2:
        raise ValueError(f"a corner at {frequency} Hz is not between 0 and half of {sample_rate} Hz")
    size = 1 << 15
    warped = np.tan(np.pi * np.arange(size // 2 + 1) / size) / np.tan(np.pi * frequency / sample_rate)
    response = 1 / np.sqrt(1 + warped**4)
    taps = np.roll(np.fft.irfft(response, size), _TAPS // 2)[:_TAPS] * np.hanning(_TAPS + 2)[1:-1]
    return oaconvolve(x, taps[None].astype(np.float32), mode="full", axes=1)[
        :, _TAPS // 2 : _TAPS // 2 + x.shape[1]
    ].astype(np.float32)
