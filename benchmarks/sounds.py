"""What the measured networks hear."""

import numpy as np

RATE = 44100  # Hz


def music(seconds: float, rate: int = RATE, channels: int = 2) -> np.ndarray:
    """Deterministic noise with the slope of music, ``[1, channels, N]`` float32."""
    rng = np.random.default_rng(0)
    count = int(seconds * rate)
    spectrum = np.fft.rfft(rng.standard_normal((channels, count)))
    spectrum /= np.sqrt(1 + np.arange(spectrum.shape[1]) / 200)
    wave = np.fft.irfft(spectrum, count)
    return (wave / np.abs(wave).max()).astype(np.float32)[None]
