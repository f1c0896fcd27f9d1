"""Where BandSplitRNN takes a spectrogram apart into bands, and where it makes their masks.

Every band has layers of its own, for its own width. Bands of the same width are computed together: their weights are
stacked, and each layer is one batched product for all of them. So the 41 bands of V7 take eleven, and no padding.
"""

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from models import onednn, onednn_groups, onednn_pointwise
from models.attention import Linear

_ONE, _ZERO = nn.initializer.Constant(1.0), nn.initializer.Constant(0.0)
_EPSILON = 1e-5


class BandNorm(nn.Layer):
    """Weight and bias of one band's normalisation; :class:`BandSplit` and :class:`MaskEstimation` compute it.

    A band of an example is brought to mean 0 and variance 1 over its features and frames together. Then comes a factor
    and an offset for each feature, or, with a number of frames that is fixed, for each feature of each frame.
    """

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.weight = self.create_parameter(list(shape), default_initializer=_ONE)
        self.bias = self.create_parameter(list(shape), is_bias=True, default_initializer=_ZERO)


class Groups:
    """Bands sorted by their width, so that those of one width stand together.

    Attributes:
        bands: for each width ``(width, numbers of its bands)``
    """

    def __init__(self, widths: Sequence[int]):
        self.bands = [(width, [k for k, w in enumerate(widths) if w == width]) for width in dict.fromkeys(widths)]
        starts = np.concatenate([[0], np.cumsum(widths)])
        self._bins = np.concatenate([np.arange(starts[k], starts[k + 1]) for _, own in self.bands for k in own])
        self._order = np.array([k for _, own in self.bands for k in own])

    def sizes(self) -> list[int]:
        """Bins of each group."""
        return [width * len(own) for width, own in self.bands]

    def sort_bins(self, x: paddle.Tensor) -> paddle.Tensor:
        """``[F, ...]`` in the order of the groups."""
        return _take(x, self._bins)

    def unsort_bins(self, x: paddle.Tensor) -> paddle.Tensor:
        """The inverse of :meth:`sort_bins`."""
        return _take(x, np.argsort(self._bins))

    def sort_bands(self, x: paddle.Tensor) -> paddle.Tensor:
        """``[K, ...]`` in the order of the groups."""
        return _take(x, self._order)

    def unsort_bands(self, x: paddle.Tensor) -> paddle.Tensor:
        """The inverse of :meth:`sort_bands`."""
        return _take(x, np.argsort(self._order))


def _take(x: paddle.Tensor, places: np.ndarray) -> paddle.Tensor:
    return paddle.gather(x, paddle.to_tensor(places.astype(np.int64), place=x.place), axis=0)


def _stack(parameters: Sequence[paddle.Tensor]) -> paddle.Tensor:
    return paddle.stack(list(parameters)) if len(parameters) > 1 else parameters[0].unsqueeze(0)


def _linear(x: paddle.Tensor, layers: Sequence[nn.Linear]) -> paddle.Tensor:
    """``[K, rows, in] -> [K, rows, out]``: a layer for each band."""
    weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
    if onednn.usable(x):
        return onednn_groups.linears(x, weights, biases)
    return paddle.matmul(x, _stack(weights)) + _stack(biases).unsqueeze(1)


def _tanh(x: paddle.Tensor) -> paddle.Tensor:
    return onednn_groups.tanh(x) if onednn.usable(x) else F.tanh(x)


def _gated(x: paddle.Tensor) -> paddle.Tensor:
    """``[..., 2·N] -> [..., N]``: the first half times the sigmoid of the second."""
    if onednn.usable(x):
        return onednn_pointwise.glu(x.flatten(0, -2)).reshape([*x.shape[:-1], -1])
    values, gates = x.split(2, -1)
    return values * F.sigmoid(gates)


def _normalise(x: paddle.Tensor) -> paddle.Tensor:
    """``[K, B, ...]``: each band of each example to mean 0 and variance 1."""
    flat = x.reshape([x.shape[0] * x.shape[1], -1])
    return F.layer_norm(flat, flat.shape[1:], epsilon=_EPSILON).reshape(x.shape)


class BandSplit(nn.Layer):
    """From a spectrogram to the features of its bands, ``[B, P, F, T] -> [T, B, K, N]``.

    Args:
        widths: bins in each of the K bands
        planes: P, numbers in a bin
        features: N
        frames: T, if it is fixed
    """

    def __init__(self, widths: Sequence[int], planes: int, features: int, frames: int | None):
        super().__init__()
        self.groups, self.planes, self.features = Groups(widths), planes, features
        fixed = [] if frames is None else [frames]
        self.layernorms = nn.LayerList([BandNorm([planes * width, *fixed]) for width in widths])
        self.fcs = nn.LayerList([Linear(planes * width, features) for width in widths])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        batch, planes, _, frames = x.shape
        x = self.groups.sort_bins(x.transpose([2, 0, 1, 3]))
        parts = []
        for (width, own), part in zip(self.groups.bands, x.split(self.groups.sizes(), 0), strict=True):
            norms, count = [self.layernorms[k] for k in own], len(own)
            part = part.reshape([count, width, batch, planes, frames]).transpose([0, 2, 3, 1, 4])
            part = _normalise(part.reshape([count, batch, planes * width, frames]))
            factor, offset = (
                _stack(each).reshape([count, 1, planes * width, -1])
                for each in ([norm.weight for norm in norms], [norm.bias for norm in norms])
            )
            part = (part * factor + offset).transpose([0, 1, 3, 2]).reshape([count, batch * frames, planes * width])
            parts.append(_linear(part, [self.fcs[k] for k in own]))
        x = self.groups.unsort_bands(paddle.concat(parts)).reshape([-1, batch, frames, self.features])
        return x.transpose([2, 1, 0, 3])


class _Gate(nn.Layer):
    """The linear layer of a gated linear unit, which doubles its features."""

    def __init__(self, features: int):
        super().__init__()
        self.linear = Linear(features, 2 * features)


class _BandMask(nn.Layer):
    """The layers that make one band's mask, in the original's places; :class:`MaskEstimation` computes them."""

    def __init__(self, features: int, hidden: int, outputs: int):
        super().__init__()
        self.mlp = nn.Sequential(Linear(features, hidden), nn.Tanh(), Linear(hidden, outputs), _Gate(outputs))


class MaskEstimation(nn.Layer):
    """From the features of the bands to a mask, ``[T, B, K, N] -> [B, P, F, T]``.

    Args:
        widths: bins in each of the K bands
        planes: P, numbers in a bin
        pairs: they are real and imaginary parts, or else magnitudes
        features: N
        hidden: features after the first layer of a band
        frames: T, if it is fixed
    """

    def __init__(self, widths: Sequence[int], planes: int, pairs: bool, features: int, hidden: int, frames: int | None):
        super().__init__()
        self.groups, self.planes, self.pairs = Groups(widths), planes, pairs
        fixed = [] if frames is None else [frames]
        self.layernorms = nn.LayerList([BandNorm([*fixed, features]) for _ in widths])
        self.mlp = nn.LayerList([_BandMask(features, hidden, planes * width) for width in widths])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        frames, batch, bands, features = x.shape
        x, rows = _normalise(x.transpose([2, 1, 0, 3])), batch * frames
        factor = _stack([norm.weight for norm in self.layernorms]).reshape([bands, 1, -1, features])
        offset = _stack([norm.bias for norm in self.layernorms]).reshape([bands, 1, -1, features])
        x = (x * factor + offset).reshape([bands, rows, features])
        x = self.groups.sort_bands(_tanh(_linear(x, [band.mlp[0] for band in self.mlp])))
        parts = []
        for (width, own), part in zip(
            self.groups.bands, x.split([len(own) for _, own in self.groups.bands], 0), strict=True
        ):
            part = _linear(part, [self.mlp[k].mlp[2] for k in own])
            part = _gated(_linear(part, [self.mlp[k].mlp[3].linear for k in own]))
            part = part.reshape([len(own), batch, *self._layout(width, frames)])
            part = part.transpose([0, 4, 3, 1, 2] if self.pairs else [0, 3, 2, 1, 4])
            parts.append(part.reshape([len(own) * width, self.planes, batch, frames]))
        return self.groups.unsort_bins(paddle.concat(parts)).transpose([2, 1, 0, 3])

    def _layout(self, width: int, frames: int) -> tuple[int, int, int]:
        """What the numbers of one band and example stand for, in their order.

        The original reads those of a mask for magnitudes as if they had been transposed before: its networks learnt so.
        """
        return (frames, self.planes, width) if self.pairs else (self.planes, width, frames)
