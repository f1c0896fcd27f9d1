"""Demucs in the time domain, third generation: a U-Net of strided convolutions on waveforms.

Défossez: "Hybrid Spectrogram and Waveform Source Separation", ISMIR 2021 MDX workshop, and before it Défossez, Usunier,
Bottou, Bach: "Music Source Separation in the Waveform Domain", 2019; layer by layer as ``demucs.demucs.Demucs`` of
facebookresearch/demucs 4.
"""

import paddle
from paddle import nn

from models import card
from models.demucs_blocks import BLSTM, GELU, GLU, Conv1d, ConvTranspose1d, DConv, rescale_module, torch_init_
from models.demucs_config import DemucsConfig
from models.demucs_resample import downsample2, upsample2
from models.layers import GroupNorm, total


def center_trim(x: paddle.Tensor, length: int) -> paddle.Tensor:
    """The middle ``length`` places of the last axis; an odd one more is left out at the end.

    Raises:
        ValueError: there are fewer
    """
    surplus = x.shape[-1] - length
    if surplus < 0:
        raise ValueError(f"{x.shape[-1]} places cannot be trimmed to {length}")
    return card.cut(x, x.ndim - 1, surplus // 2, surplus // 2 + length) if surplus else x


def loudness(mix: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Mean and deviation of the mono version of ``[B, C, N]``, each ``[B, 1, 1]``; the deviation of one sample is 0."""
    mono, samples = mix.mean(axis=1, keepdim=True), mix.shape[2]
    mean = total(mono) * (1 / samples)
    away = mono - mean
    return mean, paddle.sqrt(total(away * away) * (1 / max(samples - 1, 1)))


class Demucs(nn.Layer):
    """Stems out of a mixture: ``[B, C, N] -> [B, S, C, N]`` waveforms, for any N of at least 1.

    Layers have the names and the order of the original, so its weights load by name.

    Args:
        config: see :class:`models.demucs_config.DemucsConfig`
        name: registry name
    """

    # before there were norms, a level had one layer less: weights of the second generation are numbered so
    former_names = ((r"((?:en|de)coder\.\d+)\.2\.(weight|bias)", r"\1.3.\2"),)

    def __init__(self, config: DemucsConfig, name: str = "demucs"):
        super().__init__()
        self.config, self.description = config, config.describe(name)
        encoder, decoder = [], []
        inputs = config.audio_channels
        for level, width in enumerate(config.widths()):
            encoder.append(nn.Sequential(*_encoder_level(config, level, inputs, width)))
            decoder.append(nn.Sequential(*_decoder_level(config, level, inputs, width)))
            inputs = width
        self.encoder, self.decoder = nn.LayerList(encoder), nn.LayerList(reversed(decoder))
        self.lstm = BLSTM(inputs, config.lstm_layers) if config.lstm_layers else None
        torch_init_(self, config.seed)
        if config.rescale:
            rescale_module(self, config.rescale)

    def valid_length(self, length: int) -> int:
        """The least number of samples, at least ``length``, that the strides divide without a rest."""
        config = self.config
        size = 2 * length if config.resample else length
        for _ in range(config.depth):
            size = max(-(-(size - config.kernel_size) // config.stride) + 1, 1)
        for _ in range(config.depth):
            size = (size - 1) * config.stride + config.kernel_size
        return -(-size // 2) if config.resample else size

    def forward(self, mix: paddle.Tensor) -> paddle.Tensor:
        config, length = self.config, mix.shape[2]
        x = mix
        if config.normalize:
            mean, deviation = loudness(mix)
            x = (x - mean) / (deviation + 1e-5)
        missing = self.valid_length(length) - length
        x = card.pad(x, missing // 2, missing - missing // 2)
        if config.resample:
            x = upsample2(x)
        skips = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
        if self.lstm is not None:
            x = self.lstm(x)
        for level in self.decoder:
            x = level(x + center_trim(skips.pop(), x.shape[2]))
        if config.resample:
            x = downsample2(x)
        x = center_trim(x, length)
        if config.normalize:
            x = x * deviation + mean
        return x.reshape([0, len(config.sources), config.audio_channels, length])


def _encoder_level(config: DemucsConfig, level: int, inputs: int, width: int) -> list[nn.Layer]:
    layers = [
        Conv1d(inputs, width, config.kernel_size, config.stride),
        _norm(config, level, width),
        _activation(config),
    ]
    if config.dconv_mode & 1:
        layers.append(_branches(config, level, width))
    if config.rewrite:
        gated = 2 * width if config.glu else width
        layers += [Conv1d(width, gated, 1), _norm(config, level, gated), GLU(1) if config.glu else nn.ReLU()]
    return layers


def _decoder_level(config: DemucsConfig, level: int, outputs: int, width: int) -> list[nn.Layer]:
    layers: list[nn.Layer] = []
    if config.rewrite:
        gated, taps = 2 * width if config.glu else width, 2 * config.context + 1
        layers.append(Conv1d(width, gated, taps, padding=config.context))
        layers += [_norm(config, level, gated), GLU(1) if config.glu else nn.ReLU()]
    if config.dconv_mode & 2:
        layers.append(_branches(config, level, width))
    if level == 0:  # the stems themselves
        outputs = len(config.sources) * config.audio_channels
        return [*layers, ConvTranspose1d(width, outputs, config.kernel_size, config.stride)]
    up = ConvTranspose1d(width, outputs, config.kernel_size, config.stride)
    return [*layers, up, _norm(config, level, outputs), _activation(config)]


def _norm(config: DemucsConfig, level: int, channels: int) -> nn.Layer:
    """Group normalisation, or a place holder that keeps the numbers of the layers after it."""
    return GroupNorm(config.norm_groups, channels) if level >= config.norm_starts else nn.Identity()


def _activation(config: DemucsConfig) -> nn.Layer:
    return GELU() if config.gelu else nn.ReLU()


def _branches(config: DemucsConfig, level: int, width: int) -> DConv:
    return DConv(
        width,
        compress=config.dconv_comp,
        depth=config.dconv_depth,
        init=config.dconv_init,
        attn=level >= config.dconv_attn,
        lstm=level >= config.dconv_lstm,
    )
