"""oneDNN convolutions for eager mode on the CPU, forward and backward.

Paddle's CPU wheel ships oneDNN, but eager mode computes 2-D convolutions without it, at a fraction of its speed. Here
the library's C interface (version 3) is driven through ``ctypes``: plain contiguous ``[B, C, H, W]`` float32 tensors in
and out, the library's own blocked layouts inside, one set of primitives cached per shape. Padding may differ on the
four sides. :func:`usable` says where this path exists; elsewhere callers take Paddle's operators, which compute the
same within float32 rounding. The environment variable ``PADDLESTEMS_ONEDNN=0`` switches it off.
"""

import ctypes
import functools
import os
import pathlib
import sys
import threading
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

paddle.jit.ignore_module([sys.modules[__name__]])  # Paddle 3.0 would leave its translations behind in exported layers

# Values of the library's enumerations
_F32, _ANY_LAYOUT, _CPU, _IN_ORDER, _FORWARD_TRAINING = 3, 1, 1, 1, 64
_ALGORITHM = {"convolution": 1, "deconvolution": 10}
_SRC, _DST, _WEIGHTS, _BIAS = 1, 17, 33, 41
_DIFF_SRC, _DIFF_DST, _DIFF_WEIGHTS, _DIFF_BIAS = 129, 145, 161, 169
_LAYOUT_QUERY = {_SRC: 129, _DIFF_SRC: 130, _WEIGHTS: 131, _DIFF_WEIGHTS: 132, _DST: 133, _DIFF_DST: 134}
_INPUTS = {_SRC, _WEIGHTS, _BIAS, _DIFF_DST}
_Dims, _Floats = ctypes.c_int64 * 12, ctypes.POINTER(ctypes.c_float)
_FEW = 4  # channels; the library works in blocks of 16, and some of its kernels are slow when most of a block is empty


class _Argument(ctypes.Structure):
    _fields_: ClassVar = [("argument", ctypes.c_int), ("memory", ctypes.c_void_p)]


class _Version(ctypes.Structure):
    _fields_: ClassVar = [("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int)]


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The library that Paddle itself has loaded, or None where there is none of the right version."""
    if os.environ.get("PADDLESTEMS_ONEDNN", "1") == "0":
        return None
    try:
        library = ctypes.CDLL(str(pathlib.Path(paddle.__file__).parent / "libs" / "libdnnl.so.3"))
    except OSError:
        return None
    library.dnnl_version.restype = ctypes.POINTER(_Version)
    library.dnnl_primitive_desc_query_md.restype = ctypes.c_void_p
    library.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
    return library if library.dnnl_version().contents.major == 3 else None


def usable(x: paddle.Tensor) -> bool:
    """Whether ``x`` can go through this path: a non-empty float32 tensor on the CPU in eager mode."""
    return (
        paddle.in_dynamic_mode()
        and x.dtype == paddle.float32
        and x.place.is_cpu_place()
        and x.size > 0
        and bool(_library())
    )


class _Handle:
    """An object of the library, destroyed together with this one."""

    def __init__(self, kind: str, constructor: str, *arguments):
        self.value = ctypes.c_void_p()
        self._destroy = getattr(_library(), f"dnnl_{kind}_destroy")
        arguments = [a.value if isinstance(a, _Handle) else a for a in arguments]
        status = getattr(_library(), constructor)(ctypes.byref(self.value), *arguments)
        if status:
            raise RuntimeError(f"oneDNN: {constructor} returned status {status}")

    def __del__(self):
        if getattr(self, "value", None):
            self._destroy(self.value)


@functools.cache
def _engine() -> _Handle:
    return _Handle("engine", "dnnl_engine_create", _CPU, ctypes.c_size_t(0))


@functools.cache
def _stream() -> _Handle:
    return _Handle("stream", "dnnl_stream_create", _engine(), _IN_ORDER)


def _strided(shape: Sequence[int], strides: Sequence[int]) -> _Handle:
    create = "dnnl_memory_desc_create_with_strides"
    return _Handle("memory_desc", create, len(shape), _Dims(*shape), _F32, _Dims(*strides))


def _contiguous(shape: Sequence[int]) -> _Handle:
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    return _strided(shape, strides)


def _any_layout(shape: Sequence[int]) -> _Handle:
    create = "dnnl_memory_desc_create_with_tag"
    return _Handle("memory_desc", create, len(shape), _Dims(*shape), _F32, _ANY_LAYOUT)


def _memory(layout: _Handle | ctypes.c_void_p, data: ctypes.c_void_p | None) -> _Handle:
    return _Handle("memory", "dnnl_memory_create", layout, _engine(), data)


def _point(memory: _Handle, tensor: paddle.Tensor) -> None:
    """Lets a memory of the library be that of a tensor."""
    _library().dnnl_memory_set_data_handle(memory.value, ctypes.c_void_p(tensor.data_ptr()))


def array(x: paddle.Tensor) -> np.ndarray:
    """The memory of a contiguous float32 tensor on the CPU as a flat array; it must not outlive the tensor."""
    return np.ctypeslib.as_array(ctypes.cast(x.data_ptr(), _Floats), (x.size,))


class _Step:
    """One primitive bound to its memories."""

    def __init__(self, descriptor: _Handle, memories: dict[int, _Handle]):
        self.primitive = _Handle("primitive", "dnnl_primitive_create", descriptor)
        self.arguments = (_Argument * len(memories))(*((a, m.value.value) for a, m in memories.items()))

    def run(self) -> None:
        status = _library().dnnl_primitive_execute(
            self.primitive.value, _stream().value, len(self.arguments), self.arguments
        )
        if status:
            raise RuntimeError(f"oneDNN: a primitive returned status {status}")


class _Primitive:
    """A primitive between memories whose addresses each call gives."""

    def __init__(self, descriptor: _Handle, layouts: dict[int, _Handle]):
        self.primitive = _Handle("primitive", "dnnl_primitive_create", descriptor)
        self.memories = {argument: _memory(layout, None) for argument, layout in layouts.items()}
        self.arguments = (_Argument * len(layouts))(*((a, m.value.value) for a, m in self.memories.items()))
        self.lock = threading.Lock()  # the memories are this object's, so one call at a time

    def __call__(self, addresses: dict[int, int]) -> None:
        with self.lock:
            for argument, address in addresses.items():
                memory = self.memories[argument].value
                _library().dnnl_memory_set_data_handle(memory, ctypes.c_void_p(address))
            count = len(self.arguments)
            status = _library().dnnl_primitive_execute(self.primitive.value, _stream().value, count, self.arguments)
        if status:
            raise RuntimeError(f"oneDNN: a primitive returned status {status}")


class _Operation:
    """A convolution between plain layouts: reorders in, the primitive, reorders out."""

    def __init__(self, descriptor: _Handle, plain: dict[int, _Handle]):
        self.lock = threading.Lock()  # the memories are this object's, so one call at a time
        self.outer = {argument: _memory(layout, None) for argument, layout in plain.items()}
        self.inner = dict(self.outer)
        self.blocked: list[tuple[_Handle, int]] = []  # memories in the library's own layouts, and their sizes in bytes
        before, after = [], []
        for argument, query in _LAYOUT_QUERY.items():
            if argument not in plain:
                continue
            wanted = ctypes.c_void_p(_library().dnnl_primitive_desc_query_md(descriptor.value, query, 0))
            if _library().dnnl_memory_desc_equal(wanted, plain[argument].value):
                continue
            self.inner[argument] = _memory(wanted, None)
            self.blocked.append((self.inner[argument], _library().dnnl_memory_desc_get_size(wanted)))
            pair = (plain[argument], wanted), (self.outer[argument], self.inner[argument])
            layouts, memories = pair if argument in _INPUTS else (pair[0][::-1], pair[1][::-1])
            create = "dnnl_reorder_primitive_desc_create"
            reorder = _Handle("primitive_desc", create, layouts[0], _engine(), layouts[1], _engine(), None)
            (before if argument in _INPUTS else after).append(_Step(reorder, {_SRC: memories[0], _DST: memories[1]}))
        self.steps = [*before, _Step(descriptor, self.inner), *after]

    def __call__(self, tensors: dict[int, paddle.Tensor]) -> None:
        # borrowed from Paddle for the call: kept, the buffers of all shapes would take several times a network's memory
        buffers = [paddle.empty([size], dtype="uint8") for _, size in self.blocked]
        with self.lock:
            for argument, tensor in tensors.items():
                _point(self.outer[argument], tensor)
            for (memory, _), buffer in zip(self.blocked, buffers, strict=True):
                _point(memory, buffer)
            for step in self.steps:
                step.run()


class _Plan:
    """The forward and backward operations of one convolution with fixed shapes."""

    attributes: _Handle | None = None  # of the forward pass, see models.onednn_residual

    def __init__(self, kind: str, x: tuple, weight: tuple, bias: bool, stride: tuple, dilation: tuple, padding: tuple):
        top, bottom, left, right = padding
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight[2:], strict=True)]
        sides = list(zip(x[2:], (top + bottom, left + right), reach, stride, strict=True))
        if kind == "convolution":
            outputs, size = weight[0], [(n + pad - k) // s + 1 for n, pad, k, s in sides]
            self.weight, weight_any = _contiguous(weight), _any_layout(weight)
        else:
            outputs, size = weight[1], [(n - 1) * s + k - pad for n, pad, k, s in sides]
            # Paddle stores [in, out, kh, kw]; the library speaks of [out, in, kh, kw]: the same memory, other strides
            shape, area = (weight[1], weight[0], *weight[2:]), weight[2] * weight[3]
            self.weight, weight_any = _strided(shape, (area, weight[1] * area, weight[3], 1)), _any_layout(shape)
        self.kind, self.output_shape, self.bias_shape = kind, [x[0], outputs, *size], [outputs]
        self.x, self.y = _contiguous(x), _contiguous(self.output_shape)
        self.bias = _contiguous(self.bias_shape) if bias else None
        self.any = _any_layout(x), weight_any, _any_layout(self.output_shape)
        dilates = _Dims(*(d - 1 for d in dilation))  # the library counts the skipped points
        self.geometry = _Dims(*stride), dilates, _Dims(top, left), _Dims(bottom, right)
        x_any, w_any, y_any = self.any
        self.hint = self._describe("forward", _FORWARD_TRAINING, x_any, w_any, self.bias, y_any)

    def _describe(self, direction: str, *arguments) -> _Handle:
        """A primitive descriptor; ``arguments`` are what comes between the algorithm and the geometry."""
        head = [_engine()]
        if direction == "forward":
            head.append(arguments[0])
            arguments = arguments[1:]
        create = f"dnnl_{self.kind}_{direction}_primitive_desc_create"
        tail = [self.attributes] if direction == "forward" else [self.hint, None]
        return _Handle("primitive_desc", create, *head, _ALGORITHM[self.kind], *arguments, *self.geometry, *tail)

    @functools.cached_property
    def forward(self) -> _Operation:
        with_bias = {_BIAS: self.bias} if self.bias else {}
        return _Operation(self.hint, {_SRC: self.x, _WEIGHTS: self.weight, **with_bias, _DST: self.y})

    @functools.cached_property
    def backward_data(self) -> _Operation:
        descriptor = self._describe("backward_data", *self.any)
        return _Operation(descriptor, {_DIFF_SRC: self.x, _WEIGHTS: self.weight, _DIFF_DST: self.y})

    @functools.cached_property
    def backward_weights(self) -> _Operation:
        x_any, w_any, y_any = self.any
        descriptor = self._describe("backward_weights", x_any, w_any, self.bias, y_any)
        with_bias = {_DIFF_BIAS: self.bias} if self.bias else {}
        return _Operation(descriptor, {_SRC: self.x, _DIFF_WEIGHTS: self.weight, **with_bias, _DIFF_DST: self.y})


_plan = functools.lru_cache(maxsize=256)(_Plan)


def _compute(kind: str, x, weight, bias, stride: tuple, dilation: tuple, padding: tuple) -> paddle.Tensor:
    """The forward pass, outside of the gradient tape."""
    if kind == "deconvolution" and weight.shape[1] < _FEW:  # a matrix product, which Paddle's operator is
        return F.conv2d_transpose(x, weight, bias, list(stride), list(padding))
    plan = _plan(kind, tuple(x.shape), tuple(weight.shape), bias is not None, stride, dilation, padding)
    y = paddle.empty(plan.output_shape)
    plan.forward({_SRC: x, _WEIGHTS: weight, _DST: y} | ({} if bias is None else {_BIAS: bias}))
    return y


def _gradient_of_few(dy, weight, dilation: tuple, padding: tuple) -> paddle.Tensor:
    """Gradient of a stride-1 convolution's input as a forward pass with the kernel turned round."""
    turned = weight.flip([2, 3]).transpose([1, 0, 2, 3]).contiguous()
    return _compute("convolution", dy, turned, None, (1, 1), dilation, _rest(weight, dilation, padding))


def _rest(weight, dilation: tuple, padding: tuple) -> tuple[int, ...]:
    """What full padding has more than ``padding`` on each side."""
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True) for _ in range(2)]
    return tuple(full - given for full, given in zip(reach, padding, strict=True))


class _Convolution(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, bias, *how):
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.bias = how, None if bias is None else bias.shape
        ctx.with_data, ctx.with_weights = not x.stop_gradient, not weight.stop_gradient
        return _compute(how[0], x, weight, bias, *how[1:])

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensor()
        kind, stride, dilation, padding = ctx.how
        plan = _plan(kind, tuple(x.shape), tuple(weight.shape), ctx.bias is not None, stride, dilation, padding)
        dy = dy.contiguous()
        dx = dw = db = None
        if ctx.with_data:
            few = kind == "convolution" and stride == (1, 1) and x.shape[1] < _FEW
            if few and min(_rest(weight, dilation, padding)) >= 0:
                dx = _gradient_of_few(dy, weight, dilation, padding)
            else:
                dx = paddle.empty(x.shape)
                plan.backward_data({_DIFF_SRC: dx, _WEIGHTS: weight, _DIFF_DST: dy})
        if ctx.with_weights:
            dw = paddle.empty(weight.shape)
            tensors = {_SRC: x, _DIFF_WEIGHTS: dw, _DIFF_DST: dy}
            if ctx.bias is not None:
                db = tensors[_DIFF_BIAS] = paddle.empty(ctx.bias)
            plan.backward_weights(tensors)
        return (dx, dw) if ctx.bias is None else (dx, dw, db)


def conv2d(
    x: paddle.Tensor,
    weight: paddle.Tensor,
    bias: paddle.Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> paddle.Tensor:
    """``F.conv2d`` of ``[B, C, H, W]`` with weight ``[K, C, kh, kw]``; ``padding`` is top, bottom, left, right."""
    return _Convolution.apply(x, weight, bias, "convolution", stride, dilation, padding)


def conv2d_transpose(
    x: paddle.Tensor,
    weight: paddle.Tensor,
    bias: paddle.Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> paddle.Tensor:
    """``F.conv2d_transpose`` with weight ``[C, K, kh, kw]``; ``padding`` is what the four edges of the result lose."""
    return _Convolution.apply(x, weight, bias, "deconvolution", stride, (1, 1), padding)
