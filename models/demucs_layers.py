"""Layers of the Demucs family: PyTorch's convolutions, activations and initial weights.

Weights have PyTorch's names and layouts. Convolutions are computed by oneDNN in eager mode on the CPU
(:mod:`models.onednn`); on an SDAA card every layer keeps to the card's own kernels (:mod:`models.card`).
"""

import math
import zlib
from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from models import card, onednn, onednn_pointwise

_ZERO = nn.initializer.Constant(0.0)


class _Convolution(nn.Layer):
    """What convolutions have in common: a weight and perhaps a bias, zero until :func:`torch_init_` fills them."""

    def __init__(self, shape: Sequence[int], outputs: int, bias: bool):
        super().__init__()
        self.weight = self.create_parameter(list(shape), default_initializer=_ZERO)
        self.bias = self.create_parameter([outputs], is_bias=True, default_initializer=_ZERO) if bias else None


class Conv1d(_Convolution):
    """``[B, C, N] -> [B, K, N']`` with weight ``[K, C / groups, kernel]`` and bias ``[K]``; zeros on both sides."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__([outputs, inputs // groups, kernel], outputs, bias)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.groups == 1 and onednn.usable(x):
            ends, steps, dilation = (0, 0, self.padding, self.padding), (1, self.stride), (1, self.dilation)
            return onednn.conv2d(_row(x), _row(self.weight), self.bias, steps, ends, dilation).squeeze(2)
        return card.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ConvTranspose1d(_Convolution):
    """``[B, C, N] -> [B, K, (N - 1)·stride + kernel - 2·padding]`` with weight ``[C, K, kernel]``, bias ``[K]``.

    A pass can leave out so many places more, ``cut``, at the beginning and the end.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, bias: bool = True):
        super().__init__([inputs, outputs, kernel], outputs, bias)
        self.stride, self.padding = stride, padding

    def forward(self, x: paddle.Tensor, cut: tuple[int, int] = (0, 0)) -> paddle.Tensor:
        if onednn.usable(x):
            ends = (0, 0, self.padding + cut[0], self.padding + cut[1])
            return onednn.conv2d_transpose(_row(x), _row(self.weight), self.bias, (1, self.stride), ends).squeeze(2)
        return trim(card.conv1d_transpose(x, self.weight, self.bias, self.stride, self.padding), *cut)


def _row(x: paddle.Tensor) -> paddle.Tensor:
    """A signal as a picture of one row."""
    return x.unsqueeze(2)


class Conv2d(_Convolution):
    """``[B, C, H, W] -> [B, K, H', W']``, weight ``[K, C / groups, h, w]``; sizes are given as (height, width)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__([outputs, inputs // groups, *kernel], outputs, bias)
        self.stride, self.padding, self.dilation, self.groups = list(stride), list(padding), list(dilation), groups

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.groups == 1 and onednn.usable(x):
            how = tuple(self.stride), _ends(self.padding), tuple(self.dilation)
            return onednn.conv2d(x, self.weight, self.bias, *how)
        return card.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ConvTranspose2d(_Convolution):
    """``[B, C, H, W] -> [B, K, H', W']`` with weight ``[C, K, h, w]``; sizes are given as (height, width).

    A pass can leave out so many rows more, ``cut``, at the top and the bottom.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        bias: bool = True,
    ):
        super().__init__([inputs, outputs, *kernel], outputs, bias)
        self.stride, self.padding = list(stride), list(padding)

    def forward(self, x: paddle.Tensor, cut: tuple[int, int] = (0, 0)) -> paddle.Tensor:
        if onednn.usable(x):
            top, bottom, *sides = _ends(self.padding)
            ends = (top + cut[0], bottom + cut[1], *sides)
            return onednn.conv2d_transpose(x, self.weight, self.bias, tuple(self.stride), ends)
        return trim(card.conv2d_transpose(x, self.weight, self.bias, self.stride, self.padding), *cut)


def trim(x: paddle.Tensor, before: int, after: int) -> paddle.Tensor:
    """``x`` without the ends of its third axis."""
    return card.cut(x, 2, before, x.shape[2] - after) if before or after else x


def _ends(padding: Sequence[int]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right."""
    height, width = padding
    return height, height, width, width


CONVOLUTIONS = (Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d)


def gelu(x: paddle.Tensor) -> paddle.Tensor:
    """x times the normal distribution's share below x; any shape."""
    return onednn_pointwise.gelu(x) if onednn.usable(x) else F.gelu(x)


class GELU(nn.Layer):
    """:func:`gelu` as a layer."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return gelu(x)


class GLU(nn.Layer):
    """The first half of an axis times the sigmoid of the second: ``[B, 2·C, ...] -> [B, C, ...]``."""

    def __init__(self, axis: int = 1):
        super().__init__()
        self.axis = axis

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.axis == 1 and onednn.usable(x):
            return onednn_pointwise.glu(x)
        return F.glu(x, self.axis)


# ------------------------------------------------------------------------------------------------------ initial weights


def torch_init_(model: nn.Layer, seed: int) -> None:
    """Fills a network with random weights of PyTorch's default distributions.

    Convolutions and linear layers U(±1/√fan_in), where the fan-in of a transposed convolution is counted on its output
    channels; recurrent layers U(±1/√hidden); embeddings N(0, 1). Every tensor depends on ``seed`` and its own name
    alone. Other layers stay as they are; a layer with a method ``adjust_initial_`` is asked to change its share
    afterwards.
    """
    for name, layer in model.named_sublayers(include_self=True):
        limit = _limit(layer)
        for key, parameter in layer.named_parameters(prefix=name, include_sublayers=False):
            if limit is not None:
                parameter.set_value(_uniform(parameter.shape, limit, seed, key))
            elif isinstance(layer, nn.Embedding):
                parameter.set_value(_generator(seed, key).standard_normal(parameter.shape, dtype=np.float32))
    for layer in model.sublayers(include_self=True):
        if hasattr(layer, "adjust_initial_"):
            layer.adjust_initial_()


def _limit(layer: nn.Layer) -> float | None:
    """Bound of the uniform distribution of all parameters of a layer; None where they are no such."""
    if isinstance(layer, (*CONVOLUTIONS, nn.Conv1D, nn.Conv2D, nn.Conv1DTranspose, nn.Conv2DTranspose)):
        return math.prod(layer.weight.shape[1:]) ** -0.5
    if isinstance(layer, nn.Linear):
        return layer.weight.shape[0] ** -0.5
    if isinstance(layer, nn.LSTM | nn.GRU):
        return layer.hidden_size**-0.5
    return None


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _uniform(shape: Sequence[int], limit: float, seed: int, name: str) -> np.ndarray:
    values = _generator(seed, name).random(tuple(shape), dtype=np.float32)
    values *= np.float32(2 * limit)
    values -= np.float32(limit)
    return values


def rescale_module(model: nn.Layer, reference: float) -> None:
    """Brings the deviation of each convolution's weight closer to ``reference``: to √(deviation · reference).

    The bias is divided by the same number. Linear and recurrent layers stay as they are.
    """
    for layer in model.sublayers(include_self=True):
        if isinstance(layer, CONVOLUTIONS):
            weight = layer.weight.numpy()
            scale = np.float32((weight.std(ddof=1, dtype=np.float64) / reference) ** 0.5)
            layer.weight.set_value(weight / scale)
            if layer.bias is not None:
                layer.bias.set_value(layer.bias.numpy() / scale)
