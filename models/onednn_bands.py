"""oneDNN primitives for Apollo's layers in eager mode on the CPU: products of many matrices, x·sigmoid(x), and filters
over time.

Matrices are NumPy's, with any strides, so that a turned or a narrower one is a view. See :mod:`models.onednn` for where
this exists.
"""

import ctypes
import functools
import sys

import numpy as np
import paddle
from paddle.autograd import PyLayer

from models.onednn import _any_layout, _contiguous, _engine, _Handle, _Operation, _Primitive, _strided
from models.onednn_matmul import _multiply, _softmax
from models.onednn_pointwise import _function

paddle.jit.ignore_module([sys.modules[__name__]])  # Paddle 3.0 would leave its translations behind in exported layers

# Values of the library's enumerations
_FORWARD_TRAINING, _DIRECT, _SWISH = 64, 1, 0x2C
_SRC, _DST, _WEIGHTS, _BIAS = 1, 17, 33, 41
_DIFF_SRC, _DIFF_DST, _DIFF_WEIGHTS, _DIFF_BIAS = 129, 145, 161, 169
_Dims = ctypes.c_int64 * 12


# ------------------------------------------------------------------------------------------------------------- products


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None = None, add: bool = False) -> None:
    """``out = a·b`` of matrices, plus a ``bias`` for each column; with ``add`` also plus what is there."""
    shape = a.shape[0], a.shape[1], b.shape[1]
    _multiply(shape, *(_place(each) for each in (a, b, out)), bias=0 if bias is None else bias.ctypes.data, add=add)


def products(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """``out = a·b`` for two axes of matrices each, ``[F, H, m, k]·[F, H, k, n]``."""
    ends = [_place(each) for each in (a, b, out)]
    primitive = _batched(a.shape, b.shape[3], *(strides for _, strides in ends))
    primitive(dict(zip((_SRC, _WEIGHTS, _DST), (address for address, _ in ends), strict=True)))


def _place(x: np.ndarray) -> tuple[int, tuple[int, ...]]:
    """Address and strides."""
    return x.ctypes.data, tuple(step // 4 for step in x.strides)


@functools.lru_cache(maxsize=256)
def _batched(a: tuple[int, ...], columns: int, *strides: tuple[int, ...]) -> _Primitive:
    *batch, rows, inner = a
    shapes = (*batch, rows, inner), (*batch, inner, columns), (*batch, rows, columns)
    src, weights, dst = (_strided(*each) for each in zip(shapes, strides, strict=True))
    create = "dnnl_matmul_primitive_desc_create"
    descriptor = _Handle("primitive_desc", create, _engine(), src, weights, None, dst, None)
    return _Primitive(descriptor, {_SRC: src, _WEIGHTS: weights, _DST: dst})


# ------------------------------------------------------------------------------------------------------------ functions


def silu(x: np.ndarray, out: np.ndarray) -> None:
    """``out = x·sigmoid(x)`` of contiguous arrays, perhaps in place."""
    _function(_SWISH, x.size, 1.0)[0]({_SRC: x.ctypes.data, _DST: out.ctypes.data})


def silu_slope(x: np.ndarray, slope: np.ndarray) -> None:
    """Turns the gradient of ``silu(x)`` into that of ``x``, in place."""
    address = slope.ctypes.data
    _function(_SWISH, x.size, 1.0)[1]({_SRC: x.ctypes.data, _DIFF_DST: address, _DIFF_SRC: address})


def softmax(x: np.ndarray) -> None:
    """Softmax over the last axis of a contiguous array, in place."""
    address = x.ctypes.data
    _softmax(x.size // x.shape[-1], x.shape[-1])[0]({_SRC: address, _DST: address})


def softmax_slope(y: np.ndarray, slope: np.ndarray) -> None:
    """Turns the gradient of a softmax whose result was ``y`` into that of what it was taken of, in place."""
    address = slope.ctypes.data
    primitive = _softmax(y.size // y.shape[-1], y.shape[-1])[1]
    primitive({_DST: y.ctypes.data, _DIFF_DST: address, _DIFF_SRC: address})


# --------------------------------------------------------------------------------------------------- filters over time


class _Filters:
    """The forward and backward operations for feature maps ``[R, T, K, N]`` and a filter of ``taps`` a feature."""

    def __init__(self, shape: tuple[int, int, int, int], taps: int):
        signals, frames, bands, features = shape
        # the library speaks of pictures [R, N, T, K]: the same memory, other strides
        self.map = _strided(
            (signals, features, frames, bands), (frames * bands * features, 1, bands * features, features)
        )
        self.weight, self.any = (make((features, 1, 1, taps, 1)) for make in (_contiguous, _any_layout))
        self.bias = _contiguous((features,))
        margin = _Dims(taps // 2, 0)
        self.geometry = _Dims(1, 1), _Dims(0, 0), margin, margin
        self.hint = self._describe("forward", _FORWARD_TRAINING, _DIRECT, self.map, self.any, self.bias, self.map)

    def _describe(self, direction: str, *arguments) -> _Handle:
        create = f"dnnl_convolution_{direction}_primitive_desc_create"
        hint = [] if direction == "forward" else [self.hint]
        return _Handle("primitive_desc", create, _engine(), *arguments, *self.geometry, *hint, None)

    @functools.cached_property
    def forward(self) -> _Operation:
        return _Operation(self.hint, {_SRC: self.map, _WEIGHTS: self.weight, _BIAS: self.bias, _DST: self.map})

    @functools.cached_property
    def backward_data(self) -> _Operation:
        descriptor = self._describe("backward_data", _DIRECT, self.map, self.any, self.map)
        return _Operation(descriptor, {_DIFF_SRC: self.map, _WEIGHTS: self.weight, _DIFF_DST: self.map})

    @functools.cached_property
    def backward_weights(self) -> _Operation:
        descriptor = self._describe("backward_weights", _DIRECT, self.map, self.any, self.bias, self.map)
        layouts = {_SRC: self.map, _DIFF_WEIGHTS: self.weight, _DIFF_BIAS: self.bias, _DIFF_DST: self.map}
        return _Operation(descriptor, layouts)


_filters = functools.lru_cache(maxsize=64)(_Filters)


class _FilterTime(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, bias):
        x, weight, y = x.contiguous(), weight.contiguous(), paddle.empty(x.shape)
        ctx.save_for_backward(x, weight)
        operations = _filters(tuple(x.shape), weight.shape[2])
        operations.forward({_SRC: x, _WEIGHTS: weight, _BIAS: bias, _DST: y})
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensor()
        dy, dx = dy.contiguous(), paddle.empty(x.shape)
        dw, db = paddle.empty(weight.shape), paddle.empty([weight.shape[0]])
        operations = _filters(tuple(x.shape), weight.shape[2])
        operations.backward_data({_DIFF_SRC: dx, _WEIGHTS: weight, _DIFF_DST: dy})
        operations.backward_weights({_SRC: x, _DIFF_WEIGHTS: dw, _DIFF_BIAS: db, _DIFF_DST: dy})
        return dx, dw, db


def filter_time(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
    """``[R, T, K, N] -> [R, T, K, N]``: a filter ``[N, 1, taps]`` for each feature over time, taps odd."""
    return _FilterTime.apply(x, weight, bias)
