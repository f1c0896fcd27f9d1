"""Options of the Spleeter network and its published variants (deezer/spleeter). Does not import paddle."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any, ClassVar

from models.description import Description
from runtime.errors import UserError

LEVELS = 6  # every level halves time and frequency
ACTIVATIONS = ("LeakyReLU", "ReLU", "ELU")
_CHOICES = {
    "conv_activation": ACTIVATIONS,
    "deconv_activation": ACTIVATIONS,
    "output": ("sigmoid", "softmax"),
    "batch_norm": ("fixed", "batch"),
}


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least


@dataclass(frozen=True)
class SpleeterConfig:
    """Arguments of :class:`models.spleeter.Spleeter`, checked.

    Attributes:
        instruments: stems in the order of the source axis; one U-Net each
        sample_rate: Hz; together with the STFT sizes it only describes the input, the network has no use for it
        channels: audio channels of the input magnitudes
        mask_channels: channels of the predicted masks, ``channels`` unless given
        frame_length, frame_step: STFT window and hop, samples
        segment_frames: natural number of frames of one input (T), a multiple of 64
        frequency_bins: lowest STFT bins that the network sees (F), a multiple of 64
        filters: output channels of the six encoder convolutions
        conv_activation, deconv_activation: LeakyReLU (slope 0.2), ReLU or ELU
        output: ``sigmoid`` masks each instrument by itself, ``softmax`` shares every bin among them
        batch_norm: ``fixed`` keeps the statistics of the checkpoint (0 and 1 from scratch) also while training, as the
            original does; ``batch`` is ordinary batch normalisation, momentum 0.99
        dropout: probability after the first three decoder levels while training; the original's never acts
        seed: of the initial weights, which depend on nothing else
    """

    # options that change what weights of the same shape mean
    meaning: ClassVar[tuple[str, ...]] = (
        "sample_rate",
        "frame_length",
        "frame_step",
        "conv_activation",
        "deconv_activation",
        "output",
    )

    instruments: tuple[str, ...]
    sample_rate: int = 44100
    channels: int = 2
    mask_channels: int | None = None
    frame_length: int = 4096
    frame_step: int = 1024
    segment_frames: int = 512
    frequency_bins: int = 1024
    filters: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    conv_activation: str = "LeakyReLU"
    deconv_activation: str = "ReLU"
    output: str = "sigmoid"
    batch_norm: str = "fixed"
    dropout: float = 0.0
    seed: int = 50

    def __post_init__(self) -> None:
        if self.mask_channels is None:
            object.__setattr__(self, "mask_channels", self.channels)
        self._check_instruments()
        self._check_numbers()
        for key, allowed in _CHOICES.items():
            if getattr(self, key) not in allowed:
                raise UserError(f"{key}={getattr(self, key)!r} is not one of {', '.join(allowed)}")
        if self.frequency_bins > self.frame_length // 2 + 1:
            raise UserError(
                f"frequency_bins={self.frequency_bins} is more than the {self.frame_length // 2 + 1} bins "
                f"of frame_length={self.frame_length}"
            )
        if self.frame_step > self.frame_length:
            raise UserError(f"frame_step={self.frame_step} is more than frame_length={self.frame_length}")

    def _check_instruments(self) -> None:
        names = self.instruments
        if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
            raise UserError(f"instruments must be a list of stem names, got {names!r}")
        for name in names:
            if not name.strip() or set(name) & set("/\\"):
                raise UserError(f"instruments: {name!r} cannot be the name of a file")
        if len(set(names)) != len(names):
            raise UserError(f"instruments names a stem twice: {', '.join(names)}")
        object.__setattr__(self, "instruments", tuple(names))

    def _check_numbers(self) -> None:
        for key in ("sample_rate", "channels", "mask_channels", "frame_length", "frame_step"):
            if not _is_whole(getattr(self, key), 1):
                raise UserError(f"{key}={getattr(self, key)!r} must be at least 1 and whole")
        for key in ("segment_frames", "frequency_bins"):
            value = getattr(self, key)
            if not _is_whole(value, 1) or value % 2**LEVELS:
                raise UserError(
                    f"{key}={value!r} must be a multiple of {2**LEVELS}: the network halves it {LEVELS} times"
                )
        filters = self.filters
        if not isinstance(filters, list | tuple) or len(filters) != LEVELS or not all(_is_whole(n, 1) for n in filters):
            raise UserError(f"filters needs {LEVELS} positive numbers, got {filters!r}; they must be whole")
        object.__setattr__(self, "filters", tuple(filters))
        if not isinstance(self.dropout, float | int) or not 0.0 <= self.dropout < 1.0:
            raise UserError(f"dropout={self.dropout!r} must be at least 0 and below 1")
        if not _is_whole(self.seed, 0):
            raise UserError(f"seed={self.seed!r} must be at least 0 and whole")

    def describe(self, name: str = "spleeter") -> Description:
        """The network's description under a registry name."""
        return Description(
            name=name,
            sources=self.instruments,
            sample_rate=self.sample_rate,
            channels=self.channels,
            eats="magnitude",
            segment=self.segment_frames * self.frame_step,
            context=0,  # segments of the original neither overlap nor fade; the STFT overlap hides the seams
            config=asdict(self),
        )


def _variants() -> dict[str, dict[str, Any]]:
    elu = {"conv_activation": "ELU", "deconv_activation": "ELU"}
    base = {
        "2stems": {"instruments": ("vocals", "accompaniment")},
        "4stems": {"instruments": ("vocals", "drums", "bass", "other"), **elu},
        "5stems": {"instruments": ("vocals", "piano", "drums", "bass", "other"), "output": "softmax", **elu},
    }
    wide = {f"{name}_16khz": {**options, "frequency_bins": 1536} for name, options in base.items()}
    return {f"spleeter_{name}": options for name, options in {**base, **wide, "musdb": base["4stems"]}.items()}


VARIANTS: dict[str, dict[str, Any]] = _variants()
_OUTPUTS = {"unet.unet": "sigmoid", "unet.softmax_unet": "softmax"}


def from_official(params: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments out of an official parameter file (a parsed JSON such as ``2stems.json``).

    Raises:
        UserError: no list of instruments, or a model type that is not a U-Net (the ``blstm`` of the original has no
            published weights)
    """
    if "instrument_list" not in params:
        raise UserError("these are no parameters of Spleeter: there is no instrument_list")
    model = params.get("model", {})
    kind = model.get("type", "unet.unet")
    if kind not in _OUTPUTS:
        raise UserError(f"model.type={kind!r} is not supported, only {', '.join(_OUTPUTS)}")
    options = model.get("params") or {}
    conv, deconv = options.get("conv_activation"), options.get("deconv_activation")
    channels = params.get("n_channels", 2)
    return {
        "instruments": tuple(params["instrument_list"]),
        "sample_rate": params.get("sample_rate", 44100),
        "channels": channels,
        "mask_channels": 2,  # the last convolution of the original has two filters, whatever the input
        "frame_length": params.get("frame_length", 4096),
        "frame_step": params.get("frame_step", 1024),
        "segment_frames": params.get("T", 512),
        "frequency_bins": params.get("F", 1024),
        "filters": tuple(options.get("conv_n_filters", SpleeterConfig.filters))[:LEVELS],  # more are ignored there, too
        # any other spelling falls back to the default in the original, too
        "conv_activation": conv if conv in ("ReLU", "ELU") else "LeakyReLU",
        "deconv_activation": deconv if deconv in ("LeakyReLU", "ELU") else "ReLU",
        "output": _OUTPUTS[kind],
    }
