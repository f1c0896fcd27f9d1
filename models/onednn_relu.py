"""Convolutions with ReLU at their end for eager mode on the CPU, in one pass; without gradients.

See :mod:`models.onednn` for where this exists.
"""

import ctypes
import functools
import sys

import paddle

from models.onednn import _BIAS, _DST, _SRC, _WEIGHTS, _Handle, _library, _Plan

paddle.jit.ignore_module([sys.modules[__name__]])  # Paddle 3.0 would leave its translations behind in exported layers

_RELU = 0x20  # of the library's enumerations


@functools.cache
def _relu() -> _Handle:
    """Attributes of a primitive whose results go through ReLU."""
    zeros, operations = (ctypes.c_float(0), ctypes.c_float(0)), _Handle("post_ops", "dnnl_post_ops_create")
    attributes = _Handle("primitive_attr", "dnnl_primitive_attr_create")
    status = _library().dnnl_post_ops_append_eltwise(operations.value, _RELU, *zeros)
    status = status or _library().dnnl_primitive_attr_set_post_ops(attributes.value, operations.value)
    if status:
        raise RuntimeError(f"oneDNN: no ReLU after a convolution, status {status}")
    return attributes


class _WithReLU(_Plan):
    @property
    def attributes(self) -> _Handle:
        return _relu()


_plan = functools.lru_cache(maxsize=256)(_WithReLU)


def conv2d_relu(
    x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, padding: tuple[int, int, int, int]
) -> paddle.Tensor:
    """ReLU of a convolution with stride 1, ``[B, C, H, W] -> [B, K, H', W']``, weight ``[K, C, h, w]``, bias ``[K]``.

    ``padding``: top, bottom, left, right. Its result has no gradient.
    """
    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
    plan = _plan("convolution", tuple(x.shape), tuple(weight.shape), True, (1, 1), (1, 1), padding)
    y = paddle.empty(plan.output_shape)
    plan.forward({_SRC: x, _WEIGHTS: weight, _BIAS: bias, _DST: y})
    return y
