"""Options of the pitch networks RMVPE and their published variants. Does not import paddle."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from models.demucs_config import check_real, check_whole
from models.description import Description
from runtime.errors import UserError

PITCHES = 360  # classes of the output, 20 cents apart; see dsp.salience
HIDDEN = 256  # state of the recurrent layer in each direction
_FRAMES = 128  # of the excerpts that the originals train on
_CONTEXT = 2 * _FRAMES  # see RMVPEConfig.describe
_TIMBRE_FILTERS = ("idle", "used", "none")


@dataclass(frozen=True)
class RMVPEConfig:
    """Arguments of :class:`models.rmvpe.RMVPE`, checked; the first seven are those of the originals.

    Attributes:
        n_blocks: residual blocks of a level
        n_gru: recurrent layers; 0 for none
        kernel_size: by what a level of the encoder divides (frames, mel bands), and one of the decoder multiplies;
            ``(2, 2)`` or ``(1, 2)``
        en_de_layers: levels of the encoder and the decoder
        inter_layers: levels between them
        in_channels: of the picture that a spectrogram is; there is no other than 1
        en_out_channels: channels of the first level; each level doubles them
        timbre_filter: the blocks that E2E has between encoder and decoder and E2E0 leaves aside: ``used``; ``idle``,
            with tensors that compute nothing, as in the weights of E2E0; or ``none``
        dropout: share of the logits that training forces to zero
        sample_rate: Hz
        n_mels: mel bands
        window: samples of a frame and of its Fourier transform
        hop_length: samples from one frame to the next
        f_min, f_max: lower end of the first band and upper end of the last, Hz
        seed: of the initial weights, which depend on nothing else
    """

    # options that change what weights of the same shape mean; the hop is the user's choice
    meaning: ClassVar[tuple[str, ...]] = ("timbre_filter", "sample_rate", "window", "f_min", "f_max")

    n_blocks: int = 4
    n_gru: int = 1
    kernel_size: tuple[int, int] = (2, 2)
    en_de_layers: int = 5
    inter_layers: int = 4
    in_channels: int = 1
    en_out_channels: int = 16
    timbre_filter: str = "idle"
    dropout: float = 0.25
    sample_rate: int = 16000
    n_mels: int = 128
    window: int = 1024
    hop_length: int = 160
    f_min: float = 30
    f_max: float = 8000
    seed: int = 42

    def __post_init__(self) -> None:
        whole = "n_blocks", "en_de_layers", "inter_layers", "en_out_channels", "sample_rate", "n_mels", "hop_length"
        check_whole(self, 1, *whole)
        check_whole(self, 2, "window")
        check_whole(self, 0, "n_gru", "seed")
        check_real(self, lambda value: 0 <= value < 1, "at least 0 and below 1", "dropout")
        check_real(self, lambda value: 0 <= value < self.f_max, f"at least 0 and below f_max={self.f_max}", "f_min")
        half = self.sample_rate / 2
        check_real(self, lambda value: 0 < value <= half, f"above 0 and at most {half:g} Hz", "f_max")
        if not isinstance(self.kernel_size, list | tuple) or tuple(self.kernel_size) not in ((2, 2), (1, 2)):
            raise UserError(f"kernel_size={self.kernel_size!r} must be (2, 2) or (1, 2)")
        object.__setattr__(self, "kernel_size", tuple(self.kernel_size))
        if isinstance(self.in_channels, bool) or self.in_channels != 1:
            raise UserError(f"in_channels={self.in_channels!r} must be 1: a spectrogram is one picture")
        if self.n_mels % 2**self.en_de_layers:
            raise UserError(
                f"n_mels={self.n_mels} must be a multiple of {2**self.en_de_layers}, "
                f"because each of the {self.en_de_layers} levels (en_de_layers) halves it"
            )
        if self.timbre_filter not in _TIMBRE_FILTERS:
            raise UserError(f"timbre_filter={self.timbre_filter!r} is not one of {', '.join(_TIMBRE_FILTERS)}")

    @property
    def step(self) -> int:
        """The network itself takes multiples of so many frames."""
        return self.kernel_size[0] ** self.en_de_layers

    def describe(self, name: str) -> Description:
        """The network's description under a registry name.

        ``segment`` are the 128 frames of the excerpts that the originals train on; what is farther from a frame than
        that, a network cannot have learnt to listen to. ``context`` is twice as much, since the recurrent layer and
        the levels hear everything: with PyTorch's initial weights 64 frames already leave 4e-6 of the logits open, 128
        frames nothing but rounding. Chunks begin on multiples of ``step`` frames, so that the levels see the same.
        """
        return Description(
            name=name,
            sources=("pitch",),
            sample_rate=self.sample_rate,
            channels=1,
            eats="mel",
            segment=_FRAMES * self.hop_length,
            context=_CONTEXT * self.hop_length,
            config=asdict(self),
        )


_PAPER = {"n_mels": 256, "window": 2048, "hop_length": 320}
RMVPE: dict[str, dict[str, Any]] = {
    "rmvpe": {},
    "rmvpe_e2e": {"timbre_filter": "used"},
    "rmvpe_paper_e2e0": _PAPER,
    "rmvpe_paper_e2e": {**_PAPER, "timbre_filter": "used"},
}
