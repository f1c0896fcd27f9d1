"""Mel spectrograms in numpy: librosa's filter bank, and the logarithmic front end of the pitch networks."""

from __future__ import annotations

import functools
import math

import numpy as np
import scipy.fft

from dsp.framing import frame_blocks, frame_view, periodic_hann

_FLOOR = 1e-5  # of the magnitudes whose logarithm is taken


@functools.lru_cache(maxsize=16)
def mel_filters(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> np.ndarray:
    """Triangles ``[n_mels, n_fft // 2 + 1]`` float32, as ``librosa.filters.mel(htk=True)`` has them; read-only.

    Their corners are evenly spaced on HTK's mel scale, their areas the same in Hz (Slaney's normalisation).

    Args:
        sample_rate: Hz
        n_fft: length of the Fourier transform, samples
        n_mels: number of triangles
        f_min: lower end of the first one, Hz
        f_max: upper end of the last one, Hz
    """
    low, high = (2595.0 * math.log10(1.0 + frequency / 700.0) for frequency in (f_min, f_max))
    corners = 700.0 * (10.0 ** (np.linspace(low, high, n_mels + 2) / 2595.0) - 1.0)  # Hz
    widths, bins = np.diff(corners), np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    distance = corners[:, None] - bins
    rising, falling = -distance[:-2] / widths[:-1, None], distance[2:] / widths[1:, None]
    filters = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    filters *= (2.0 / (corners[2:] - corners[:-2]))[:, None]
    filters.setflags(write=False)
    return filters


class LogMel:
    """Natural logarithm of mel-weighted magnitudes, as yxlllc/RMVPE computes them: ``[..., N] -> [..., n_mels, T]``.

    Frame t is centred on sample t·hop, where the signal is mirrored at its ends, to and fro if it is short; so
    ``T = N // hop + 1``. Without ``center`` frame t begins at sample t·hop and only complete frames count.

    Args:
        sample_rate: Hz
        n_mels: mel bands
        window: length of a frame and of its Fourier transform, samples
        hop_length: samples from one frame to the next
        f_min: lower end of the first band, Hz
        f_max: upper end of the last band, Hz
        center: see above
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_mels: int = 128,
        window: int = 1024,
        hop_length: int = 160,
        f_min: float = 30.0,
        f_max: float = 8000.0,
        center: bool = True,
    ):
        if hop_length < 1:
            raise ValueError(f"hop_length must be positive, not {hop_length}")
        self.window, self.hop_length, self.center = window, hop_length, center
        self.filters = mel_filters(sample_rate, window, n_mels, float(f_min), float(f_max))

    def frames(self, samples: int) -> int:
        """Frames of a signal of so many samples."""
        if self.center:
            return samples // self.hop_length + 1
        return max(0, (samples - self.window) // self.hop_length + 1)

    def __call__(self, audio: np.ndarray, keyshift: float = 0.0, speed: float = 1.0) -> np.ndarray:
        """Log-mel spectrogram, float32.

        Args:
            audio: ``[..., N]`` float32
            keyshift: semitones that the voice seems to be higher: frames are as many times longer, and the bands that
                they have too many are left out
            speed: factor of the hop: the song seems to be so many times faster

        Raises:
            ValueError: there is no sample, without ``center`` no frame, or ``speed`` leaves no hop
        """
        size = int(np.round(self.window * 2.0 ** (keyshift / 12)))
        hop = int(np.round(self.hop_length * speed))
        if hop < 1:
            raise ValueError(f"speed={speed} leaves nothing of the hop of {self.hop_length} samples")
        signal = np.asarray(audio, np.float32)
        if signal.shape[-1] < (1 if self.center else size):
            raise ValueError(f"{signal.shape[-1]} samples are too few for a frame")
        if self.center:
            signal = np.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(size // 2, size // 2)], "reflect")
        frames, window = frame_view(signal, size, hop), periodic_hann(size)
        rows = frames.shape[:-2]
        mel = np.empty((*rows, len(self.filters), frames.shape[-2]), np.float32)
        scale = np.float32(self.window / size)
        bins = min(size, self.window) // 2 + 1
        filters = self.filters[:, :bins]  # a higher voice has more bins than these, a lower one less
        for piece in frame_blocks(frames.shape[-2], math.prod(rows), size):
            spectrum = scipy.fft.rfft(frames[..., piece, :] * window)
            magnitude = np.abs(spectrum[..., :bins]) * scale  # [..., T, bins]
            mel[..., piece] = np.matmul(filters, np.swapaxes(magnitude, -1, -2))
        return np.log(np.maximum(mel, _FLOOR, out=mel), out=mel)
