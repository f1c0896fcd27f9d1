"""Reading with PyAV (FFmpeg's libraries, no program): mp3, m4a, mp4, wma, webm and whatever else holds sound."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from dsp.audio_source import AudioInfo, excerpt, unreadable

# Containers of sound only. Without this list FFmpeg would also take play lists, and open the addresses inside them.
_CONTAINERS = (
    "mov,mp3,matroska,webm,asf,ogg,flac,wav,w64,aiff,au,caf,aac,ac3,eac3,dts,truehd,amr,ape,wv,tta,tak,mpc,mpc8,dsf,"
    "mpegts,mpeg,avi,flv"
)
_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63, "flt": 1.0, "dbl": 1.0}
_SLACK = 4096  # samples by which a whole file may end before its header says: two long packets


class AvReader:
    """One audio stream of a file, always decoded from its beginning; see `dsp.audio_source.Reader`.

    FFmpeg drops the encoder's delay by the edit list, the LAME tag or the codec delay of the container. Here the
    padding at the end of an MP4 file is dropped as well, by the duration of the last packet. Stem files (several audio
    streams) keep it, because stempeg, the reference reader of MUSDB18, counts so.

    Raises:
        UserError: not a container of sound, no such stream, or no decoder
    """

    def __init__(self, path: Path, stream: int = 0):
        self.path = path
        self._handle = open(path, "rb")  # noqa: SIM115 - a handle, not a name: FFmpeg reads protocols into names
        self._container = None
        try:
            self._container = self._open()
            self.streams = len(self._container.streams.audio)
            if stream >= self.streams:
                held = f"it has {self.streams} audio stream(s)" if self.streams else "there is no sound in it"
                raise unreadable(path, f"audio stream {stream} was asked for, but {held}")
            self._stream = self._container.streams.audio[stream]
            if self._stream.codec_context is None:
                raise unreadable(path, "this FFmpeg has no decoder for its coding; convert it to flac or wav first")
            self._family = self._container.format.name.split(",")[0]
            # an MP3's length can be trusted if it has a LAME tag, which shows by the encoder's delay
            self._tagged = self._family == "mp3" and bool(self._stream.start_time)
            # what the decoder delivers counts, not the header: HE-AAC doubles the rate, and often the channels
            frames = self._frames()
            first = next(frames, None)
        except FFmpegError as error:
            self.close()
            raise unreadable(path, f"it is not audio of a known kind, or damaged ({error.strerror})") from error
        except BaseException:
            self.close()
            raise
        self._source = frames if first is None else itertools.chain([first], frames)
        self._rate = first.sample_rate if first else self._stream.codec_context.rate
        self._channels = len(first.layout.channels) if first else self._stream.codec_context.channels
        if not self._rate or not self._channels:
            self.close()
            raise unreadable(path, "there is no sound in it")
        self.info = AudioInfo(
            frames=self._promised() or 0,
            sample_rate=self._rate,
            channels=self._channels,
            format=self._family.upper(),
            subtype=self._stream.codec_context.name.removesuffix("float").upper(),
            exact=False,
        )

    def decoded(self, start: int, frames: int) -> Iterator[np.ndarray]:
        yield from excerpt(self._samples(), start, frames)

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        self._handle.close()

    def _open(self) -> av.container.InputContainer:
        try:
            return av.open(self._handle, options=_OPTIONS)
        except FFmpegError:
            if self.path.suffix.lower() != ".mp3":
                raise
            self._handle.seek(0)  # an MP3 of a few packets is too little for FFmpeg to be sure of its kind
            return av.open(self._handle, format="mp3", options=_OPTIONS)

    def _promised(self) -> int | None:
        """Samples that the header announces; None if it does not."""
        if self._stream.duration is not None:
            return round(self._stream.duration * self._stream.time_base * self._rate)
        duration = self._container.duration
        return None if duration is None else round(duration * self._rate / av.time_base)

    def _frames(self) -> Iterator[av.AudioFrame]:
        """Decoded frames; notes where the last packet ends."""
        self._end = 0
        for packet in self._container.demux(self._stream):
            if packet.pts is not None:
                self._end = max(self._end, packet.pts + (packet.duration or 0))
            yield from packet.decode()

    def _samples(self) -> Iterator[np.ndarray]:
        """Float32 ``[C, n]`` of the whole stream; the last frame waits until it is known how much of it counts."""
        held, total = None, 0
        try:
            for frame in self._source:
                if held is not None:
                    yield held
                held = self._floats(frame)
                total += held.shape[-1]
        except FFmpegError as error:
            why = f"damaged or truncated after {total / self._rate:.2f} s ({error.strerror})"
            raise unreadable(self.path, why) from error
        self._check_whole(total)
        if held is not None:
            yield held[:, : held.shape[-1] - self._padding(total, held.shape[-1])]

    def _padding(self, total: int, last: int) -> int:
        """Samples of the last frame that lie after the end of the sound."""
        if self._family == "mov" and self.streams == 1:
            end = round(self._end * self._stream.time_base * self._rate)
        elif self._tagged:
            end = self._promised()
        else:
            return 0
        surplus = total - end
        return surplus if 0 < surplus < last else 0

    def _check_whole(self, total: int) -> None:
        promised = self._promised()
        if (self._family == "mov" or self._tagged) and promised and promised - total > _SLACK:
            ends = f"it ends after {total / self._rate:.2f} of {promised / self._rate:.2f} s"
            raise unreadable(self.path, f"{ends}, so it is truncated; copy or download it again")

    def _floats(self, frame: av.AudioFrame) -> np.ndarray:
        if frame.sample_rate != self._rate or len(frame.layout.channels) != self._channels:
            raise unreadable(self.path, "its sample rate or number of channels changes on the way; convert it first")
        values = frame.to_ndarray()
        if not frame.format.is_planar:
            values = values.reshape(-1, self._channels).T
        scale = _FULL_SCALE[frame.format.name.removesuffix("p")]
        if values.dtype == np.uint8:
            values = values.astype(np.float32) - np.float32(scale)
        return values.astype(np.float32) / np.float32(scale)
