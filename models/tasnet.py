"""Conv-TasNet for several channels: learned filters, masks from dilated convolutions, learned filters back.

Luo, Mesgarani: "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech Separation", 2019; layer by
layer as ``demucs.tasnet.ConvTasNet`` of facebookresearch/demucs 2.
"""

import math
import zlib

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from models import card
from models.demucs_layers import Conv1d
from models.tasnet_config import TasNetConfig

_EPSILON = 1e-8


class ConvTasNet(nn.Layer):
    """Stems out of a mixture: ``[B, C, N] -> [B, S, C, N]`` waveforms.

    What the last whole filter does not reach is silent. Layers have the names and the order of the original, so its
    weights load by name.

    Args:
        config: see :class:`models.tasnet_config.TasNetConfig`
        name: registry name
    """

    def __init__(self, config: TasNetConfig, name: str = "tasnet"):
        super().__init__()
        self.config, self.description = config, config.describe(name)
        self.encoder = _Encoder(config)
        self.separator = _Separator(config)
        self.decoder = _Decoder(config)
        _xavier_normal_(self, config.seed)

    def valid_length(self, length: int) -> int:
        """Any length is good: ``length``."""
        return length

    def forward(self, mix: paddle.Tensor) -> paddle.Tensor:
        config, length = self.config, mix.shape[2]
        if length < config.L:
            raise ValueError(f"Conv-TasNet needs at least {config.L} samples, got {length}")
        filtered = self.encoder(mix)  # [B, N, K]
        stems = self.decoder(filtered.unsqueeze(1) * self.separator(filtered))  # [B·S, C, N']
        stems = card.pad(stems, 0, length - stems.shape[2])
        return stems.reshape([-1, len(config.sources), config.audio_channels, length])


class _Encoder(nn.Layer):
    """``[B, C, N] -> [B, filters, K]``, none below zero."""

    def __init__(self, config: TasNetConfig):
        super().__init__()
        self.conv1d_U = Conv1d(config.audio_channels, config.N, config.L, config.L // 2, bias=False)

    def forward(self, mix: paddle.Tensor) -> paddle.Tensor:
        return F.relu(self.conv1d_U(mix))


class _Decoder(nn.Layer):
    """``[B, S, filters, K] -> [B·S, C, N]``: a filter of L samples at each place, added up where they overlap."""

    def __init__(self, config: TasNetConfig):
        super().__init__()
        self.length = config.L
        self.basis_signals = nn.Linear(config.N, config.audio_channels * config.L, bias_attr=False)

    def forward(self, masked: paddle.Tensor) -> paddle.Tensor:
        weight = self.basis_signals.weight
        filters = weight.reshape([weight.shape[0], -1, self.length])
        # a linear layer and an overlapping sum are a transposed convolution
        return card.conv1d_transpose(masked.flatten(0, 1), filters, None, self.length // 2)


class _Separator(nn.Layer):
    """``[B, filters, K] -> [B, S, filters, K]``: masks."""

    def __init__(self, config: TasNetConfig):
        super().__init__()
        self.config = config
        repeats = [nn.Sequential(*(_Block(config, 2**x) for x in range(config.X))) for _ in range(config.R)]
        self.network = nn.Sequential(
            _ChannelNorm(config.N),
            Conv1d(config.N, config.B, 1, bias=False),
            nn.Sequential(*repeats),
            Conv1d(config.B, len(config.sources) * config.N, 1, bias=False),
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        score = self.network(x).reshape([0, len(self.config.sources), self.config.N, x.shape[2]])
        return F.relu(score) if self.config.mask_nonlinear == "relu" else F.softmax(score, axis=1)


class _Block(nn.Layer):
    """A residual of a 1×1 convolution, a convolution over time channel by channel, and a 1×1 convolution back."""

    def __init__(self, config: TasNetConfig, dilation: int):
        super().__init__()
        widen = Conv1d(config.B, config.H, 1, bias=False)
        self.net = nn.Sequential(widen, _PReLU(), _norm(config), _Separable(config, dilation))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x + self.net(x)


class _Separable(nn.Layer):
    """``[B, H, K] -> [B, B', K]``; the convolution over time sees both sides, or only the past."""

    def __init__(self, config: TasNetConfig, dilation: int):
        super().__init__()
        past = (config.P - 1) * dilation
        layers = [_Depthwise(config.H, config.P, [past, 0] if config.causal else [past // 2] * 2, dilation)]
        if config.causal:
            layers.append(nn.Identity())  # the original cuts off the future here, which has its own number
        self.net = nn.Sequential(*layers, _PReLU(), _norm(config), Conv1d(config.H, config.B, 1, bias=False))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.net(x)


class _Depthwise(Conv1d):
    """A filter for each channel, with its own padding ``[before, after]``."""

    def __init__(self, channels: int, taps: int, ends: list[int], dilation: int):
        super().__init__(channels, channels, taps, dilation=dilation, groups=channels, bias=False)
        self.ends = ends

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return card.conv1d(x, self.weight, None, 1, self.ends, self.dilation, self.groups)


class _PReLU(nn.Layer):
    """x above zero, a learned share of it below; any shape. Paddle's layer has another name for the share."""

    def __init__(self):
        super().__init__()
        self.weight = self.create_parameter([1], default_initializer=nn.initializer.Constant(0.25))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if card.holds(x):  # which has no kernel for the gradient of the operator
            return F.relu(x) - self.weight * F.relu(-x)
        return F.prelu(x, self.weight)


# ------------------------------------------------------------------------------------------------------- normalisation


class _Affine(nn.Layer):
    """A factor and a summand for each channel, ``[1, C, 1]`` as in the original."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = self.create_parameter([1, channels, 1], default_initializer=nn.initializer.Constant(1.0))
        self.beta = self.create_parameter([1, channels, 1], default_initializer=nn.initializer.Constant(0.0))


class _GlobalNorm(_Affine):
    """Mean 0 and variance 1 over channels and time of ``[B, C, K]``."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if card.holds(x):
            return card.group_norm(x, 1, self.gamma.flatten(), self.beta.flatten(), _EPSILON)
        # Paddle's operator is quicker, but what it rounds adds up over the blocks to five times as much
        share = paddle.full([x.shape[2], 1], 1 / x.shape[2], x.dtype)  # a product adds up in many lanes
        away = x - paddle.matmul(x, share).mean(axis=1, keepdim=True)
        variance = paddle.matmul(away * away, share).mean(axis=1, keepdim=True)
        return away * (self.gamma * paddle.rsqrt(variance + _EPSILON)) + self.beta


class _ChannelNorm(_Affine):
    """Mean 0 and variance 1 over the channels at each time of ``[B, C, K]``."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        away = x - x.mean(axis=1, keepdim=True)
        deviation = paddle.sqrt((away * away).mean(axis=1, keepdim=True) + _EPSILON)
        return self.gamma * (away / deviation) + self.beta


def _norm(config: TasNetConfig) -> nn.Layer:
    if config.norm_type == "BN":
        return nn.BatchNorm1D(config.H, momentum=0.9)  # the share that is kept; PyTorch names the other one, 0.1
    return {"gLN": _GlobalNorm, "cLN": _ChannelNorm, "id": lambda channels: nn.Identity()}[config.norm_type](config.H)


def _xavier_normal_(model: nn.Layer, seed: int) -> None:
    """Fills all but vectors with a normal distribution of the variance 2 / (fan-in + fan-out).

    Also the factors and summands of the norms, as in the original, because they are ``[1, channels, 1]``.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            inputs, outputs, *taps = parameter.shape  # or the other way round, which makes no difference
            deviation = (2.0 / ((inputs + outputs) * math.prod(taps))) ** 0.5
            generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
            values = generator.standard_normal(parameter.shape, dtype=np.float32)
            parameter.set_value(values * np.float32(deviation))
