"""Changes of a magnitude segment that keep it a plausible piece of music, alike for the mixture and all its stems.

All are off by default, as in the original. Stems are not given gains of their own: the magnitude of a sum of stems
cannot be had from the stems' magnitudes, because that needs their phases; the mixture would no longer be their mixture.
"""

from dataclasses import dataclass

import numpy as np

from runtime.errors import UserError


@dataclass(frozen=True)
class Change:
    """What happens to one segment: a factor, whether the channels swap, source frames per frame, frequency ratio."""

    gain: float = 1.0
    swap: bool = False
    speed: float = 1.0
    pitch: float = 1.0


@dataclass(frozen=True)
class Augment:
    """How far each change may go; 0 is off.

    Args:
        gain: level, uniform in ± ``gain`` dB
        swap_channels: probability of exchanging left and right
        time_stretch: speed, uniform in 1 ± ``time_stretch``; the original's value would be 0.1
        pitch_shift: uniform in ± ``pitch_shift`` semitones; the original's value would be 1

    Raises:
        UserError: for a negative value, a probability above 1, or a stretch of 1 and more
    """

    gain: float = 0.0
    swap_channels: float = 0.0
    time_stretch: float = 0.0
    pitch_shift: float = 0.0

    def __post_init__(self) -> None:
        for name, limit in (("gain", 60), ("swap_channels", 1), ("time_stretch", 0.5), ("pitch_shift", 12)):
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise UserError(f"data.augment.{name} is {value}; it must lie between 0 (off) and {limit}")

    def draw(self, rng: np.random.Generator) -> Change:
        """The change of one segment. Always draws four numbers, so that one option does not change another's luck."""
        gain, swap, speed, pitch = rng.random(4)
        return Change(
            gain=10 ** (self.gain * (2 * gain - 1) / 20),
            swap=swap < self.swap_channels,
            speed=1 + self.time_stretch * (2 * speed - 1),
            pitch=2 ** (self.pitch_shift * (2 * pitch - 1) / 12),
        )


def stretch(x: np.ndarray, frames: int) -> np.ndarray:
    """``[..., T, F]`` → ``[..., frames, F]`` by linear interpolation along the time axis."""
    source = x.shape[-2]
    return _interpolate(x, np.minimum(np.arange(frames) * source / frames, source - 1), axis=-2)


def shift_pitch(x: np.ndarray, ratio: float) -> np.ndarray:
    """``[..., T, F]`` with all frequencies times ``ratio``; what comes from above the last bin is silence."""
    bins = x.shape[-1]
    positions = np.arange(bins) / ratio
    moved = _interpolate(x, np.minimum(positions, bins - 1), axis=-1)
    moved[..., positions > bins - 1] = 0
    return moved


def _interpolate(x: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    below = positions.astype(np.int64)
    above = np.minimum(below + 1, x.shape[axis] - 1)
    weight = (positions - below).astype(np.float32)
    if axis == -2:
        weight = weight[:, None]
    low = np.take(x, below, axis)
    return low + weight * (np.take(x, above, axis) - low)
