"""Options of Apollo, the restoration of music that a codec has compressed, and its variants. Does not import paddle."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from models.demucs_config import Segment, check_real, check_whole, exact_segment, segment_samples
from models.description import Description
from runtime.errors import UserError

BANDS = 80
HEADS = 8
POSITIONS = 100  # places that the tables of positions know; more than there are bands
REFERENCE_RATE = 44100  # Hz, at which the discriminator sees all of a spectrum
TAPS, BLOCKS = 7, 3  # of the convolutions over time: their length, and how many there are in a layer

_FADE = 8  # frames in which one chunk passes into the next


@dataclass(frozen=True)
class ApolloConfig:
    """Arguments of :class:`models.apollo.Apollo`, checked. The first four are those of JusperLee/Apollo.

    Attributes:
        sr: sample rate, Hz
        win: length of a frame, ms; frames begin every half of it
        feature_dim: features of a band; an eighth of it, rounded down, must be even: so much has each head of attention
        layer: number of layers, each over the bands and over time
        channels: audio channels; each of them is restored by itself, so weights do not depend on it
        segment: natural length of an input, seconds; whole frames of it are taken
        seed: of the initial weights, which depend on nothing else
    """

    # options that change what weights of the same shape mean
    meaning: ClassVar[tuple[str, ...]] = ("sr", "win")

    sr: int = 44100
    win: int | float = 20
    feature_dim: int = 256
    layer: int = 6
    channels: int = 2
    segment: Segment = 10
    seed: int = 42

    def __post_init__(self) -> None:
        check_whole(self, 1, "sr", "feature_dim", "layer", "channels")
        check_whole(self, 0, "seed")
        check_real(self, lambda value: 0 < value < float("inf"), "a length in milliseconds above 0", "win")
        object.__setattr__(self, "segment", exact_segment(self.segment))
        if self.feature_dim < 2 * HEADS or self.feature_dim // HEADS % 2:
            nearest = max(round(self.feature_dim / (2 * HEADS)), 1) * 2 * HEADS
            raise UserError(
                f"feature_dim={self.feature_dim} gives each of {HEADS} heads an odd number of features; "
                f"{nearest} is the nearest multiple of {2 * HEADS}"
            )
        if self.size < 2 * BANDS:
            raise UserError(
                f"win={self.win} ms at sr={self.sr} Hz are {self.size} samples; "
                f"{BANDS} bands need at least {2 * BANDS} (win={-(-2000 * BANDS // self.sr)})"
            )
        if segment_samples(self.segment, self.sr) < self.size:
            raise UserError(f"segment={self.segment} s is less than a frame of win={self.win} ms")

    @property
    def size(self) -> int:
        """Samples of a frame."""
        return int(self.sr * self.win // 1000)

    @property
    def stride(self) -> int:
        """Samples from one frame to the next."""
        return self.size // 2

    @property
    def reach(self) -> int:
        """Samples away from which nothing has an effect any more: that many whole frames."""
        return (BLOCKS * (TAPS // 2) * self.layer + 2) * self.stride

    def widths(self) -> list[int]:
        """Bins in each of the bands, from the lowest: all the same, but for the last, which takes what is left."""
        width = self.size // (2 * BANDS)
        return [width] * (BANDS - 1) + [self.size // 2 + 1 - width * (BANDS - 1)]

    def describe(self, name: str) -> Description:
        """The network's description under a registry name.

        Chunks that lie whole frames apart are in their inner part what they are in the whole song, if what is cut off
        at each end is no shorter than :attr:`reach`; where the segment is too short for that, it is a quarter of it.
        """
        frames = segment_samples(self.segment, self.sr) // self.stride
        margin = self.reach // self.stride
        if frames < 2 * margin + 2 * _FADE:
            margin = frames // 4
        fade = min(_FADE, (frames - 2 * margin) // 2)
        return Description(
            name=name,
            sources=("restored",),
            sample_rate=self.sr,
            channels=self.channels,
            eats="waveform",
            segment=frames * self.stride,
            context=margin * self.stride,
            config=asdict(self),
            hop=(frames - 2 * margin - fade) * self.stride,
        )


APOLLO: dict[str, dict[str, Any]] = {"apollo": {}, "apollo_384": {"feature_dim": 384}}


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Arguments of :class:`models.apollo_discriminator.MultiFrequencyDiscriminator`, checked; the original's names.

    Attributes:
        nch: audio channels
        window: samples of a frame at each resolution; frames begin every half of it
        seed: of the initial weights, which depend on nothing else
    """

    # options that change what weights of the same shape mean
    meaning: ClassVar[tuple[str, ...]] = ("window",)

    nch: int = 2
    window: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048)
    seed: int = 42

    def __post_init__(self) -> None:
        check_whole(self, 1, "nch")
        check_whole(self, 0, "seed")
        sizes = self.window if isinstance(self.window, Sequence) and not isinstance(self.window, str) else ()
        if not sizes or not all(isinstance(size, int) and size >= 2 for size in sizes):
            raise UserError(f"window={self.window!r} must be a list of frame lengths in samples, each at least 2")
        object.__setattr__(self, "window", tuple(sizes))

    def describe(self, name: str) -> Description:
        """The discriminator's description; its one source is the verdict."""
        return Description(
            name=name,
            sources=("verdict",),
            sample_rate=REFERENCE_RATE,
            channels=self.nch,
            eats="waveform",
            segment=max(self.window),
            context=0,
            config=asdict(self),
        )
