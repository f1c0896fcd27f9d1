"""Hybrid Demucs: two U-Nets, over the spectrogram and over the waveform, that meet at the bottom.

Défossez: "Hybrid Spectrogram and Waveform Source Separation", ISMIR 2021 MDX workshop; layer by layer as in
facebookresearch/demucs 4 and, under its names, as in torchaudio 2.
"""

import paddle

from models.demucs_blocks import torch_init_
from models.hdemucs_config import HDemucsConfig, TorchHDemucsConfig
from models.hdemucs_network import HybridNetwork


class HDemucs(HybridNetwork):
    """Waveforms of every source: ``[B, C, N] -> [B, S, C, N]``, any length.

    Args:
        config: see :class:`models.hdemucs_config.HDemucsConfig`
        name: registry name
    """

    def __init__(self, config: HDemucsConfig | TorchHDemucsConfig, name: str = "hdemucs"):
        super().__init__()
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

    LISTS = ("freq_encoder", "freq_decoder", "time_encoder", "time_decoder")
    TORCHAUDIO = True

    def unused_parameters(self) -> list[paddle.Tensor]:
        """The norm of the layer in which the waveform's branch joins the spectrogram's."""
        return [parameter for layer in self.time_encoder if layer.empty for parameter in layer.norm1.parameters()]
