"""oneDNN products of matrices for eager mode on the CPU, forward and backward: linear layers and attention.

Paddle's own products take twice as long on processors for which its BLAS has no kernels of 512 bits, and attention
written with them keeps all scores of all heads. Here scores exist for a block of queries of one head at a time, which
the processor's cache holds, and are computed again for the gradient. See :mod:`models.onednn` for where this exists.
"""

import ctypes
import functools
import math
import sys

import numpy as np
import paddle
from paddle.autograd import PyLayer

from models.dropout import Drops
from models.onednn import _engine, _Handle, _library, _Primitive, _strided

paddle.jit.ignore_module([sys.modules[__name__]])  # Paddle 3.0 would leave its translations behind in exported layers

# Values of the library's enumerations
_F32, _FORWARD_TRAINING, _SOFTMAX = 3, 64, 0x30000
_SRC, _DST, _WEIGHTS, _BIAS, _DIFF_SRC, _DIFF_DST = 1, 17, 33, 41, 129, 145
_BLOCK = 2**18  # scores that are computed at a time


@functools.lru_cache(maxsize=512)
def _product(
    shape: tuple[int, int, int], a: tuple[int, int], b: tuple[int, int], c: tuple[int, int], bias: bool, add: bool
) -> _Primitive:
    """``[m, k]·[k, n]`` for strides of both and of the result; with a bias ``[n]``, or added to what is there."""
    m, k, n = shape
    layouts = {_SRC: _strided((m, k), a), _WEIGHTS: _strided((k, n), b), _DST: _strided((m, n), c)}
    if bias:
        layouts[_BIAS] = _strided((1, n), (n, 1))
    attributes = _Handle("primitive_attr", "dnnl_primitive_attr_create")
    if add:
        steps = _Handle("post_ops", "dnnl_post_ops_create")
        _library().dnnl_post_ops_append_sum(steps.value, ctypes.c_float(1.0), ctypes.c_int32(0), _F32)
        _library().dnnl_primitive_attr_set_post_ops(attributes.value, steps.value)
    create = "dnnl_matmul_primitive_desc_create"
    ends = layouts[_SRC], layouts[_WEIGHTS], layouts.get(_BIAS), layouts[_DST]
    return _Primitive(_Handle("primitive_desc", create, _engine(), *ends, attributes), layouts)


@functools.lru_cache(maxsize=64)
def _softmax(rows: int, columns: int) -> tuple[_Primitive, _Primitive]:
    """Softmax of every row, and its gradient; both may be in place."""
    plain = _strided((rows, columns), (columns, 1))
    create = "dnnl_softmax_{}_primitive_desc_create"
    forward = _Handle(
        "primitive_desc", create.format("forward"), _engine(), _FORWARD_TRAINING, _SOFTMAX, plain, plain, 1, None
    )
    backward = _Handle(
        "primitive_desc", create.format("backward"), _engine(), _SOFTMAX, plain, plain, plain, 1, forward, None
    )
    return (
        _Primitive(forward, {_SRC: plain, _DST: plain}),
        _Primitive(backward, {_DST: plain, _DIFF_DST: plain, _DIFF_SRC: plain}),
    )


def _multiply(
    shape: tuple[int, int, int],
    a: tuple[int, tuple[int, int]],
    b: tuple[int, tuple[int, int]],
    c: tuple[int, tuple[int, int]],
    bias: int = 0,
    add: bool = False,
) -> None:
    """Product of matrices given as address and strides."""
    addresses = {_SRC: a[0], _WEIGHTS: b[0], _DST: c[0]} | ({_BIAS: bias} if bias else {})
    _product(shape, a[1], b[1], c[1], bool(bias), add)(addresses)


# -------------------------------------------------------------------------------------------------------- linear layers


class _Linear(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, bias, turned):
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.turned, ctx.needs = turned, (not x.stop_gradient, not weight.stop_gradient, not bias.stop_gradient)
        rows, inner, outer = x.size // x.shape[-1], x.shape[-1], bias.shape[0]
        y = paddle.empty([*x.shape[:-1], outer])
        strides = (1, inner) if turned else (outer, 1)
        ends = (x.data_ptr(), (inner, 1)), (weight.data_ptr(), strides), (y.data_ptr(), (outer, 1))
        _multiply((rows, inner, outer), *ends, bias=bias.data_ptr())
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensor()
        dy = dy.contiguous()
        rows, inner, outer = x.size // x.shape[-1], x.shape[-1], dy.shape[-1]
        own, strides = (outer, 1), (inner, 1) if ctx.turned else (1, outer)
        dx = dw = db = None
        if ctx.needs[0]:
            dx = paddle.empty(x.shape)
            ends = (dy.data_ptr(), own), (weight.data_ptr(), strides), (dx.data_ptr(), (inner, 1))
            _multiply((rows, outer, inner), *ends)
        if ctx.needs[1]:
            dw = paddle.empty(weight.shape)
            if ctx.turned:
                ends = (dy.data_ptr(), (1, outer)), (x.data_ptr(), (inner, 1)), (dw.data_ptr(), (inner, 1))
                _multiply((outer, rows, inner), *ends)
            else:
                ends = (x.data_ptr(), (1, inner)), (dy.data_ptr(), own), (dw.data_ptr(), own)
                _multiply((inner, rows, outer), *ends)
        if ctx.needs[2]:
            db = dy.reshape([rows, outer]).sum(axis=0)
        return dx, dw, db


def linear(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, turned: bool = False) -> paddle.Tensor:
    """``[..., in] -> [..., out]`` with ``weight`` ``[in, out]`` (``turned``: ``[out, in]``) and ``bias`` ``[out]``."""
    return _Linear.apply(x, weight, bias, turned)


# ------------------------------------------------------------------------------------------------------------ attention


class _Attention(PyLayer):
    @staticmethod
    def forward(ctx, query, key, value, heads, drops):
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        ctx.save_for_backward(query, key, value)
        ctx.heads, ctx.drops, mixture = heads, drops, paddle.empty(query.shape)
        walk, dropped = _Walk(query, key, heads), drops.stream()
        for rows, at, other in walk:
            scores = walk.scores(query, key, rows, at, other)
            walk.weights[dropped(rows * walk.keys)] = 0.0
            a, b, c = (scores, (walk.keys, 1)), walk.place(value, other), walk.place(mixture, at)
            _multiply((rows, walk.keys, walk.width), a, b, c)
        return mixture

    @staticmethod
    def backward(ctx, gradient):
        query, key, value = ctx.saved_tensor()
        gradient = gradient.contiguous()
        dq, dk, dv = paddle.empty(query.shape), paddle.zeros(key.shape), paddle.zeros(value.shape)
        walk, dropped = _Walk(query, key, ctx.heads), ctx.drops.stream()
        slopes = np.empty(walk.rows * walk.keys, np.float32)
        plain, turned = (walk.keys, 1), (1, walk.keys)
        for rows, at, other in walk:
            weights, keys, width = walk.scores(query, key, rows, at, other), walk.keys, walk.width
            own, slope = walk.place(gradient, at), slopes.ctypes.data
            places = dropped(rows * keys)
            kept, walk.weights[places] = walk.weights[places], 0.0
            _multiply((keys, rows, width), (weights, turned), own, walk.place(dv, other), add=True)
            _multiply((rows, width, keys), own, walk.place(value, other, turned=True), (slope, plain))
            slopes[places], walk.weights[places] = 0.0, kept
            _softmax(rows, keys)[1]({_DST: weights, _DIFF_DST: slope, _DIFF_SRC: slope})
            _multiply((rows, keys, width), (slope, plain), walk.place(key, other), walk.place(dq, at))
            _multiply((keys, rows, width), (slope, turned), walk.place(query, at), walk.place(dk, other), add=True)
        return dq, dk, dv


class _Walk:
    """The blocks of queries of every head and example: their number of rows, and where they and their keys begin."""

    def __init__(self, query: paddle.Tensor, key: paddle.Tensor, heads: int):
        self.batch, self.queries, self.channels = query.shape
        self.keys, self.heads, self.width = key.shape[1], heads, self.channels // heads
        self.rows = min(self.queries, max(_BLOCK // self.keys // 16 * 16, 16))
        self.weights = np.empty(self.rows * self.keys, np.float32)

    def __iter__(self):
        for example in range(self.batch):
            for head in range(self.heads):
                other = (example * self.keys * self.channels) + head * self.width
                for first in range(0, self.queries, self.rows):
                    at = (example * self.queries + first) * self.channels + head * self.width
                    yield min(self.rows, self.queries - first), at, other

    def place(self, x: paddle.Tensor, at: int, turned: bool = False) -> tuple[int, tuple[int, int]]:
        """Address and strides of a head's part of ``[B, T, C]``."""
        return x.data_ptr() + 4 * at, (1, self.channels) if turned else (self.channels, 1)

    def scores(self, query: paddle.Tensor, key: paddle.Tensor, rows: int, at: int, other: int) -> int:
        """Address of the weights ``[rows, keys]``."""
        address = self.weights.ctypes.data
        ends = self.place(query, at), self.place(key, other, turned=True), (address, (self.keys, 1))
        _multiply((rows, self.width, self.keys), *ends)
        _softmax(rows, self.keys)[0]({_SRC: address, _DST: address})
        return address


def attention(
    query: paddle.Tensor, key: paddle.Tensor, value: paddle.Tensor, heads: int, dropout: float = 0.0
) -> paddle.Tensor:
    """Each query's mixture of the values, ``[B, Q, C]``, ``[B, K, C]``, ``[B, K, C]`` to ``[B, Q, C]``, head by head.

    Scores are divided by the root of a head's channels; each weight is dropped with the probability ``dropout``.
    """
    if dropout:
        value = value * (1 / (1 - dropout))  # what the weights that are kept are multiplied by
    return _Attention.apply(query * (1 / math.sqrt(query.shape[2] // heads)), key, value, heads, Drops(dropout))
