"""The layers of Apollo: features of the bands of a spectrogram, attention over the bands, convolutions over time.

A feature map is ``[R, T, K, N]``: R signals of T frames, each with N features for K bands, so that every layer over the
features is a product of matrices on whole rows. Weights have the names and the layout of JusperLee/Apollo, where such
layers are convolutions with one tap.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from models import card, onednn, onednn_apollo, onednn_bands
from models.apollo_config import BLOCKS, HEADS, POSITIONS, TAPS
from models.demucs_layers import Conv1d

_ONE = nn.initializer.Constant(1.0)
_RMS_EPSILON = 1e-5
_POWER_EPSILON = float(np.finfo(np.float32).eps)
_THETA = 10000.0


class RMSNorm(nn.Layer):
    """Features ``[..., N]`` divided by the root of their mean square, with a factor for each of them, ``[N]``."""

    def __init__(self, features: int):
        super().__init__()
        self.weight = self.create_parameter([features], default_initializer=_ONE)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return unit(x) * self.weight


def unit(x: paddle.Tensor) -> paddle.Tensor:
    """``[..., N]`` divided by the root of the mean square over the last axis."""
    return x * paddle.rsqrt(x.square().mean(-1, keepdim=True) + _RMS_EPSILON)


def _matrix(layer: Conv1d) -> paddle.Tensor:
    """The weight ``[out, in]`` of a convolution of one tap."""
    return layer.weight.squeeze(2)


def _joined(norm: RMSNorm, layer: Conv1d) -> paddle.Tensor:
    """The weight ``[out, in]`` of a layer that comes after a normalisation, with the factors of the latter."""
    return _matrix(layer) * norm.weight


def _pointwise(x: paddle.Tensor, layer: Conv1d) -> paddle.Tensor:
    """``[..., in] -> [..., out]`` with a convolution of one tap."""
    y = paddle.matmul(x, _matrix(layer), transpose_y=True)
    return y if layer.bias is None else y + layer.bias


# --------------------------------------------------------------------------------------------------------------- bands


def _together(widths: Sequence[int]) -> list[tuple[int, int, int]]:
    """Neighbouring bands of one width: the number of the first, how many they are, and their width."""
    runs, first = [], 0
    for width, members in groupby(widths):
        count = len(list(members))
        runs.append((first, count, width))
        first += count
    return runs


def _stack(values: Sequence[paddle.Tensor]) -> paddle.Tensor:
    return paddle.stack(list(values)) if len(values) > 1 else values[0].unsqueeze(0)


def _in_bands(x: paddle.Tensor, layers: Sequence[nn.Sequential]) -> paddle.Tensor:
    """``[K, rows, in] -> [K, rows, out]``: a normalisation and a layer for each band, all in one product."""
    norms, convolutions = zip(*((layer[0], layer[1]) for layer in layers), strict=True)
    factor = _stack([norm.weight for norm in norms]).unsqueeze(1)
    weight = _stack([each.weight for each in convolutions]).squeeze(3)
    bias = _stack([each.bias for each in convolutions]).unsqueeze(1)
    return paddle.matmul(unit(x) * factor, weight, transpose_y=True) + bias


class BandSplit(nn.LayerList):
    """From a spectrogram to the features of its bands, ``[R, 2, F, T] -> [R, T, K, N]``.

    A band of a frame is divided by the root of its power, whose logarithm is a feature more.
    """

    def __init__(self, widths: Sequence[int], features: int):
        super().__init__(nn.Sequential(RMSNorm(2 * width + 1), Conv1d(2 * width + 1, features, 1)) for width in widths)
        self.runs, self.features = _together(widths), features
        self.bins = [count * width for _, count, width in self.runs]

    def forward(self, z: paddle.Tensor) -> paddle.Tensor:
        signals, _, _, frames = z.shape
        z = z.transpose([2, 0, 3, 1])  # [F, R, T, 2]
        parts = list(map(self._features, z.split(self.bins), self.runs))
        return paddle.concat(parts).transpose([1, 0, 2]).reshape([signals, frames, -1, self.features])

    def _features(self, z: paddle.Tensor, run: tuple[int, int, int]) -> paddle.Tensor:
        """Bins ``[F', R, T, 2]`` of bands of one width to their features ``[K', R·T, N]``."""
        first, count, width = run
        z = z.reshape([count, width, -1, 2]).transpose([0, 2, 3, 1]).reshape([count, -1, 2 * width])
        power = paddle.sqrt(z.square().sum(-1, keepdim=True) + _POWER_EPSILON)
        return _in_bands(paddle.concat([z / power, paddle.log(power)], axis=-1), list(self)[first : first + count])


class BandJoin(nn.LayerList):
    """From the features of the bands to a spectrogram, ``[R, T, K, N] -> [R, 2, F, T]``."""

    def __init__(self, widths: Sequence[int], features: int):
        super().__init__(
            nn.Sequential(RMSNorm(features), Conv1d(features, 4 * width, 1), nn.GLU(1)) for width in widths
        )
        self.runs = _together(widths)
        self.members = [count for _, count, _ in self.runs]

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        signals, frames, bands, features = x.shape
        x = x.reshape([-1, bands, features]).transpose([1, 0, 2])  # [K, R·T, N]
        parts = list(map(self._bins, x.split(self.members), self.runs))
        return paddle.concat(parts).reshape([-1, signals, frames, 2]).transpose([1, 3, 0, 2])

    def _bins(self, x: paddle.Tensor, run: tuple[int, int, int]) -> paddle.Tensor:
        """Features ``[K', R·T, N]`` of bands of one width to their bins ``[F', R·T, 2]``."""
        first, count, width = run
        value, gate = _in_bands(x, list(self)[first : first + count]).split(2, -1)
        bins = (value * F.sigmoid(gate)).reshape([count, -1, 2, width])
        return bins.transpose([0, 3, 1, 2]).reshape([count * width, -1, 2])


# ----------------------------------------------------------------------------------------------- layers over the bands


def rotations(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines ``[POSITIONS, size]`` of the angles that a place turns each pair of features by."""
    rate = _THETA ** -(np.arange(0, size, 2) / size)
    angle = np.repeat(np.arange(POSITIONS)[:, None] * rate, 2, axis=1)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


class Roformer(nn.Layer):
    """Attention over the bands of a frame, then a gated layer, each added to its input: ``[R, T, K, N]``, too.

    Su et al.: "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021. Of the output of ``weight`` each
    head has a block: its queries, keys and values.
    """

    def __init__(self, features: int):
        super().__init__()
        self.size = features // HEADS
        inner = self.size * HEADS
        cos, sin = rotations(self.size)
        self.register_buffer("cos_freq", paddle.to_tensor(cos))
        self.register_buffer("sin_freq", paddle.to_tensor(sin))
        self.input_norm = RMSNorm(features)
        self.weight = Conv1d(features, 3 * inner, 1, bias=False)
        self.output = Conv1d(inner, features, 1, bias=False)
        self.MLP = nn.Sequential(RMSNorm(features), Conv1d(features, 8 * features, 1, bias=False), nn.Silu())
        self.MLP_output = Conv1d(4 * features, features, 1, bias=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if onednn.usable(x):
            cos, sin = (table[: x.shape[2]].numpy() for table in (self.cos_freq, self.sin_freq))
            x = onednn_apollo.attention(x, _joined(self.input_norm, self.weight), _matrix(self.output), cos, sin, HEADS)
            return onednn_apollo.gated(x, _joined(self.MLP[0], self.MLP[1]), _matrix(self.MLP_output))
        x = x + _pointwise(self._attend(_pointwise(self.input_norm(x), self.weight)), self.output)
        gate, value = F.silu(_pointwise(self.MLP[0](x), self.MLP[1])).split(2, -1)
        return x + _pointwise(F.silu(gate) * value, self.MLP_output)

    def _attend(self, x: paddle.Tensor) -> paddle.Tensor:
        """Queries, keys and values ``[R, T, K, 3·N]`` to mixtures ``[R, T, K, N]``."""
        signals, frames, bands, _ = x.shape
        heads = x.reshape([-1, bands, HEADS, 3 * self.size]).transpose([0, 2, 1, 3])
        query, key, value = heads.split(3, -1)  # [R·T, heads, K, size]
        query, key = self._turn(query * self.size**-0.5), self._turn(key)
        weights = F.softmax(paddle.matmul(query, key, transpose_y=True), axis=-1)
        return paddle.matmul(weights, value).transpose([0, 2, 1, 3]).reshape([signals, frames, bands, -1])

    def _turn(self, x: paddle.Tensor) -> paddle.Tensor:
        """Turns pairs (a, b) of features ``[..., K, size]`` by the angles of their band."""
        cos, sin = (card.cut(table, 0, 0, x.shape[-2]) for table in (self.cos_freq, self.sin_freq))
        quarter = np.kron(np.eye(self.size // 2), [[0, 1], [-1, 0]]).astype(np.float32)  # (a, b) to (-b, a)
        return x * cos + paddle.matmul(x, paddle.to_tensor(quarter, place=x.place)) * sin


# ----------------------------------------------------------------------------------------------------- layers over time


class TimeBlock(nn.Layer):
    """A filter for each feature over time, a normalisation and two layers, added to their input: ``[M, N, T]``, too."""

    def __init__(self, features: int):
        super().__init__()
        self.conv = nn.Sequential(
            Conv1d(features, features, TAPS, padding=TAPS // 2, groups=features),
            RMSNorm(features),
            Conv1d(features, 4 * features, 1),
            nn.Silu(),
            Conv1d(4 * features, features, 1),
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        filters, norm, widen, _, narrow = self.conv
        y = filters(x)
        y = y * paddle.rsqrt(y.square().mean(1, keepdim=True) + _RMS_EPSILON) * norm.weight.unsqueeze(1)
        y = F.silu(paddle.matmul(_matrix(widen), y) + widen.bias.unsqueeze(1))
        return x + paddle.matmul(_matrix(narrow), y) + narrow.bias.unsqueeze(1)

    def features_last(self, x: paddle.Tensor) -> paddle.Tensor:
        """The same for ``[R, T, K, N]``, by oneDNN."""
        filters, norm, widen, _, narrow = self.conv
        y = onednn_bands.filter_time(x, filters.weight, filters.bias)
        return x + onednn_apollo.hidden(y, _joined(norm, widen), widen.bias, _matrix(narrow), narrow.bias)


class TimeBlocks(nn.Layer):
    """Three :class:`TimeBlock` on each band by itself, ``[R, T, K, N] -> [R, T, K, N]``."""

    def __init__(self, features: int):
        super().__init__()
        self.blocks = nn.Sequential(*(TimeBlock(features) for _ in range(BLOCKS)))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if onednn.usable(x):
            for block in self.blocks:
                x = block.features_last(x)
            return x
        signals, frames, bands, features = x.shape
        x = x.transpose([0, 2, 3, 1]).reshape([-1, features, frames])
        return self.blocks(x).reshape([signals, bands, features, frames]).transpose([0, 3, 1, 2])


class BandSequence(nn.Layer):
    """One layer of Apollo, over the bands and then over time, ``[R, T, K, N] -> [R, T, K, N]``."""

    def __init__(self, features: int):
        super().__init__()
        self.band_net, self.seq_net = Roformer(features), TimeBlocks(features)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.seq_net(self.band_net(x))
