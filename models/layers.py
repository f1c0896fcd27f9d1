"""Building blocks shared by the networks.

Kernels with other speed or device properties can be put behind these classes without touching a network: oneDNN in
eager mode on the CPU (:mod:`models.onednn`), what SDAA cards have (:mod:`models.card`), Paddle's operators elsewhere.
"""

import math
import zlib
from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from models import card, onednn

_ZERO = nn.initializer.Constant(0.0)
_ONE = nn.initializer.Constant(1.0)


def same_padding(kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Padding ``(before, after)`` of a TensorFlow SAME convolution whose input size is a multiple of the stride."""
    total = max((kernel - 1) * dilation + 1 - stride, 0)
    return total // 2, total - total // 2


def total(x: paddle.Tensor) -> paddle.Tensor:
    """Sum over the last axis, ``[..., n] -> [..., 1]``, in two steps: one by one, millions of float32 lose digits."""
    width = math.isqrt(x.shape[-1]) + 1
    rows = card.pad(x, 0, -x.shape[-1] % width).reshape([*x.shape[:-1], -1, width])
    return rows.sum(axis=-1).sum(axis=-1, keepdim=True)


class SameConv2D(nn.Layer):
    """Convolution with TensorFlow's SAME padding: ``[B, C, H, W] -> [B, K, H/stride, W/stride]``.

    H and W must be multiples of the stride. Weight ``[K, C, kernel, kernel]``, bias ``[K]``; both start at zero, see
    :func:`he_uniform_`.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.stride, self.dilation = stride, dilation
        self.padding = list(same_padding(kernel, stride, dilation)) * 2
        self.weight = self.create_parameter([outputs, inputs, kernel, kernel], default_initializer=_ZERO)
        self.bias = self.create_parameter([outputs], is_bias=True, default_initializer=_ZERO)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if onednn.usable(x):
            steps, dilation = (self.stride, self.stride), (self.dilation, self.dilation)
            return onednn.conv2d(x, self.weight, self.bias, steps, tuple(self.padding), dilation)
        return card.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)


class SameConv2DTranspose(nn.Layer):
    """Transposed convolution with TensorFlow's SAME padding: ``[B, C, H, W] -> [B, K, H*stride, W*stride]``.

    The full result is cut by :func:`same_padding` at its edges; the kernel must be at least as long as the stride.
    Weight ``[C, K, kernel, kernel]``, bias ``[K]``; both start at zero, see :func:`he_uniform_`.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int):
        super().__init__()
        self.stride = stride
        self.padding = list(same_padding(kernel, stride)) * 2
        self.weight = self.create_parameter([inputs, outputs, kernel, kernel], default_initializer=_ZERO)
        self.bias = self.create_parameter([outputs], is_bias=True, default_initializer=_ZERO)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if onednn.usable(x):
            steps = (self.stride, self.stride)
            return onednn.conv2d_transpose(x, self.weight, self.bias, steps, tuple(self.padding))
        if not paddle.in_dynamic_mode() and self.weight.shape[1] == 1:
            return self._sub_pixel(x)
        return card.conv2d_transpose(x, self.weight, self.bias, self.stride, self.padding)

    def _sub_pixel(self, x: paddle.Tensor) -> paddle.Tensor:
        """The same as an ordinary convolution to stride² channels whose results are dealt out in turn.

        For exported programs and one output channel: oneDNN fills 15 of 16 lanes of its transposed convolution with
        nothing then, and takes 2.6 times as long.
        """
        stride = self.stride
        first, last, taps = _sub_pixel_taps(self.weight.shape[2], stride, self.padding[0])
        taps = [paddle.to_tensor(phase) for phase in taps]
        weight = F.pad(self.weight, [0, 1, 0, 1])  # index `kernel` is a tap that is not there
        rows = [weight.index_select(phase, 2) for phase in taps]
        phases = paddle.concat([row.index_select(phase, 3) for row in rows for phase in taps], axis=1)
        bias = self.bias.expand([stride * stride])
        y = F.conv2d(x, phases.transpose([1, 0, 2, 3]), bias, 1, [-first, last] * 2)  # [B, stride², H, W]
        y, columns = F.pixel_shuffle(y, stride), stride * y.shape[3]
        # Paddle 3.0 multiplies an unknown number of rows, which is -1, too
        return y.reshape([0, 1, -1, columns]) if y.shape[2] < -1 else y


def _sub_pixel_taps(kernel: int, stride: int, before: int) -> tuple[int, int, list[list[int]]]:
    """Which inputs, relative to the output's place divided by the stride, and which taps make each of the phases.

    Returns the first and last input, and for every phase the tap that each of them meets, ``kernel`` where none.
    """
    first, last = -((kernel - 1 - before) // stride), (stride - 1 + before) // stride
    taps = [[phase + before - stride * place for place in range(first, last + 1)] for phase in range(stride)]
    return first, last, [[tap if 0 <= tap < kernel else kernel for tap in row] for row in taps]


class BatchNorm(nn.Layer):
    """Batch normalisation over the channels of ``[B, C, H, W]``.

    ``fixed`` normalises with the stored statistics in training, too, and never changes them: an affine map whose scale
    and shift learn. Otherwise ordinary batch normalisation, with Paddle's meaning of momentum (the share that is kept).
    """

    def __init__(self, channels: int, fixed: bool, epsilon: float = 1e-3, momentum: float = 0.99):
        super().__init__()
        self.fixed, self.epsilon, self.momentum = fixed, epsilon, momentum
        self.weight = self.create_parameter([channels], default_initializer=_ONE)
        self.bias = self.create_parameter([channels], is_bias=True, default_initializer=_ZERO)
        self.register_buffer("_mean", paddle.zeros([channels]))
        self.register_buffer("_variance", paddle.ones([channels]))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.batch_norm(
            x,
            self._mean,
            self._variance,
            self.weight,
            self.bias,
            training=self.training and not self.fixed,
            momentum=self.momentum,
            epsilon=self.epsilon,
        )


class GroupNorm(nn.Layer):
    """Normalisation of groups of channels of ``[B, C, ...]``, with a scale and a shift for each channel.

    Parameters as in ``nn.GroupNorm``: weight ``[C]`` starts at one, bias ``[C]`` at zero.
    """

    def __init__(self, groups: int, channels: int, epsilon: float = 1e-5):
        super().__init__()
        self.groups, self.epsilon = groups, epsilon
        self.weight = self.create_parameter([channels], default_initializer=_ONE)
        self.bias = self.create_parameter([channels], is_bias=True, default_initializer=_ZERO)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return card.group_norm(x, self.groups, self.weight, self.bias, self.epsilon)


class ELU(nn.Layer):
    """x above zero, e^x − 1 below."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return card.elu(x)


def activation(name: str) -> nn.Layer:
    """An activation by its name in Keras: LeakyReLU (slope 0.2), ReLU or ELU."""
    return {"LeakyReLU": lambda: nn.LeakyReLU(0.2), "ReLU": nn.ReLU, "ELU": ELU}[name]()


def he_uniform(shape: Sequence[int], fan_in: int, seed: int, name: str) -> np.ndarray:
    """U(±√(6 / fan_in)), float32; depends on the seed and the name alone, not on any global random state."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    limit = np.float32((6.0 / fan_in) ** 0.5)
    return (generator.random(tuple(shape), dtype=np.float32) * 2 - 1) * limit


def he_uniform_(model: nn.Layer, seed: int) -> None:
    """Fills the weight of every SAME convolution in ``model`` as Keras' ``he_uniform`` does.

    For a transposed convolution Keras counts the fan-in on axis 2 of ``[kh, kw, out, in]``, the output channels.
    """
    for name, layer in model.named_sublayers():
        if isinstance(layer, SameConv2D | SameConv2DTranspose):
            fan_in = int(np.prod(layer.weight.shape[1:]))
            layer.weight.set_value(he_uniform(layer.weight.shape, fan_in, seed, name))
