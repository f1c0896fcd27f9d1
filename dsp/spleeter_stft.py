"""Spleeter's transform pair, for whole signals and for streams."""

from __future__ import annotations

import numpy as np
import scipy.fft

from dsp.framing import add_frames, blocks_for, frame_blocks, frame_view

WINDOW_COMPENSATION = 2.0 / 3.0  # the original's constant: right for a Hann window used twice at 75 % overlap


class SpleeterSTFT:
    """Short-time Fourier transform of deezer/spleeter (``spleeter/model/__init__.py``) in float32.

    One frame of zeros comes before the signal and the tail is filled with zeros until every started hop has a frame.
    The Hann window serves analysis and synthesis; the inverse is scaled by the constant 2/3. As in TensorFlow the FFT
    length is the next power of two, and the window of an odd length is the symmetric one.

    Args:
        frame_length: window length, samples
        frame_step: hop, samples; at most ``frame_length``
        workers: threads of the FFT
    """

    def __init__(self, frame_length: int = 4096, frame_step: int = 1024, workers: int = 1):
        if not 0 < frame_step <= frame_length:
            raise ValueError(f"frame_step must lie in 1 … frame_length={frame_length}, not {frame_step}")
        self.frame_length, self.frame_step, self.workers = frame_length, frame_step, workers
        self.fft_length = 1 << (frame_length - 1).bit_length()
        self.bins = self.fft_length // 2 + 1
        self.window = _tensorflow_hann(frame_length)
        self._synthesis = self.window * np.float32(WINDOW_COMPENSATION)

    def frames(self, samples: int) -> int:
        """Number of frames that `forward` makes of a signal of so many samples: ``ceil((samples + L) / hop)``."""
        return -(-(samples + self.frame_length) // self.frame_step)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Waveform ``[..., N]`` float32 → spectrogram ``[..., T, F]`` complex64, ``T = frames(N)``; N may be 0."""
        return self.analyse(self.padded(x))

    def inverse(self, spec: np.ndarray, length: int) -> np.ndarray:
        """Spectrogram ``[..., T, F]`` complex64 → waveform ``[..., length]`` float32.

        Raises:
            ValueError: if ``length`` samples need more than T frames
        """
        frames = spec.shape[-2]
        if frames < self.frames(length):
            raise ValueError(f"{length} samples need {self.frames(length)} frames; the spectrogram has {frames}")
        blocks = blocks_for(frames, self.frame_length, self.frame_step)
        signal = np.zeros((*spec.shape[:-2], blocks, self.frame_step), np.float32)
        self.synthesise(spec, signal)
        signal = signal.reshape(*spec.shape[:-2], -1)
        return np.ascontiguousarray(signal[..., self.frame_length : self.frame_length + length])

    def magnitude_frames(self, x: np.ndarray) -> np.ndarray:
        """Magnitudes ``[..., T, F]`` float32 as the original trains on: no zeros before or after the signal.

        ``T = 1 + (N - L) // hop`` whole frames of ``x [..., N]`` (20 s at 44.1 kHz with 4096/1024: 858), 0 if N < L.
        """
        return np.abs(self.analyse(np.asarray(x, np.float32)))

    def padded(self, x: np.ndarray) -> np.ndarray:
        """The signal with its leading frame of zeros and as many trailing zeros as the last frame needs."""
        samples = x.shape[-1]
        total = (self.frames(samples) - 1) * self.frame_step + self.frame_length
        signal = np.zeros((*x.shape[:-1], total), np.float32)
        signal[..., self.frame_length : self.frame_length + samples] = x
        return signal

    def analyse(self, signal: np.ndarray) -> np.ndarray:
        """Spectra ``[..., T, F]`` of the complete frames of a signal that is padded already."""
        frames = frame_view(signal, self.frame_length, self.frame_step)
        out = np.empty((*frames.shape[:-1], self.bins), np.complex64)
        rows = int(np.prod(frames.shape[:-2]))
        for piece in frame_blocks(frames.shape[-2], rows, self.fft_length):
            windowed = frames[..., piece, :] * self.window
            out[..., piece, :] = scipy.fft.rfft(windowed, self.fft_length, workers=self.workers)
        return out

    def synthesise(self, spec: np.ndarray, signal: np.ndarray) -> None:
        """Adds the windowed frames of ``spec [..., T, F]`` to ``signal [..., blocks, hop]``, from its beginning on."""
        rows = int(np.prod(spec.shape[:-2]))
        for piece in frame_blocks(spec.shape[-2], rows, self.fft_length):
            frames = scipy.fft.irfft(spec[..., piece, :], self.fft_length, workers=self.workers)
            frames = frames[..., : self.frame_length] * self._synthesis
            add_frames(signal, frames, self.frame_step, piece.start)


class StreamSTFT:
    """`SpleeterSTFT.forward` for a signal that arrives in blocks: the same frames, bit for bit, bounded memory.

    Args:
        stft: the transform
        channels: of the signal
    """

    def __init__(self, stft: SpleeterSTFT, channels: int):
        self.stft = stft
        self.samples = 0  # received so far
        self._done = 0  # frames delivered so far
        self._rest = np.zeros((channels, stft.frame_length), np.float32)  # signal from the next frame on

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Takes ``block [C, n]`` (n may be 0), returns the frames ``[C, t, F]`` it completes (t may be 0).

        With ``last`` the tail is filled with zeros and all remaining frames come.
        """
        stft = self.stft
        self.samples += block.shape[-1]
        signal = np.concatenate([self._rest, block], axis=-1, dtype=np.float32)
        if last:
            missing = (stft.frames(self.samples) - self._done - 1) * stft.frame_step + stft.frame_length
            signal = np.pad(signal, [(0, 0), (0, max(0, missing - signal.shape[-1]))])
        spec = stft.analyse(signal)
        self._done += spec.shape[-2]
        self._rest = signal[:, spec.shape[-2] * stft.frame_step :].copy()
        return spec


class StreamISTFT:
    """`SpleeterSTFT.inverse` for frames that arrive in groups: the same samples, bit for bit, bounded memory.

    Args:
        stft: the transform
        channels: of the signal
    """

    def __init__(self, stft: SpleeterSTFT, channels: int):
        self.stft = stft
        self._reach = blocks_for(1, stft.frame_length, stft.frame_step)
        self._open = np.zeros((channels, self._reach, stft.frame_step), np.float32)  # sums that are not delivered yet
        self._frames = 0  # received so far
        self._skip = stft.frame_length  # samples of the leading zeros still to be dropped
        self._samples = 0  # delivered so far

    def push(self, spec: np.ndarray, last: bool = False, length: int | None = None) -> np.ndarray:
        """Takes ``spec [C, t, F]`` (t may be 0), returns the samples ``[C, n]`` that are final (n may be 0).

        One hop is held back until ``last``, because only ``length``, the number of samples of the whole signal, says
        where inside the last hop the signal ends. Without a ``length`` the whole last hop comes.
        """
        stft, count = self.stft, spec.shape[-2]
        channels, carried, hop = self._open.shape
        signal = np.zeros((channels, carried + count, hop), np.float32)
        signal[:, :carried] = self._open
        held = carried - self._reach  # a hop of finished samples from the push before
        stft.synthesise(spec, signal[:, held:])
        self._frames += count
        final = held + count
        ready = final if last else max(0, final - 1)
        self._open = signal[:, ready:].copy()
        samples = signal[:, :ready].reshape(channels, ready * hop)
        dropped = min(self._skip, samples.shape[-1])
        self._skip -= dropped
        samples = samples[:, dropped:]
        if last and length is not None:
            if stft.frames(length) > self._frames:
                raise ValueError(f"{length} samples need {stft.frames(length)} frames; only {self._frames} came")
            samples = samples[:, : length - self._samples]
        self._samples += samples.shape[-1]
        return samples


def _tensorflow_hann(length: int) -> np.ndarray:
    """``tf.signal.hann_window(length, periodic=True)``: periodic for even lengths only; float32 ``[length]``."""
    if length == 1:
        return np.ones(1, np.float32)
    period = length - length % 2
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / period)).astype(np.float32)
