"""Changes of a training segment that let a pitch network hear other keys, backings, noises and levels.

This follows the data set class of yxlllc/RMVPE. A higher key costs no resampling: a longer analysis window makes finer
frequency bins, of which the lowest ones are taken for those of the usual window.
"""

from dataclasses import dataclass

import numpy as np

from runtime.errors import UserError

WINDOW = 1024  # samples of the usual analysis window
QUIET = 1e-5  # added to a peak before its logarithm is taken


@dataclass(frozen=True)
class PitchChange:
    """What happens to one segment.

    Args:
        key_shift: semitones that the voice seems to be higher, by a longer analysis window
        mix: factor of the accompaniment, where there is one
        exponent, level: of the noise otherwise; its power falls as 1 / f^exponent, `level` is its deviation
        volume: where between the least and the greatest volume, from 0 to 1
    """

    key_shift: float
    mix: float
    exponent: float
    level: float
    volume: float

    @property
    def window(self) -> int:
        """Samples of the analysis window."""
        return round(WINDOW * 2 ** (self.key_shift / 12))

    @property
    def ratio(self) -> float:
        """What all frequencies seem to be multiplied with: the window has whole samples."""
        return self.window / WINDOW


@dataclass(frozen=True)
class PitchAugment:
    """How far each change may go; the defaults are the original's.

    Args:
        key_shift: upwards by 0 to so many semitones
        accompaniment: the backing is added with a factor between plus and minus this
        noise_exponent: colour of the noise that a voice without backing gets, from 0 (white) to this (2: brown)
        noise_level: decimal logarithms of the least and the greatest deviation of that noise
        volume: decimal logarithms of the least and the greatest gain; the peak is kept at or below 1 in any case

    Raises:
        UserError: a negative extent, or a range whose end is below its beginning
    """

    key_shift: float = 5.0
    accompaniment: float = 1.0
    noise_exponent: float = 2.0
    noise_level: tuple[float, float] = (-6.0, -1.0)
    volume: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("key_shift", "accompaniment", "noise_exponent"):
            if getattr(self, name) < 0:
                raise UserError(f"augment.{name} is {getattr(self, name)}; it must be at least 0 (off)")
        for name in ("noise_level", "volume"):
            low, high = getattr(self, name)
            if high < low:
                raise UserError(f"augment.{name} goes from {low} to {high}; its end must not be below its beginning")
        if self.key_shift > 12:
            raise UserError(
                f"augment.key_shift is {self.key_shift}; more than an octave (12) leaves too little to hear"
            )

    def draw(self, rng: np.random.Generator) -> PitchChange:
        """The change of one segment. Always draws five numbers, so that one option does not change another's luck."""
        key, mix, exponent, level, volume = rng.random(5)
        low, high = self.noise_level
        return PitchChange(
            key_shift=self.key_shift * key,
            mix=self.accompaniment * (2 * mix - 1),
            exponent=self.noise_exponent * exponent,
            level=10 ** (low + (high - low) * level),
            volume=volume,
        )

    def gain(self, change: PitchChange, peak: float) -> float:
        """Factor for a segment with this peak: uniform in decibels, but never louder than full scale.

        A segment that is louder than ten times full scale gets the least volume at most, as in the original.
        """
        low, high = self.volume
        high = min(high, -np.log10(peak + QUIET))
        return float(10 ** (low + (high - low) * change.volume))


ORIGINAL = PitchAugment()


def coloured_noise(rng: np.random.Generator, exponent: float, samples: int) -> np.ndarray:
    """Gaussian noise float32 `[samples]` of deviation 1 whose power spectrum falls as 1 / f^exponent.

    Drawn in the frequency domain (Timmer and König, 1995, "On generating power law noise"); its mean is free, as the
    lowest frequency stands for all below it.
    """
    if samples < 2:
        return rng.standard_normal(samples, dtype=np.float32)
    frequency = np.fft.rfftfreq(samples)
    frequency[0] = frequency[1]
    amplitude = frequency ** (-exponent / 2)
    parts = rng.standard_normal((2, len(frequency)))
    parts[1, 0] = 0  # the mean and, of an even number of samples, the highest frequency have no phase
    parts[0, 0] *= np.sqrt(2)
    counted = amplitude[1:].copy()
    if samples % 2 == 0:
        parts[1, -1] = 0
        parts[0, -1] *= np.sqrt(2)
    counted[-1] *= (1 + samples % 2) / 2  # the highest frequency of an even number counts once, all others twice
    deviation = 2 * np.sqrt(np.sum(counted**2)) / samples
    return (np.fft.irfft(amplitude * (parts[0] + 1j * parts[1]), n=samples) / deviation).astype(np.float32)
