"""Options of the time-domain Demucs networks and their published variants. Does not import paddle."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from numbers import Integral, Rational, Real
from typing import Any, ClassVar

from models.description import Description
from runtime.errors import UserError

STEMS = ("drums", "bass", "other", "vocals")

Segment = int | float | str


def exact_segment(value: Any) -> Segment:
    """A length in seconds as it is kept in options: whole numbers and decimals as such, fractions as ``"39/5"``.

    Args:
        value: a number, a ``Fraction``, or text that is one of them

    Raises:
        UserError: no positive length
    """
    kept: Any = value
    if isinstance(value, str):
        try:
            kept = Fraction(value) if "/" in value else float(value)
        except (ValueError, ZeroDivisionError) as failure:
            raise UserError(f"segment={value!r} is no length in seconds") from failure
    if isinstance(kept, bool) or not isinstance(kept, Real) or not 0 < kept < float("inf"):
        raise UserError(f"segment={value!r} must be a positive length in seconds")
    if isinstance(kept, Rational):  # integers are rational, too
        return int(kept) if kept.denominator == 1 else f"{kept.numerator}/{kept.denominator}"
    return int(kept) if float(kept).is_integer() else float(kept)


def segment_samples(segment: Segment, samplerate: int) -> int:
    """The length of a segment at a sample rate, rounded down as the original does."""
    return int((Fraction(segment) if isinstance(segment, str) else segment) * samplerate)


# --------------------------------------------------------------------------------------------------------------- checks


def check_names(sources: Any) -> tuple[str, ...]:
    """The stems of a network, checked.

    Raises:
        UserError: no list of different names
    """
    if not isinstance(sources, list | tuple) or not sources or not all(isinstance(name, str) for name in sources):
        raise UserError(f"sources must be a list of stem names, got {sources!r}")
    for name in sources:
        if not name.strip() or set(name) & set("/\\"):
            raise UserError(f"sources: {name!r} cannot be the name of a file")
    if len(set(sources)) != len(sources):
        raise UserError(f"sources names a stem twice: {', '.join(sources)}")
    return tuple(sources)


def check_whole(config: Any, least: int, *keys: str) -> None:
    """Options that must be whole numbers of at least ``least``.

    Raises:
        UserError: names the first that is not
    """
    for key in keys:
        value = getattr(config, key)
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise UserError(f"{key}={value!r} must be at least {least} and whole")


def check_real(config: Any, accepts: Callable[[Real], bool], what: str, *keys: str) -> None:
    """Options that must be numbers of a range, which ``what`` describes.

    Raises:
        UserError: names the first that is not
    """
    for key in keys:
        value = getattr(config, key)
        if not isinstance(value, Real) or isinstance(value, bool) or not accepts(value):
            raise UserError(f"{key}={value!r} must be {what}")


def check_flags(config: Any, *keys: str) -> None:
    """Options that must be true or false.

    Raises:
        UserError: names the first that is neither
    """
    for key in keys:
        if not isinstance(getattr(config, key), bool):
            raise UserError(f"{key}={getattr(config, key)!r} must be true or false")


# -------------------------------------------------------------------------------------------------------------- options


@dataclass(frozen=True)
class WaveformConfig:
    """What all networks have that take waveforms and give waveforms.

    Attributes:
        sources: stems in the order of the source axis
        audio_channels: channels of the mixture and of each stem
        samplerate: Hz
        segment: natural length of an input, seconds
        seed: of the initial weights, which depend on nothing else
    """

    sources: tuple[str, ...] = STEMS
    audio_channels: int = 2
    samplerate: int = 44100
    segment: Segment = 40
    seed: int = 42

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", check_names(self.sources))
        object.__setattr__(self, "segment", exact_segment(self.segment))
        check_whole(self, 1, "audio_channels", "samplerate")
        check_whole(self, 0, "seed")
        if segment_samples(self.segment, self.samplerate) < 1:
            raise UserError(f"segment={self.segment} is less than a sample")

    def describe(self, name: str) -> Description:
        """The network's description under a registry name."""
        return Description(
            name=name,
            sources=self.sources,
            sample_rate=self.samplerate,
            channels=self.audio_channels,
            eats="waveform",
            segment=segment_samples(self.segment, self.samplerate),
            context=0,
            config=asdict(self),
        )


@dataclass(frozen=True)
class _LevelsConfig(WaveformConfig):
    """Options that the generations of Demucs share: levels of strided convolutions with a growing width.

    Attributes:
        channels: after the first convolution
        growth: each level has so many times the channels of the one before
        depth: number of levels
        rewrite: a 1×1 convolution at the end of each encoder level, one with context at the start of each decoder level
        lstm_layers: of the LSTM at the deepest level; 0 for none
        kernel_size, stride: of the convolution that leads to the next level
        context: how far the decoder's first convolution sees; see the class
        glu: gated linear units after these convolutions, or else ReLU on half as many channels
        rescale: what the deviation of the convolutions' initial weights is brought closer to; 0 leaves it
    """

    channels: int = 64
    growth: float = 2.0
    depth: int = 6
    rewrite: bool = True
    lstm_layers: int = 0
    kernel_size: int = 8
    stride: int = 4
    context: int = 1
    glu: bool = True
    rescale: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self, 1, "channels", "depth", "kernel_size", "stride")
        check_whole(self, 0, "lstm_layers", "context")
        check_flags(self, "rewrite", "glu")
        check_real(self, lambda value: 0 < value < float("inf"), "above 0", "growth")
        check_real(self, lambda value: 0 <= value < float("inf"), "at least 0", "rescale")
        if min(self.widths()) < 1:
            raise UserError(f"growth={self.growth} leaves no channels on some of the {self.depth} levels")

    def widths(self) -> list[int]:
        """Channels of each level."""
        widths = [self.channels]
        while len(widths) < self.depth:
            widths.append(int(self.growth * widths[-1]))
        return widths


@dataclass(frozen=True)
class DemucsConfig(_LevelsConfig):
    """Arguments of :class:`models.demucs.Demucs`, checked.

    Attributes:
        context: the decoder's first convolution has ``2·context + 1`` taps and keeps the length
        gelu: GELU after the strided convolutions, or else ReLU
        norm_starts: first level with group normalisation
        norm_groups: its number of groups
        dconv_mode: residual branches in the encoder (1), the decoder (2), both (3) or nowhere (0)
        dconv_depth: number of them on a level; negative for as many without dilation
        dconv_comp: they work on so many times fewer channels
        dconv_attn, dconv_lstm: first level whose branches have local attention, and an LSTM
        dconv_init: first value of the factors at their end
        normalize: divide the mixture by the deviation of its mono version, and multiply the stems by it
        resample: work at twice the sample rate
    """

    # options that change what weights of the same shape mean
    meaning: ClassVar[tuple[str, ...]] = (
        "samplerate",
        "stride",
        "gelu",
        "norm_groups",
        "dconv_depth",
        "normalize",
        "resample",
    )

    gelu: bool = True
    norm_starts: int = 4
    norm_groups: int = 4
    dconv_mode: int = 1
    dconv_depth: int = 2
    dconv_comp: float = 4
    dconv_attn: int = 4
    dconv_lstm: int = 4
    dconv_init: float = 1e-4
    normalize: bool = True
    resample: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flags(self, "gelu", "normalize", "resample")
        check_whole(self, 1, "norm_groups")
        check_whole(self, 0, "norm_starts", "dconv_attn", "dconv_lstm", "dconv_mode")
        check_whole(self, -16, "dconv_depth")
        check_real(self, lambda value: 0 < value < float("inf"), "above 0", "dconv_comp")
        check_real(self, lambda value: abs(value) < float("inf"), "finite", "dconv_init")
        if self.dconv_mode > 3:
            raise UserError(f"dconv_mode={self.dconv_mode!r} must be 0, 1, 2 or 3")
        for level, width in enumerate(self.widths()):
            if level >= self.norm_starts and width % self.norm_groups:
                raise UserError(f"the {width} channels of level {level} cannot be divided by norm_groups")
            check_branches(self, level, width)


def check_branches(config: Any, level: int, width: int) -> None:
    """Whether a level's residual branches (``dconv_…``) can be built on ``width`` channels.

    Raises:
        UserError: no channels are left in a branch, or they cannot be shared out to the four heads of the attention
    """
    if not config.dconv_mode or not config.dconv_depth:
        return
    hidden = int(width / config.dconv_comp)
    if hidden < 1:
        raise UserError(f"dconv_comp={config.dconv_comp} leaves none of the {width} channels of level {level}")
    if level >= config.dconv_attn and hidden % 4:
        raise UserError(
            f"dconv_comp={config.dconv_comp} leaves {hidden} of the {width} channels of level {level}, "
            "which four heads of attention cannot share"
        )


@dataclass(frozen=True)
class DemucsV1Config(_LevelsConfig):
    """Arguments of :class:`models.demucs_classic.DemucsV1`, checked.

    Attributes:
        context: taps of the decoder's first convolution, which shortens the signal by ``context - 1``
        upsample: decimation and straight lines between samples instead of strides, as Wave-U-Net has them
    """

    meaning: ClassVar[tuple[str, ...]] = ("samplerate", "stride")

    lstm_layers: int = 2
    context: int = 3
    upsample: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self, 1, "context")
        check_flags(self, "upsample")


@dataclass(frozen=True)
class DemucsV2Config(_LevelsConfig):
    """Arguments of :class:`models.demucs_classic.DemucsV2`, checked.

    Attributes:
        context: taps of the decoder's first convolution, which shortens the signal by ``context - 1``
        resample: work at twice the sample rate
        normalize: divide the mixture by the deviation of its mono version, and multiply the stems by it
    """

    meaning: ClassVar[tuple[str, ...]] = ("samplerate", "stride", "resample", "normalize")

    lstm_layers: int = 2
    context: int = 3
    resample: bool = True
    normalize: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self, 1, "context")
        check_flags(self, "resample", "normalize")


DEMUCS: dict[str, dict[str, Any]] = {"demucs": {}}
DEMUCS_V1: dict[str, dict[str, Any]] = {"demucs_v1": {}}
DEMUCS_V2: dict[str, dict[str, Any]] = {"demucs_v2": {}}


def from_classic(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Options out of the constructor arguments of the first two generations, Conv-TasNet included.

    They count stems (``sources=4``, ``C=4``) where later ones name them, and segments in samples
    (``segment_length``). The first Conv-TasNet, which has ``C``, is mono unless it says otherwise.
    """
    options = dict(arguments)
    if "C" in options:
        options["sources"] = options.pop("C")
        options.setdefault("audio_channels", 1)
    count = options.get("sources")
    if isinstance(count, int):
        options["sources"] = STEMS if count == len(STEMS) else tuple(f"source{k + 1}" for k in range(count))
    if "segment_length" in options:
        options["segment"] = Fraction(options.pop("segment_length"), options.get("samplerate", 44100))
    return options
