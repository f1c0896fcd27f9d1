"""Options of the hybrid networks, and the published Hybrid Demucs. Does not import paddle."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from models.demucs_config import (
    STEMS,
    Segment,
    check_branches,
    check_flags,
    check_names,
    check_real,
    check_whole,
    exact_segment,
    segment_samples,
)
from models.description import Description
from runtime.errors import UserError


def _finite(value: float) -> bool:
    return math.isfinite(value)


class HybridConfig:
    """What the checks of all hybrid networks have in common; mixed into their dataclasses."""

    def _check(self) -> None:
        object.__setattr__(self, "sources", check_names(self.sources))
        object.__setattr__(self, "segment", exact_segment(self.segment))
        check_whole(self, 1, "audio_channels", "channels", "depth", "kernel_size", "stride", "time_stride")
        check_whole(self, 1, "norm_groups", "samplerate")
        check_whole(self, 0, "context", "context_enc", "norm_starts", "seed")
        check_whole(self, 8, "nfft")
        check_whole(self, -16, "dconv_depth")
        check_real(self, lambda value: 0 < value < math.inf, "above 0", "growth", "emb_scale", "dconv_comp")
        check_real(self, lambda value: 0 <= value < math.inf, "at least 0", "freq_emb", "rescale")
        check_real(self, _finite, "finite", "dconv_init")
        check_flags(self, "emb_smooth")
        if self.nfft % 8:
            raise UserError(f"nfft={self.nfft} must be a multiple of 8: frames begin every quarter")
        if segment_samples(self.segment, self.samplerate) < 1:
            raise UserError(f"segment={self.segment} is less than a sample")
        for level, width in enumerate(self.widths()):
            check_branches(self, level, width)
            if level >= self.norm_starts and width % self.norm_groups:
                raise UserError(f"the {width} channels of level {level} cannot be divided by norm_groups")
        self._check_meeting()

    def _check_meeting(self) -> None:
        """Where the branches meet, the waveform's must have as many steps as the spectrogram has frames."""
        meeting = [level for level, rows in enumerate(self.frequencies()) if 1 < rows <= self.kernel_size]
        if self.hybrid and meeting and self.nfft // 4 != self.stride ** (meeting[0] + 1):
            raise UserError(
                f"nfft={self.nfft} does not go with stride={self.stride}: the branches meet in layer {meeting[0] + 1}, "
                f"where they have as many steps only with nfft={4 * self.stride ** (meeting[0] + 1)}"
            )

    def widths(self) -> list[int]:
        """Channels of the spectrogram's branch after each layer."""
        widths, other = [self.channels], self.channels_time or self.channels
        for rows in self.frequencies()[1:]:
            widths.append(int(self.growth * widths[-1]))
            other = int(self.growth * other)
            if 1 < rows <= self.kernel_size:  # where the branches meet
                widths[-1] = other = max(widths[-1], other)
        return widths

    def _check_outputs(self) -> None:
        """Options that only the originals have."""
        if self.dconv_mode not in (0, 1, 2, 3):
            raise UserError(f"dconv_mode={self.dconv_mode!r} must be 0, 1, 2 or 3")
        if self.channels_time is not None:
            check_whole(self, 1, "channels_time")
        check_whole(self, -math.inf, "wiener_iters", "end_iters")
        check_flags(self, "wiener_residual", "cac", "rewrite")
        if self.hybrid and self.wiener_iters != self.end_iters:
            raise UserError("a hybrid network needs end_iters equal to wiener_iters")
        if not self.cac and max(self.wiener_iters, self.end_iters) > 0 and self.audio_channels > 2:
            raise UserError(f"the Wiener filter is for one or two channels, not audio_channels={self.audio_channels}")

    def _check_bands(self) -> None:
        """``multi_freqs`` and what it asks of other options."""
        bands = self.multi_freqs or ()
        if not isinstance(bands, Iterable) or not all(isinstance(band, float) and 0 < band < 1 for band in bands):
            raise UserError(f"multi_freqs={bands!r} must be shares between 0 and 1 of the frequencies")
        object.__setattr__(self, "multi_freqs", tuple(bands))
        if list(bands) != sorted(set(bands)):
            raise UserError(f"multi_freqs={bands!r} must rise")
        wrapped = min(self.multi_freqs_depth, self.depth)
        if bands and self.norm_starts < wrapped:
            raise UserError(f"multi_freqs allows no norms in the first {wrapped} layers: raise norm_starts")
        if bands and (self.kernel_size != 2 * self.stride or self.stride < 2):
            raise UserError("multi_freqs needs a stride of at least 2 and a kernel_size of twice the stride")

    def frequencies(self, levels: int | None = None) -> list[int]:
        """Rows of the spectrogram that go into each layer (into so many); 1 where the layer works along time only.

        Raises:
            UserError: the rows run out before they come down to one
        """
        rows, sizes = self.nfft // 2, []
        for _ in range(levels or self.depth):
            if rows < 1:
                raise UserError(f"nfft={self.nfft} is too small for depth={self.depth}")
            sizes.append(rows)
            rows = 1 if rows <= self.kernel_size else rows // self.stride
        return sizes

    def _description(self, name: str, fixed_length: bool = False) -> Description:
        return Description(
            name=name,
            sources=self.sources,
            sample_rate=self.samplerate,
            channels=self.audio_channels,
            eats="waveform",
            segment=segment_samples(self.segment, self.samplerate),
            context=0,
            config=asdict(self),
            fixed_length=fixed_length,
        )


@dataclass(frozen=True)
class HDemucsConfig(HybridConfig):
    """Arguments of :class:`models.hdemucs.HDemucs`, checked; names and defaults of the original.

    Attributes:
        sources: stems in the order of the source axis
        audio_channels: channels of the waveform
        channels, channels_time: channels after the first layer, and those of the time branch where they differ
        growth: their factor from layer to layer
        nfft: STFT window, samples; the hop is a quarter
        wiener_iters, end_iters: without ``cac``, iterations of the Wiener filter in use and in training: 0 takes the
            phases of the mixture, a negative number the same with a softer division
        wiener_residual: the filter also models what all sources leave of the mixture
        cac: the network sees and makes complex spectrograms, or else magnitudes
        depth: layers of the encoder
        rewrite: a second convolution in every layer
        hybrid: with a branch for the waveform
        hybrid_old: spectrograms with the misplaced padding of early networks
        multi_freqs, multi_freqs_depth: the outer layers have weights of their own for each of the bands that end at
            these shares of the frequencies
        freq_emb, emb_scale, emb_smooth: weight of the embedding of the frequencies (0: none), by how much it is stored
            smaller, and whether it starts smooth
        kernel_size, stride, time_stride: of the outer layers, and the stride of those below one frequency
        context, context_enc: neighbours on each side that the second convolutions see, in decoder and encoder
        norm_starts, norm_groups: first layer with group normalisation, and its groups
        dconv_mode: residual branches in the encoder (1), the decoder (2), both (3) or none (0)
        dconv_depth, dconv_comp, dconv_init: their number, compression and first scale
        dconv_attn, dconv_lstm: first layers whose branches have attention and LSTMs
        rescale: what the deviations of the first weights are drawn to; 0: they stay
        samplerate: Hz
        segment: natural length of an input, seconds; a number or the text of a fraction
        seed: of the first weights, which depend on nothing else
    """

    # options that change what weights of the same shape mean
    meaning: ClassVar[tuple[str, ...]] = (
        "samplerate",
        "nfft",
        "wiener_iters",
        "wiener_residual",
        "hybrid_old",
        "multi_freqs",
        "freq_emb",
        "emb_scale",
        "stride",
        "time_stride",
        "norm_groups",
        "dconv_depth",
    )

    sources: tuple[str, ...] = STEMS
    audio_channels: int = 2
    channels: int = 48
    channels_time: int | None = None
    growth: float = 2
    nfft: int = 4096
    wiener_iters: int = 0
    end_iters: int = 0
    wiener_residual: bool = False
    cac: bool = True
    depth: int = 6
    rewrite: bool = True
    hybrid: bool = True
    hybrid_old: bool = False
    multi_freqs: tuple[float, ...] | None = None
    multi_freqs_depth: int = 2
    freq_emb: float = 0.2
    emb_scale: float = 10
    emb_smooth: bool = True
    kernel_size: int = 8
    time_stride: int = 2
    stride: int = 4
    context: int = 1
    context_enc: int = 0
    norm_starts: int = 4
    norm_groups: int = 4
    dconv_mode: int = 1
    dconv_depth: int = 2
    dconv_comp: float = 4
    dconv_attn: int = 4
    dconv_lstm: int = 4
    dconv_init: float = 1e-4
    rescale: float = 0.1
    samplerate: int = 44100
    segment: Segment = 40
    seed: int = 42

    def __post_init__(self) -> None:
        self._check()
        self._check_bands()
        self._check_outputs()
        check_whole(self, 0, "dconv_attn", "dconv_lstm")
        check_flags(self, "hybrid", "hybrid_old")
        if self.hybrid_old and not self.hybrid:
            raise UserError("hybrid_old=true needs hybrid=true")

    def describe(self, name: str = "hdemucs") -> Description:
        """The network's description under a registry name."""
        return self._description(name)


@dataclass(frozen=True)
class TorchHDemucsConfig(HybridConfig):
    """Arguments of :class:`models.hdemucs.TorchHDemucs`, checked: those of ``torchaudio.models.HDemucs``.

    All of them are among the attributes of :class:`HDemucsConfig`; the rest has its default values there.
    """

    meaning: ClassVar[tuple[str, ...]] = tuple(
        key
        for key in HDemucsConfig.meaning
        if key not in ("wiener_iters", "wiener_residual", "hybrid_old", "multi_freqs")
    )
    # what the class of torchaudio has no options for
    channels_time: ClassVar[None] = None
    cac: ClassVar[bool] = True
    rewrite: ClassVar[bool] = True
    hybrid: ClassVar[bool] = True
    hybrid_old: ClassVar[bool] = False
    multi_freqs: ClassVar[tuple[float, ...]] = ()
    multi_freqs_depth: ClassVar[int] = 0
    dconv_mode: ClassVar[int] = 1
    rescale: ClassVar[float] = 0.1

    sources: tuple[str, ...] = STEMS
    audio_channels: int = 2
    channels: int = 48
    growth: float = 2
    nfft: int = 4096
    depth: int = 6
    freq_emb: float = 0.2
    emb_scale: float = 10
    emb_smooth: bool = True
    kernel_size: int = 8
    time_stride: int = 2
    stride: int = 4
    context: int = 1
    context_enc: int = 0
    norm_starts: int = 4
    norm_groups: int = 4
    dconv_depth: int = 2
    dconv_comp: float = 4
    dconv_attn: int = 4
    dconv_lstm: int = 4
    dconv_init: float = 1e-4
    samplerate: int = 44100
    segment: Segment = 40
    seed: int = 42

    def __post_init__(self) -> None:
        self._check()
        check_whole(self, 0, "dconv_attn", "dconv_lstm")
        if (self.kernel_size - self.stride) % 2:
            raise UserError(f"kernel_size={self.kernel_size} and stride={self.stride} must both be even or both odd")

    def describe(self, name: str = "torch_hdemucs") -> Description:
        """The network's description under a registry name."""
        return self._description(name)


HDEMUCS: dict[str, dict[str, Any]] = {"hdemucs": {"dconv_init": 1e-3}}
TORCH_HDEMUCS: dict[str, dict[str, Any]] = {"torch_hdemucs": {}}
