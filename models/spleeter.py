"""Spleeter's U-Nets: one independent network per instrument, magnitudes in, magnitudes out.

Hennequin, Khlif, Voituret, Moussallam: "Spleeter: a fast and efficient music source separation tool with pre-trained
models", JOSS 5(50), 2020; layer by layer as in deezer/spleeter 2.4.
"""

import functools

import paddle
import paddle.nn.functional as F
from paddle import nn

from models.layers import BatchNorm, SameConv2D, SameConv2DTranspose, activation, he_uniform_
from models.spleeter_config import LEVELS, SpleeterConfig


class UNet(nn.Layer):
    """The network of one instrument: ``[B, C, T, F] -> [B, K, T, F]`` before the output non-linearity.

    Layers are numbered in the order of the original's variables: ``conv1..6``, ``norm1..12``, ``up1..6``, ``mask``.
    """

    def __init__(self, config: SpleeterConfig):
        super().__init__()
        fixed = config.batch_norm == "fixed"
        down = [config.channels, *config.filters]
        up = [*reversed(config.filters[:-1]), 1]
        for k in range(LEVELS):
            self.add_sublayer(f"conv{k + 1}", SameConv2D(down[k], down[k + 1], 5, stride=2))
            # norm6 is never applied: the original computes it and drops the result, but its checkpoints hold it
            self.add_sublayer(f"norm{k + 1}", BatchNorm(down[k + 1], fixed))
        for k in range(LEVELS):
            inputs = config.filters[-1] if k == 0 else 2 * up[k - 1]
            self.add_sublayer(f"up{k + 1}", SameConv2DTranspose(inputs, up[k], 5, stride=2))
            self.add_sublayer(f"norm{LEVELS + k + 1}", BatchNorm(up[k], fixed))
        self.mask = SameConv2D(1, config.mask_channels, 4, dilation=2)
        self.conv_act = activation(config.conv_activation)
        self.deconv_act = activation(config.deconv_activation)
        self.dropout = config.dropout

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        skips = []
        for k in range(1, LEVELS + 1):
            x = self._level("conv", k)(x)  # [B, filters[k-1], T/2^k, F/2^k]
            skips.append(x)  # skips are taken before normalisation and activation
            if k < LEVELS:
                x = self.conv_act(self._level("norm", k)(x))
        skips.pop()  # the bottleneck goes up as it is
        for k in range(1, LEVELS + 1):
            x = self.deconv_act(self._level("up", k)(x))  # [B, ., T/2^(6-k), F/2^(6-k)]
            x = self._level("norm", LEVELS + k)(x)
            if k <= 3 and self.dropout:
                x = F.dropout(x, self.dropout, training=self.training)
            if skips:
                x = paddle.concat([skips.pop(), x], axis=1)
        return self.mask(x)

    def _level(self, kind: str, number: int) -> nn.Layer:
        return getattr(self, f"{kind}{number}")


class Spleeter(nn.Layer):
    """Predicted magnitudes of every instrument: ``[B, C, T, F] -> [B, S, K, T, F]``.

    T and F are multiples of 64; K is ``mask_channels``, normally C. Inputs are plain STFT magnitudes, not normalised.
    Outputs are masks times the input, before any ratio mask among the instruments.

    Args:
        config: see :class:`models.spleeter_config.SpleeterConfig`
        name: registry name
    """

    def __init__(self, config: SpleeterConfig, name: str = "spleeter"):
        super().__init__()
        self.config = config
        self.description = config.describe(name)
        self.nets = nn.LayerDict({instrument: UNet(config) for instrument in config.instruments})
        he_uniform_(self, config.seed)

    def unused_parameters(self) -> list[paddle.Tensor]:
        """Parameters that no gradient ever reaches (``norm6``); data parallelism wants them frozen."""
        return [parameter for net in self.nets.values() for parameter in getattr(net, f"norm{LEVELS}").parameters()]

    def forward(self, magnitude: paddle.Tensor) -> paddle.Tensor:
        logits = [net(magnitude) for net in self.nets.values()]  # each [B, K, T, F]
        # operators on equal shapes: broadcasting and softmax over the source axis are several times slower on the CPU;
        # with the new axis before the product an exported program joins whole planes instead of pairs of channels
        planes, mixture = [each.unsqueeze(1) for each in logits], magnitude.unsqueeze(1)
        if self.config.output == "sigmoid":
            return paddle.concat([F.sigmoid(each) * mixture for each in planes], axis=1)
        # any shift leaves the shares as they are, so no gradient needs to flow through it
        highest = functools.reduce(paddle.maximum, [each.detach() for each in planes])
        weights = [paddle.exp(each - highest) for each in planes]
        scale = mixture / functools.reduce(paddle.add, weights)
        return paddle.concat([each * scale for each in weights], axis=1)
