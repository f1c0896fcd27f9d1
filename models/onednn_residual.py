"""Residual blocks of convolutions for eager mode on the CPU, without gradients, in the library's own layouts.

A convolution between plain layouts turns its input into oneDNN's layout and its result back, which takes a third of the
time that it computes. Here pictures keep that layout from the first convolution of a chain to the last one, and what
follows a convolution (normalisation, ReLU, the way past it) is done while its result is in the processor's cache. See
:mod:`models.onednn` for where this exists.
"""

import ctypes
import functools
import sys
from collections.abc import Iterable
from typing import NamedTuple

import paddle

from models.onednn import (
    _BIAS,
    _DST,
    _F32,
    _LAYOUT_QUERY,
    _SRC,
    _WEIGHTS,
    _contiguous,
    _engine,
    _Handle,
    _library,
    _Plan,
    _Primitive,
)

paddle.jit.ignore_module([sys.modules[__name__]])  # Paddle 3.0 would leave its translations behind in exported layers

# Values of the library's enumerations
_RELU, _ADD, _MULTIPLY = 0x20, 0x1FFF0, 0x1FFF1
_SECOND = 2  # operand of two
_FACTOR, _SHIFT = (32768 * (place + 1) | _SECOND for place in range(2))  # operands of what follows a primitive


class Convolution(NamedTuple):
    """ReLU of a normalised convolution: weight ``[K, C, h, w]`` with h and w odd, factor ``[K]``, shift ``[K]``."""

    weight: paddle.Tensor
    factor: paddle.Tensor
    shift: paddle.Tensor


class Block(NamedTuple):
    """Two convolutions that keep the size, and a 1×1 convolution past them, weight and bias; None: as it is."""

    first: Convolution
    second: Convolution
    shortcut: tuple[paddle.Tensor, paddle.Tensor] | None


def _attributes(steps: list[tuple]) -> _Handle:
    """Attributes of a primitive whose result goes through the steps: names of functions and their arguments."""
    operations, attributes = (_Handle(kind, f"dnnl_{kind}_create") for kind in ("post_ops", "primitive_attr"))
    status = 0
    for name, *arguments in steps:
        status = status or getattr(_library(), f"dnnl_post_ops_append_{name}")(operations.value, *arguments)
    if status or _library().dnnl_primitive_attr_set_post_ops(attributes.value, operations.value):
        raise RuntimeError("oneDNN: nothing can follow this primitive")
    return attributes


def _normalised_relu(channels: int) -> _Handle:
    each, none = _contiguous([1, channels, 1, 1]), ctypes.c_float(0)
    factor, shift = ("binary", _MULTIPLY, each.value), ("binary", _ADD, each.value)
    return _attributes([factor, shift, ("eltwise", _RELU, none, none)])


def _added() -> _Handle:
    return _attributes([("sum", ctypes.c_float(1), ctypes.c_int32(0), _F32)])


class _Layer(_Plan):
    """A convolution between layouts of the library; ``follow``: what comes after it, "norm" or "sum"."""

    def __init__(self, follow: str, kind: str, x: tuple, weight: tuple, *geometry: tuple):
        outputs = weight[0] if kind == "convolution" else weight[1]
        self.attributes = _normalised_relu(outputs) if follow == "norm" else _added()
        super().__init__(kind, x, weight, follow == "sum", *geometry)
        own = {each: _own(self.hint, _LAYOUT_QUERY[each]) for each in (_SRC, _WEIGHTS, _DST)}
        self.into, self.out, self.turn = own[_SRC], own[_DST], _reorder(self.weight, own[_WEIGHTS])
        self.weights_size = _size(own[_WEIGHTS])
        one = _contiguous([1, outputs, 1, 1])
        self.compute = _Primitive(self.hint, own | ({_BIAS: self.bias} if self.bias else {_FACTOR: one, _SHIFT: one}))

    def weights(self, weight: paddle.Tensor) -> paddle.Tensor:
        memory = paddle.empty([self.weights_size], "uint8")
        self.turn({_SRC: weight.contiguous().data_ptr(), _DST: memory.data_ptr()})
        return memory


_layer = functools.lru_cache(maxsize=256)(_Layer)


def _own(descriptor: _Handle, query: int) -> _Handle:
    """The layout that a primitive has chosen."""
    layout = ctypes.c_void_p(_library().dnnl_primitive_desc_query_md(descriptor.value, query, 0))
    return _Handle("memory_desc", "dnnl_memory_desc_clone", layout)


def _size(layout: _Handle) -> int:
    return _library().dnnl_memory_desc_get_size(layout.value)


def _reorder(source: _Handle, target: _Handle) -> _Primitive:
    create = "dnnl_reorder_primitive_desc_create"
    descriptor = _Handle("primitive_desc", create, source, _engine(), target, _engine(), None)
    return _Primitive(descriptor, {_SRC: source, _DST: target})


class _Picture:
    """Numbers ``[B, C, H, W]`` in some layout."""

    def __init__(self, shape: list[int], layout: _Handle, memory: paddle.Tensor | None = None):
        self.shape, self.layout = shape, layout
        self.memory = paddle.empty([_size(layout)], "uint8") if memory is None else memory

    @classmethod
    def of(cls, x: paddle.Tensor) -> "_Picture":
        return cls(x.shape, _contiguous(x.shape), x.contiguous())

    def within(self, layout: _Handle) -> "_Picture":
        """The same numbers in another layout."""
        if _library().dnnl_memory_desc_equal(self.layout.value, layout.value):
            return self
        other = _Picture(self.shape, layout)
        _reorder(self.layout, layout)({_SRC: self.memory.data_ptr(), _DST: other.memory.data_ptr()})
        return other

    def plain(self) -> paddle.Tensor:
        y = paddle.empty(self.shape)
        _reorder(self.layout, _contiguous(self.shape))({_SRC: self.memory.data_ptr(), _DST: y.data_ptr()})
        return y

    def normalised(self, how: Convolution, kind: str, stride: tuple, padding: tuple) -> "_Picture":
        """ReLU of a normalised convolution, or of a transposed one."""
        layer = _layer("norm", kind, tuple(self.shape), tuple(how.weight.shape), stride, (1, 1), padding)
        x, y, weights = self.within(layer.into), _Picture(layer.output_shape, layer.out), layer.weights(how.weight)
        ends = {_SRC: x.memory, _WEIGHTS: weights, _DST: y.memory, _FACTOR: how.factor, _SHIFT: how.shift}
        layer.compute({argument: tensor.data_ptr() for argument, tensor in ends.items()})
        return y

    def convolved(self, how: Convolution) -> "_Picture":
        height, width = (size // 2 for size in how.weight.shape[2:])
        return self.normalised(how, "convolution", (1, 1), (height, height, width, width))

    def plus(self, x: "_Picture", shortcut: tuple[paddle.Tensor, paddle.Tensor] | None) -> "_Picture":
        """The sum with another picture, or with a 1×1 convolution of it; this one is not there any more afterwards."""
        if shortcut is None:
            layouts = {_SRC: self.layout, _SRC + 1: x.layout, _DST: self.layout}
            memories = {_SRC: self.memory, _SRC + 1: x.memory, _DST: self.memory}
            create = "dnnl_binary_primitive_desc_create"
            descriptor = _Handle("primitive_desc", create, _engine(), _ADD, *layouts.values(), None)
            _Primitive(descriptor, layouts)({argument: each.data_ptr() for argument, each in memories.items()})
            return self
        weight, bias = shortcut
        layer = _layer("sum", "convolution", tuple(x.shape), tuple(weight.shape), (1, 1), (1, 1), (0, 0, 0, 0))
        x, y, weights = x.within(layer.into), self.within(layer.out), layer.weights(weight)
        ends = {_SRC: x.memory, _WEIGHTS: weights, _BIAS: bias, _DST: y.memory}
        layer.compute({argument: tensor.data_ptr() for argument, tensor in ends.items()})
        return y


def residual(x: paddle.Tensor, blocks: Iterable[Block]) -> paddle.Tensor:
    """Blocks one after the other, ``[B, C, H, W] -> [B, K, H, W]``; the result has no gradient."""
    picture = _Picture.of(x)
    for block in blocks:
        picture = picture.convolved(block.first).convolved(block.second).plus(picture, block.shortcut)
    return picture.plain()


def transposed(x: paddle.Tensor, how: Convolution, stride: tuple, ends: tuple[int, int, int, int]) -> paddle.Tensor:
    """ReLU of a normalised transposed convolution, whose weight is ``[C, K, h, w]``; the result has no gradient.

    ``ends``: what the four edges of the result lose.
    """
    return _Picture.of(x).normalised(how, "deconvolution", stride, ends).plain()
