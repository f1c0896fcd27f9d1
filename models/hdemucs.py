"""Hybrid Demucs: two U-Nets, over the spectrogram and over the waveform, that meet at the bottom.

Défossez: "Hybrid Spectrogram and Waveform Source Separation", ISMIR 2021 MDX workshop; layer by layer as in
facebookresearch/demucs 4 and, under its names, as in torchaudio 2.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import paddle
from paddle import nn

from models.demucs_blocks import torch_init_
from models.hdemucs_config import HDemucsConfig, TorchHDemucsConfig
from models.hdemucs_network import HybridNetwork


class HDemucs(HybridNetwork):
    """Waveforms of every source: ``[B, C, N] -> [B, S, C, N]``, any length.

    Args:
        sources: stems in the order of the source axis
        options: see :class:`models.hdemucs_config.HDemucsConfig`

    Raises:
        UserError: an option out of range
    """

    CONFIG: ClassVar[type] = HDemucsConfig

    def __init__(self, sources: Sequence[str], **options: Any):
        super().__init__()
        self._build(self.CONFIG(tuple(sources), **options), type(self).__name__.lower())

    @classmethod
    def from_config(cls, config: Any, name: str = "hdemucs") -> "HDemucs":
        """Builds from checked options, under a registry name."""
        model = cls.__new__(cls)
        nn.Layer.__init__(model)
        model._build(config, name)
        return model

    def _build(self, config: Any, name: str) -> None:
        self._build_branches(config, name)
        torch_init_(self, config.seed)
        self._rescale()

    def valid_length(self, samples: int) -> int:
        """Any length is right."""
        return samples

    def unused_parameters(self) -> list[paddle.Tensor]:
        """Parameters that no gradient ever reaches; data parallelism wants them frozen."""
        return []

    def forward(self, mix: paddle.Tensor) -> paddle.Tensor:
        return self._separate(mix)


class TorchHDemucs(HDemucs):
    """Hybrid Demucs as torchaudio has it: other names, fewer options, and norms that nothing uses."""

    CONFIG = TorchHDemucsConfig
    LISTS = ("freq_encoder", "freq_decoder", "time_encoder", "time_decoder")
    TORCHAUDIO = True

    def unused_parameters(self) -> list[paddle.Tensor]:
        """The norm of the layer in which the waveform's branch joins the spectrogram's."""
        return [parameter for layer in self.time_encoder if layer.empty for parameter in layer.norm1.parameters()]
