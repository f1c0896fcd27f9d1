"""Options of Conv-TasNet and its published variant. Does not import paddle."""

from dataclasses import dataclass
from typing import Any, ClassVar

from models.demucs_config import Segment, WaveformConfig, check_flags, check_whole
from runtime.errors import UserError

_CHOICES = {"norm_type": ("gLN", "cLN", "BN", "id"), "mask_nonlinear": ("relu", "softmax")}


@dataclass(frozen=True)
class TasNetConfig(WaveformConfig):
    """Arguments of :class:`models.tasnet.ConvTasNet`, checked; one letter each, as in the paper and the original.

    Attributes:
        N: filters of the encoder and the decoder
        L: their length, samples; they are half as far apart
        B: channels between the blocks
        H: channels inside a block
        P: taps of a block's convolution; odd unless ``causal``
        X: blocks in each repeat, with dilation 1, 2, 4, …
        R: repeats
        norm_type: over channels and time (``gLN``), over channels (``cLN``), of the batch (``BN``) or none (``id``)
        causal: blocks see nothing of the future
        mask_nonlinear: ``relu``, or ``softmax`` over the stems
    """

    # options that change what weights of the same shape mean
    meaning: ClassVar[tuple[str, ...]] = ("samplerate", "norm_type", "causal", "mask_nonlinear")

    segment: Segment = 8
    N: int = 256
    L: int = 20
    B: int = 256
    H: int = 512
    P: int = 3
    X: int = 8
    R: int = 4
    norm_type: str = "gLN"
    causal: bool = False
    mask_nonlinear: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self, 1, "N", "B", "H", "P", "X", "R")
        check_whole(self, 2, "L")
        check_flags(self, "causal")
        for key, allowed in _CHOICES.items():
            if getattr(self, key) not in allowed:
                raise UserError(f"{key}={getattr(self, key)!r} is not one of {', '.join(allowed)}")
        if not self.causal and self.P % 2 == 0:
            raise UserError(f"P={self.P} must be odd unless causal is true: a block keeps the length of its input")


TASNET: dict[str, dict[str, Any]] = {"tasnet": {"X": 10}}
