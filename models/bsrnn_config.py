"""Options of BandSplitRNN, its schemes of bands and its variants. Does not import paddle."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from models.demucs_config import check_flags, check_names, check_whole
from models.description import Description
from runtime.errors import UserError
from runtime.nearest import did_you_mean

Splits = tuple[tuple[int, int], ...]

# (end, step), Hz: bands of one step each up to the end; what is left above the last end is one band more. V1 to V7 are
# the splits that the paper compares, the others those that it takes for these instruments.
SCHEMES: dict[str, Splits] = {
    "V1": ((22000, 1000),),
    "V2": ((16000, 1000), (20000, 2000)),
    "V3": ((8000, 1000), (16000, 2000), (20000, 4000)),
    "V4": ((1000, 100), (8000, 1000), (16000, 2000), (20000, 4000)),
    "V5": ((1000, 100), (16000, 1000), (20000, 2000)),
    "V6": ((1000, 100), (4000, 500), (8000, 1000), (16000, 2000), (20000, 4000)),
    "V7": ((1000, 100), (4000, 250), (8000, 500), (16000, 1000), (20000, 2000)),
    "bass": ((500, 50), (1000, 100), (4000, 500), (8000, 1000), (16000, 2000)),
    "drums": ((1000, 50), (2000, 100), (4000, 250), (8000, 500), (16000, 1000)),
}

# Samples from one chunk to the next in one chunk: the original separates 134144 every 23894
_HOP, _SEGMENT = 23894, 134144


def band_widths(splits: Splits, sr: int, n_fft: int) -> list[int]:
    """Bins in each band, from the lowest: a band ends before the first bin that is not below its edge.

    Frequencies are rounded as the original's are, in float32, and the highest is half the sample rate, rounded down.

    Raises:
        UserError: a band without a bin
    """
    count = n_fft // 2 + 1
    frequencies = np.arange(count, dtype=np.float32) * np.float32(1 / n_fft) * np.float32(sr)
    frequencies[-1] = sr // 2
    edges, start = [], 0
    for end, step in splits:
        edges += range(start + step, end + step, step)
        start = end
    ends = [0, *(int((frequencies < np.float32(edge)).sum()) for edge in edges), count]
    widths = [last - first for first, last in itertools.pairwise(ends)]
    for width, edge in zip(widths, [*edges, sr // 2], strict=True):
        if width < 1:
            raise UserError(f"bandsplits: the band that ends at {edge} Hz has no bin of n_fft={n_fft}")
    return widths


def _splits(value: Any) -> str | Splits:
    """A scheme's name where it has one, and else its pairs."""
    if isinstance(value, str):
        if value not in SCHEMES:
            raise UserError(f"there is no scheme of bands called {value!r}; {did_you_mean(value, list(SCHEMES))}")
        return value
    pairs = tuple(tuple(pair) if isinstance(pair, Sequence) else (pair,) for pair in value or ())
    whole = [number for pair in pairs for number in pair if isinstance(number, int) and number > 0]
    if not pairs or any(len(pair) != 2 for pair in pairs) or len(whole) != 2 * len(pairs):
        raise UserError(f"bandsplits={value!r} must be the name of a scheme or a list of pairs (end, step) in whole Hz")
    return next((name for name, scheme in SCHEMES.items() if scheme == pairs), pairs)


@dataclass(frozen=True)
class BSRNNConfig:
    """Arguments of :class:`models.bsrnn.BandSplitRNN`, checked. Named as in amanteur/BandSplitRNN-Pytorch.

    Attributes:
        target: the stem that the network separates, its one source
        sr: sample rate, Hz
        n_fft, hop_length: of the short-time Fourier transform, samples
        bandsplits: name of a scheme of bands (V1 to V7, bass, drums), or pairs (end, step) in Hz
        complex_as_channel: work on real and imaginary parts, or else on magnitudes with the phase of the mixture
        is_mono: one audio channel, or else two
        bottleneck_layer: ``rnn``, or ``att``: attention before each recurrent layer, an LSTM of both directions
        rnn_type, bidirectional: of the recurrent layers, ``LSTM`` or ``GRU``
        t_timesteps: frames of every input, for which the normalisations have a factor each; None: any number of frames
        fc_dim: features of a band
        rnn_dim: state of a recurrent layer in one direction
        num_layers: pairs of recurrent layers, over time and over the bands
        mlp_dim: hidden features where the mask is made
        return_mask: what :meth:`models.bsrnn.BandSplitRNN.raw` gives is the mask; separation is the same
        seed: of the initial weights, which depend on nothing else
        segment_samples: natural length of an input, unless ``t_timesteps`` says it
    """

    # options that change what weights of the same shape mean
    meaning: ClassVar[tuple[str, ...]] = (
        "target",
        "sr",
        "n_fft",
        "hop_length",
        "bandsplits",
        "complex_as_channel",
        "is_mono",
    )

    target: str = "vocals"
    sr: int = 44100
    n_fft: int = 2048
    hop_length: int = 512
    bandsplits: str | Splits = "V7"
    complex_as_channel: bool = True
    is_mono: bool = False
    bottleneck_layer: str = "rnn"
    rnn_type: str = "LSTM"
    bidirectional: bool = True
    t_timesteps: int | None = None
    fc_dim: int = 128
    rnn_dim: int = 256
    num_layers: int = 12
    mlp_dim: int = 512
    return_mask: bool = False
    seed: int = 42
    segment_samples: int = _SEGMENT

    def __post_init__(self) -> None:
        check_names([self.target])
        object.__setattr__(self, "bandsplits", _splits(self.bandsplits))
        check_flags(self, "complex_as_channel", "is_mono", "bidirectional", "return_mask")
        check_whole(self, 1, "sr", "hop_length", "fc_dim", "rnn_dim", "num_layers", "mlp_dim", "segment_samples")
        check_whole(self, 0, "seed")
        check_whole(self, 2, "n_fft", *(["t_timesteps"] if self.t_timesteps is not None else []))
        if self.n_fft % 2 or self.hop_length > self.n_fft // 2:
            raise UserError(f"n_fft={self.n_fft} must be even and at least twice hop_length={self.hop_length}")
        if self.segment <= self.n_fft // 2:
            raise UserError(f"{self.segment} samples of a segment are too few to be reflected by n_fft={self.n_fft}")
        for key, known in (("bottleneck_layer", ("rnn", "att")), ("rnn_type", ("LSTM", "GRU"))):
            if getattr(self, key) not in known:
                raise UserError(f"{key}={getattr(self, key)!r} is not one of {', '.join(known)}")
        if self.bottleneck_layer == "att" and self.fc_dim % 4:
            raise UserError(f"fc_dim={self.fc_dim} cannot be shared out to the four heads of bottleneck_layer=att")
        self.widths()

    @property
    def channels(self) -> int:
        """Audio channels."""
        return 1 if self.is_mono else 2

    @property
    def planes(self) -> int:
        """Numbers in a bin of a frame: for each audio channel one, or real and imaginary part."""
        return self.channels * (2 if self.complex_as_channel else 1)

    @property
    def segment(self) -> int:
        """Natural length of an input, samples."""
        return self.segment_samples if self.t_timesteps is None else (self.t_timesteps - 1) * self.hop_length

    def widths(self) -> list[int]:
        """Bins in each band, see :func:`band_widths`."""
        splits = SCHEMES[self.bandsplits] if isinstance(self.bandsplits, str) else self.bandsplits
        return band_widths(splits, self.sr, self.n_fft)

    def describe(self, name: str) -> Description:
        """The network's description under a registry name."""
        return Description(
            name=name,
            sources=(self.target,),
            sample_rate=self.sr,
            channels=self.channels,
            eats="waveform",
            segment=self.segment,
            context=0,
            config=asdict(self),
            fixed_length=self.t_timesteps is not None,
            hop=max(round(self.segment * _HOP / _SEGMENT), 1),
        )


BSRNN: dict[str, dict[str, Any]] = {
    "bsrnn_vocals": {"target": "vocals", "bandsplits": "V7"},
    "bsrnn_other": {"target": "other", "bandsplits": "V7"},
    "bsrnn_bass": {"target": "bass", "bandsplits": "bass"},
    "bsrnn_drums": {"target": "drums", "bandsplits": "drums"},
}
