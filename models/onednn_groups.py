"""Layers of many bands or sequences at once for eager mode on the CPU, forward and backward, in few passes.

Paddle's operators work with one lane here, and its products of matrices without instructions of 512 bits on some
processors. oneDNN and NumPy write straight into the results. See :mod:`models.onednn` for where this exists.
"""

import ctypes
import functools
import sys
from collections.abc import Sequence

import numpy as np
import paddle
from paddle.autograd import PyLayer

from models.onednn import _engine, _Handle, _Primitive, _strided, array
from models.onednn_matmul import _multiply

paddle.jit.ignore_module([sys.modules[__name__]])  # Paddle 3.0 would leave its translations behind in exported layers

# Values of the library's enumerations
_FORWARD_TRAINING, _TANH = 64, 0x21
_SRC, _DST = 1, 17


def _view(x: paddle.Tensor) -> np.ndarray:
    """The memory of a contiguous tensor, in its shape; it must not outlive the tensor."""
    return array(x).reshape(x.shape)


# -------------------------------------------------------------------------------------------------------- linear layers


class _Linears(PyLayer):
    @staticmethod
    def forward(ctx, x, *parameters):
        x, parameters = x.contiguous(), [each.contiguous() for each in parameters]
        ctx.save_for_backward(x, *parameters)
        ctx.needs = [not each.stop_gradient for each in (x, *parameters)]
        bands, rows, inner = x.shape
        weights, biases = parameters[:bands], parameters[bands:]
        outer = weights[0].shape[1]
        y = paddle.empty([bands, rows, outer])
        for k in range(bands):
            ends = _place(x, k, (inner, 1)), (weights[k].data_ptr(), (outer, 1)), _place(y, k, (outer, 1))
            _multiply((rows, inner, outer), *ends, bias=biases[k].data_ptr())
        return y

    @staticmethod
    def backward(ctx, dy):
        x, *parameters = ctx.saved_tensor()
        bands, rows, inner = x.shape
        weights, dy = parameters[:bands], dy.contiguous()
        outer = dy.shape[2]
        dx = paddle.empty(x.shape) if ctx.needs[0] else None
        dws = [paddle.empty(weight.shape) for weight in weights]
        for k, (weight, dw) in enumerate(zip(weights, dws, strict=True)):
            if dx is not None:
                ends = _place(dy, k, (outer, 1)), (weight.data_ptr(), (1, outer)), _place(dx, k, (inner, 1))
                _multiply((rows, outer, inner), *ends)
            ends = _place(x, k, (1, inner)), _place(dy, k, (outer, 1)), (dw.data_ptr(), (outer, 1))
            _multiply((inner, rows, outer), *ends)
        sums = np.ones(rows, np.float32) @ _view(dy)  # [K, out]
        found = [dx, *dws, *(paddle.to_tensor(each) for each in sums)]
        return tuple(gradient if need else None for gradient, need in zip(found, ctx.needs, strict=True))


def _place(x: paddle.Tensor, band: int, strides: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """Address and strides of one band's matrix."""
    return x.data_ptr() + 4 * band * x.shape[1] * x.shape[2], strides


def linears(x: paddle.Tensor, weights: Sequence[paddle.Tensor], biases: Sequence[paddle.Tensor]) -> paddle.Tensor:
    """``[K, rows, in] -> [K, rows, out]`` with K weights ``[in, out]`` and K biases ``[out]``."""
    return _Linears.apply(x, *weights, *biases)


# ------------------------------------------------------------------------------------------------------------ functions


@functools.lru_cache(maxsize=64)
def _tanh(count: int) -> _Primitive:
    flat, zeros = _strided((count,), (1,)), (ctypes.c_float(0), ctypes.c_float(0))
    create = "dnnl_eltwise_forward_primitive_desc_create"
    descriptor = _Handle("primitive_desc", create, _engine(), _FORWARD_TRAINING, _TANH, flat, flat, *zeros, None)
    return _Primitive(descriptor, {_SRC: flat, _DST: flat})


class _Tanh(PyLayer):
    @staticmethod
    def forward(ctx, x):
        x, y = x.contiguous(), paddle.empty(x.shape)
        _tanh(x.size)({_SRC: x.data_ptr(), _DST: y.data_ptr()})
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, dy):
        (y,) = ctx.saved_tensor()
        dy, dx = dy.contiguous(), paddle.empty(y.shape)
        slope = array(dx)
        np.square(array(y), out=slope)
        np.subtract(1.0, slope, out=slope)
        slope *= array(dy)
        return dx


def tanh(x: paddle.Tensor) -> paddle.Tensor:
    """``F.tanh`` of any shape."""
    return _Tanh.apply(x)


# ------------------------------------------------------------------------------------------------------------ sequences


class _NormaliseSteps(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, bias, epsilon):
        x, y = x.contiguous(), paddle.empty(x.shape)
        values, result = _view(x), _view(y)
        mean = values.mean(axis=0)  # [M, N]
        np.subtract(values, mean, out=result)
        variance = np.einsum("smn,smn->mn", result, result) / len(values)
        ratio = 1 / np.sqrt(variance + np.float32(epsilon))
        result *= ratio * array(weight)
        result += array(bias)
        ctx.save_for_backward(x, weight)
        ctx.statistics, ctx.needs = (mean, ratio), [not each.stop_gradient for each in (x, weight, bias)]
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensor()
        (mean, ratio), dy, dx = ctx.statistics, dy.contiguous(), paddle.empty(x.shape)
        slopes, result, steps = _view(dy), _view(dx), x.shape[0]
        np.subtract(_view(x), mean, out=result)
        result *= ratio
        level = slopes.mean(axis=0)
        tilt = np.einsum("smn,smn->mn", slopes, result) / steps
        result *= -tilt
        result += slopes
        result -= level
        result *= ratio * array(weight)
        found = dx, paddle.to_tensor(steps * tilt.sum(axis=0)), paddle.to_tensor(steps * level.sum(axis=0))
        return tuple(gradient if need else None for gradient, need in zip(found, ctx.needs, strict=True))


def normalise_steps(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, epsilon: float) -> paddle.Tensor:
    """Every feature of every sequence ``[S, M, N]`` to mean 0 and variance 1 over its steps, then ``[N]`` factors."""
    return _NormaliseSteps.apply(x, weight, bias, epsilon)


class _AddAndTurn(PyLayer):
    @staticmethod
    def forward(ctx, a, b):
        ctx.needs = [not each.stop_gradient for each in (a, b)]
        steps, batch, others, features = a.shape
        a, b, y = a.contiguous(), b.contiguous(), paddle.empty([others, batch, steps, features])
        np.add(_view(a), _view(b), out=_view(y).transpose(2, 1, 0, 3))
        return y

    @staticmethod
    def backward(ctx, dy):
        others, batch, steps, features = dy.shape
        dy = dy.contiguous()
        # two tensors, because each of them may be added to
        both = [paddle.empty([steps, batch, others, features]) if need else None for need in ctx.needs]
        for each in both:
            if each is not None:
                np.copyto(_view(each), _view(dy).transpose(2, 1, 0, 3))
        return tuple(both)


def add_and_turn(a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
    """The sum of two tensors ``[S, B, K, N]`` as ``[K, B, S, N]``."""
    return _AddAndTurn.apply(a, b)
