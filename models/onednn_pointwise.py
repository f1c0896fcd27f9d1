"""GELU, GLU and factors of channels for eager mode on the CPU, forward and backward, in as few passes as possible.

Paddle's operators work with one lane and keep what they compute on the way; here oneDNN and NumPy write straight into
the results, and the gradients need nothing but the inputs. See :mod:`models.onednn` for where this exists.
"""

import ctypes
import functools
import sys
from collections.abc import Iterator

import numpy as np
import paddle
from paddle.autograd import PyLayer

from models.onednn import _engine, _Handle, _Primitive, _strided, array

paddle.jit.ignore_module([sys.modules[__name__]])  # Paddle 3.0 would leave its translations behind in exported layers

# Values of the library's enumerations
_FORWARD_TRAINING, _LOGISTIC, _GELU = 64, 0x29, 0x31
_SRC, _DST, _DIFF_SRC, _DIFF_DST = 1, 17, 129, 145
_BLOCK = 2**15  # numbers that are computed at a time


@functools.lru_cache(maxsize=256)
def _function(kind: int, count: int, slope: float = 0.0) -> tuple[_Primitive, _Primitive]:
    """A function of so many numbers, perhaps with a parameter, and its gradient; both may be in place."""
    flat, how = _strided((count,), (1,)), (ctypes.c_float(slope), ctypes.c_float(0))
    create = "dnnl_eltwise_{}_primitive_desc_create"
    forward = _Handle(
        "primitive_desc", create.format("forward"), _engine(), _FORWARD_TRAINING, kind, flat, flat, *how, None
    )
    backward = _Handle(
        "primitive_desc", create.format("backward"), _engine(), kind, flat, flat, flat, *how, forward, None
    )
    return (
        _Primitive(forward, {_SRC: flat, _DST: flat}),
        _Primitive(backward, {_SRC: flat, _DIFF_DST: flat, _DIFF_SRC: flat}),
    )


class _Gelu(PyLayer):
    @staticmethod
    def forward(ctx, x):
        x, y = x.contiguous(), paddle.empty(x.shape)
        ctx.save_for_backward(x)
        _function(_GELU, x.size)[0]({_SRC: x.data_ptr(), _DST: y.data_ptr()})
        return y

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensor()
        dy, dx = dy.contiguous(), paddle.empty(x.shape)
        _function(_GELU, x.size)[1]({_SRC: x.data_ptr(), _DIFF_DST: dy.data_ptr(), _DIFF_SRC: dx.data_ptr()})
        return dx


def gelu(x: paddle.Tensor) -> paddle.Tensor:
    """``F.gelu`` of any shape."""
    return _Gelu.apply(x)


class _Glu(PyLayer):
    @staticmethod
    def forward(ctx, x):
        x, y = x.contiguous(), paddle.empty([x.shape[0], x.shape[1] // 2, *x.shape[2:]])
        ctx.save_for_backward(x)
        values, gates, results = _half(x, 0), _half(x, 1), array(y).reshape(x.shape[0], -1)
        for at, open_ in _blocks(gates):
            np.multiply(values[at], open_, out=results[at])
        return y

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensor()
        dy, dx = dy.contiguous(), paddle.empty(x.shape)
        values, gates, slopes = _half(x, 0), _half(x, 1), array(dy).reshape(x.shape[0], -1)
        d_values, d_gates = _half(dx, 0), _half(dx, 1)
        for at, open_ in _blocks(gates):
            np.multiply(slopes[at], open_, out=d_values[at])
            np.subtract(1.0, open_, out=open_)
            open_ *= d_values[at]
            np.multiply(open_, values[at], out=d_gates[at])
        return dx


def _half(x: paddle.Tensor, which: int) -> np.ndarray:
    """One half of the channels, ``[B, n]``."""
    return array(x).reshape(x.shape[0], 2, -1)[:, which]


def _blocks(gates: np.ndarray) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Parts of ``[B, n]`` that the processor's cache holds, and the sigmoid of each."""
    examples, places = gates.shape
    width = min(places, _BLOCK)
    height = _BLOCK // width
    for row in range(0, examples, height):
        for first in range(0, places, width):
            at = slice(row, row + height), slice(first, first + width)
            part = gates[at].copy()
            _function(_LOGISTIC, part.size)[0]({_SRC: part.ctypes.data, _DST: part.ctypes.data})
            yield at, part


def glu(x: paddle.Tensor) -> paddle.Tensor:
    """``F.glu`` over the channels: ``[B, 2·C, ...] -> [B, C, ...]``."""
    return _Glu.apply(x)


class _Scale(PyLayer):
    @staticmethod
    def forward(ctx, x, scale):
        x, y = x.contiguous(), paddle.empty(x.shape)
        ctx.save_for_backward(x, scale)
        np.multiply(_rows(x), array(scale), out=_rows(y))
        return y

    @staticmethod
    def backward(ctx, dy):
        x, scale = ctx.saved_tensor()
        dy, dx = dy.contiguous(), paddle.empty(x.shape)
        np.multiply(_rows(dy), _rows(x), out=_rows(dx))
        sums = _rows(dx).sum(axis=0)
        np.multiply(_rows(dy), array(scale), out=_rows(dx))
        return dx, paddle.to_tensor(sums)


def _rows(x: paddle.Tensor) -> np.ndarray:
    return array(x).reshape(-1, x.shape[-1])


def scale_last(x: paddle.Tensor, scale: paddle.Tensor) -> paddle.Tensor:
    """``[..., C]`` times a factor ``[C]`` for each channel."""
    return _Scale.apply(x, scale)
