"""From blocks of audio at any rate to the frames of a log-mel spectrogram at 16 kHz, in constant memory.

What comes out does not depend on how the audio was cut into blocks, to the bit: it is computed in pieces of fixed sizes
that are counted from the beginning of the audio.
"""

from __future__ import annotations

import math

import numpy as np

from dsp.mel import LogMel
from dsp.resample import StreamResampler, torchaudio_resample

_ZEROS, _ROLLOFF = 128, 0.99  # of the kernel that the originals resample with
_LARGEST = 2048  # samples in a period of the output; rates that have little in common would need a vast kernel
_FRAMES = 64  # frames computed at a time


class SincStream:
    """Resamples one channel as :func:`dsp.resample.torchaudio_resample` does, block by block: ``ceil(N·new/old)``.

    Args:
        old: sample rate of the input, Hz
        new: sample rate of the output, Hz
    """

    def __init__(self, old: int, new: int):
        divisor = math.gcd(old, new)
        self._old, self._new = old // divisor, new // divisor
        self._margin = math.ceil(_ZEROS / (_ROLLOFF * min(self._old, self._new))) + 1  # periods that a kernel reaches
        self._step = max(1, 8192 // self._new)  # periods computed at a time
        self._held = np.zeros(self._margin * self._old, np.float32)  # silence goes before the signal
        self._taken = self._given = 0

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Takes ``[n]`` float32, returns the samples ``[m]`` that are ready; ``last``: all that are missing."""
        self._taken += len(block)
        self._held = np.concatenate([self._held, np.asarray(block, np.float32)])
        if last:
            self._held = np.pad(self._held, (0, (2 * self._margin + self._step) * self._old))
        pieces = [self._held[:0]]
        size, advance = (self._step + 2 * self._margin) * self._old, self._step * self._old
        start = 0
        while start + size <= len(self._held):
            whole = torchaudio_resample(self._held[start : start + size], self._old, self._new, _ZEROS, _ROLLOFF)
            pieces.append(whole[self._margin * self._new : (self._margin + self._step) * self._new])
            start += advance
        self._held = self._held[start:].copy()
        out = np.concatenate(pieces)
        if last:
            out = out[: -(-self._taken * self._new // self._old) - self._given]
        self._given += len(out)
        return out


class _Soxr:
    """The same between rates that have little in common, by another kernel."""

    def __init__(self, old: int, new: int):
        self._stream = StreamResampler(old, new, 1)

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        return self._stream.push(block[None], last)[0]


class MelStream:
    """Blocks ``[C, n]`` of audio in, frames ``[mel bands, t]`` of the spectrogram of its mono mix out.

    Frame t is centred on second t·hop / sample rate of the network; all together are those of
    :class:`dsp.mel.LogMel` for the whole signal, ``N // hop + 1`` of them, and none without any sample.

    Args:
        rate: of the audio, Hz
        config: options of the network that the spectrogram is for, see :class:`models.rmvpe_config.RMVPEConfig`
        hop: samples from frame to frame, at the network's rate
    """

    def __init__(self, rate: int, config: dict, hop: int):
        own = config["sample_rate"]
        bands = config["n_mels"], config["window"], hop, config["f_min"], config["f_max"]
        self._log_mel = LogMel(own, *bands, center=False)
        self._bands, self._window, self._hop = config["n_mels"], config["window"], hop
        self._half = self._window // 2
        common = own // math.gcd(rate, own)
        self._resample = None if rate == own else (SincStream if common <= _LARGEST else _Soxr)(rate, own)
        self._signal = np.zeros(0, np.float32)  # mirrored at the beginning once there is enough of it
        self._place = 0  # of its first sample, in hops and samples from the first frame's beginning
        self._next = 0  # frame to be computed
        self._mirrored = False

    def push(self, block: np.ndarray) -> np.ndarray:
        """The frames that are complete."""
        mono = np.asarray(block, np.float32).mean(axis=0)
        self._add(mono if self._resample is None else self._resample.push(mono))
        return self._frames()

    def finish(self) -> np.ndarray:
        """The frames that are left."""
        if self._resample is not None:
            self._add(self._resample.push(np.zeros(0, np.float32), last=True))
        if not len(self._signal):
            return np.zeros((self._bands, 0), np.float32)
        self._signal = np.pad(self._signal, (0 if self._mirrored else self._half, self._half), "reflect")
        return self._frames(all_of_them=True)

    def _add(self, samples: np.ndarray) -> None:
        self._signal = np.concatenate([self._signal, samples])
        if not self._mirrored and len(self._signal) > self._half:
            self._signal = np.pad(self._signal, (self._half, 0), "reflect")
            self._mirrored = True

    def _frames(self, all_of_them: bool = False) -> np.ndarray:
        """Frames of whole groups; those of the last group with ``all_of_them``."""
        pieces = [np.zeros((self._bands, 0), np.float32)]
        if not self._mirrored and not all_of_them:
            return pieces[0]
        end = self._place + len(self._signal)
        there = max(0, (end - self._window) // self._hop + 1)  # frames that end inside
        while self._next < there and (all_of_them or self._next + _FRAMES <= there):
            count = min(_FRAMES, there - self._next)
            start = self._next * self._hop - self._place
            pieces.append(self._log_mel(self._signal[start : start + (count - 1) * self._hop + self._window]))
            self._next += count
        keep = min(self._next * self._hop, end - self._half - 1)  # the end will be mirrored
        if keep > self._place:
            self._signal = self._signal[keep - self._place :].copy()
            self._place = keep
        return np.concatenate(pieces, axis=1)
