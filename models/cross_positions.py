"""Where a token is, as waves: the positional embeddings of the cross-transformer, float32 arrays.

Phases are rounded to float32 as in the original before their sine is taken: thousands of steps from the start that
decides the last digits of the result.
"""

import functools
import math

import numpy as np


@functools.lru_cache(maxsize=16)
def waves(steps: int, dim: int, shift: int = 0, period: float = 10000.0) -> np.ndarray:
    """``[steps, dim]``: cosines of dim / 2 wavelengths up to 2π·period, then their sines (Vaswani et al. 2017).

    Args:
        steps: number of tokens
        dim: even
        shift: position of the first token
        period: ratio of the longest to the shortest wavelength
    """
    return _at(np.arange(shift, shift + steps, dtype=np.float32)[:, None], dim, period)


def _at(position: np.ndarray, dim: int, period: float) -> np.ndarray:
    """``[..., 1]`` to ``[..., dim]``."""
    half = dim // 2
    exponent = np.arange(half, dtype=np.float32) / np.float32(max(half - 1, 1))
    wavelength = np.power(period, exponent.astype(np.float64)).astype(np.float32)
    phase = (position / wavelength).astype(np.float64)
    return np.concatenate([np.cos(phase), np.sin(phase)], axis=-1).astype(np.float32)


@functools.lru_cache(maxsize=16)
def plane_waves(height: int, width: int, dim: int, period: float = 10000.0) -> np.ndarray:
    """``[width·height, dim]``, columns one after the other: half of the channels tell the column, half the row.

    In both halves sines stand in the even channels and cosines in the odd ones; ``dim`` is a multiple of 4.
    """
    half = dim // 2
    rate = np.arange(0, half, 2, dtype=np.float32) * np.float32(-math.log(period) / half)
    rate = np.exp(rate.astype(np.float64)).astype(np.float32)
    plane = np.empty((width, height, dim), np.float32)
    for channel, along in ((0, np.arange(width)[:, None, None]), (half, np.arange(height)[None, :, None])):
        phase = (along.astype(np.float32) * rate).astype(np.float64)
        plane[..., channel : channel + half : 2] = np.sin(phase)
        plane[..., channel + 1 : channel + half : 2] = np.cos(phase)
    return plane.reshape(width * height, dim)


def cape(
    steps: int,
    dim: int,
    batch: int,
    period: float = 10000.0,
    centred: bool = True,
    disorder: tuple[float, float, float] | None = None,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """``[batch, steps, dim]``: waves at positions that training makes uncertain (Likhomanenko et al. 2021).

    Args:
        steps, dim, period: as in :func:`waves`
        batch: each example gets its own disorder
        centred: the middle of the steps has position 0
        disorder: largest common shift, largest shift of a single step, and largest ratio by which positions are spread
            or squeezed; None when a trained network is used
        rng: draws the disorder
    """
    position = np.arange(steps, dtype=np.float32) - np.float32((steps - 1) / 2 if centred else 0)
    position = np.repeat(position[None, :, None], batch, axis=0)
    if disorder is not None:
        together, alone, ratio = disorder
        position = position + rng.uniform(-together, together, (batch, 1, 1))
        position = position + rng.uniform(-alone, alone, (batch, steps, 1))
        position = position * np.exp(rng.uniform(-math.log(ratio), math.log(ratio), (batch, 1, 1)))
    return _at(position, dim, period)
