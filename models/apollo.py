"""Apollo: music that a codec has compressed, restored band by band.

Li, Luo: "Apollo: Band-sequence Modeling for High-Quality Audio Restoration", ICASSP 2025; layer by layer as in
JusperLee/Apollo, so that its weights load by name.
"""

from dataclasses import replace

import paddle
from paddle import nn

from models import card
from models.apollo_blocks import BandJoin, BandSequence, BandSplit
from models.apollo_config import ApolloConfig
from models.demucs_layers import torch_init_
from models.description import Description
from models.spectrum import STFT


class Apollo(nn.Layer):
    """The music as it was before the codec: waveforms ``[B, C, N] -> [B, 1, C, N]``; N and C may be any.

    Channels do not know of each other. What is estimated is the spectrum itself, not a mask for that of the input. The
    last frame is centred on a multiple of half its length, and what comes long after it is divided by the foot of its
    window, as in the original: give whole frames (:meth:`valid_length`) where the last samples matter.

    Args:
        config: see :class:`models.apollo_config.ApolloConfig`
        name: registry name
    """

    def __init__(self, config: ApolloConfig, name: str = "apollo"):
        super().__init__()
        self.config, self.description = config, config.describe(name)
        self.stft = STFT(config.size, config.stride)
        widths = config.widths()
        self.BN = BandSplit(widths, config.feature_dim)
        self.net = nn.Sequential(*(BandSequence(config.feature_dim) for _ in range(config.layer)))
        self.output = BandJoin(widths, config.feature_dim)
        torch_init_(self, config.seed)

    @property
    def unit(self) -> int:
        """Samples from frame to frame: inputs of whole frames are restored to their last sample."""
        return self.config.stride

    def described(self, segment: float) -> Description:
        """What its description would be for inputs of ``segment`` seconds."""
        return replace(self.config, segment=segment).describe(self.description.name)

    def valid_length(self, length: int) -> int:
        """The next number of samples from ``length`` that is whole frames."""
        stride = self.config.stride
        return max(-(-length // stride), 2) * stride

    def features(self, mix: paddle.Tensor) -> paddle.Tensor:
        """What goes into the layers, ``[B, C, N] -> [B·C, T, K, N']``."""
        spectrum = self.stft.forward(mix)  # [B, C, 2, F, T]
        return self.BN(spectrum.flatten(0, 1))

    def forward(self, mix: paddle.Tensor) -> paddle.Tensor:
        batch, channels, length = mix.shape
        missing = self.config.size // 2 + 1 - length  # to what can be reflected
        x = card.pad(mix, 0, missing) if missing > 0 else mix
        spectrum = self.output(self.net(self.features(x)))  # [B·C, 2, F, T]
        y = self.stft.inverse(spectrum, x.shape[2])
        y = card.cut(y, 1, 0, length) if missing > 0 else y
        return y.reshape([batch, 1, channels, length])
