"""oneDNN's LSTM for eager mode on the CPU, forward and backward: one layer in both directions.

Paddle's own takes three to six times as long. See :mod:`models.onednn` for where this exists. The library notes down
twenty numbers for each one of the result until the gradient is asked for: networks with many layers would need tens of
gigabytes. So notes are kept up to a limit, and beyond it made again for the gradient. The results are the same.
"""

import ctypes
import functools
import sys
from collections.abc import Sequence
from typing import ClassVar

import paddle
from paddle.autograd import PyLayer

from models.onednn import _any_layout, _contiguous, _engine, _Handle, _library, _Primitive, _strided

paddle.jit.ignore_module([sys.modules[__name__]])  # Paddle 3.0 would leave its translations behind in exported layers

# Values of the library's enumerations
_FORWARD_TRAINING, _FORWARD_INFERENCE, _BACKWARD = 64, 96, 128
_BOTH = 3  # directions, their states side by side
_KEPT = 8 << 30  # bytes of notes that are kept; they fill little more than half of them
_LAYOUT_OF = 255  # query for the layout of an argument
_SRC, _DST = 1, 17
_X, _Y, _OWN, _BACK, _BIAS, _WORKSPACE = 1, 17, 33, 34, 41, 64  # weights of the inputs, and of the state before
_DIFF = 128  # the gradient of an argument
_WEIGHTS = (_OWN, _BACK)


def _layout(descriptor: _Handle, argument: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(_library().dnnl_primitive_desc_query_md(descriptor.value, _LAYOUT_OF, argument))


def _buffer(layout: ctypes.c_void_p, zero: bool = False) -> paddle.Tensor:
    size = [_library().dnnl_memory_desc_get_size(layout)]
    return paddle.zeros(size, "uint8") if zero else paddle.empty(size, "uint8")


def _reorder(source: _Handle | ctypes.c_void_p, target: _Handle | ctypes.c_void_p) -> _Primitive:
    create = "dnnl_reorder_primitive_desc_create"
    descriptor = _Handle("primitive_desc", create, source, _engine(), target, _engine(), None)
    return _Primitive(descriptor, {_SRC: source, _DST: target})


class _Pass:
    """A primitive, and what brings weights from PyTorch's layout into its own, and gradients of weights back."""

    def __init__(self, descriptor: _Handle, plain: dict[int, _Handle], arguments: Sequence[int]):
        self.descriptor = descriptor  # the layouts belong to it
        self.layouts = {argument: _layout(descriptor, argument) for argument in arguments}
        self.primitive = _Primitive(descriptor, self.layouts)
        self.into = {key: _reorder(plain[key], self.layouts[key]) for key in _WEIGHTS}
        back = [_DIFF + key for key in _WEIGHTS if _DIFF + key in self.layouts]
        self.out = {key: _reorder(self.layouts[key], plain[key - _DIFF]) for key in back}

    def __call__(self, tensors: dict[int, paddle.Tensor]) -> None:
        own = dict(tensors)
        for key, reorder in self.into.items():
            own[key] = _buffer(self.layouts[key])
            reorder({_SRC: tensors[key].data_ptr(), _DST: own[key].data_ptr()})
        for key in self.out:
            own[key] = _buffer(self.layouts[key], zero=True)  # it is added to
        self.primitive({key: tensor.data_ptr() for key, tensor in own.items()})
        for key, reorder in self.out.items():
            reorder({_SRC: own[key].data_ptr(), _DST: tensors[key].data_ptr()})


class _Plan:
    """The passes of a layer for fixed sizes."""

    def __init__(self, steps: int, batch: int, inputs: int, hidden: int):
        x, y = _contiguous([steps, batch, inputs]), _contiguous([steps, batch, 2 * hidden])
        bias = _contiguous([1, 2, 4, hidden])
        weights = [_any_layout([1, 2, width, 4, hidden]) for width in (inputs, hidden)]
        self.ends = x, None, None, *weights, None, None, bias, y, None, None
        # PyTorch's [4·hidden, width] in the library's order of axes: 1, direction, width, gate, hidden
        self.plain = {
            key: _strided([1, 2, width, 4, hidden], [0, 4 * hidden * width, 1, hidden * width, width])
            for key, width in zip(_WEIGHTS, (inputs, hidden), strict=True)
        }

    def _describe(self, kind: int) -> _Handle:
        create = "dnnl_lstm_forward_primitive_desc_create"
        return _Handle("primitive_desc", create, _engine(), kind, _BOTH, *self.ends, 0, None)

    @functools.cached_property
    def inference(self) -> _Pass:
        return _Pass(self._describe(_FORWARD_INFERENCE), self.plain, [_X, *_WEIGHTS, _BIAS, _Y])

    @functools.cached_property
    def forward(self) -> _Pass:
        return _Pass(self._describe(_FORWARD_TRAINING), self.plain, [_X, *_WEIGHTS, _BIAS, _Y, _WORKSPACE])

    @functools.cached_property
    def backward(self) -> _Pass:
        create, ends = "dnnl_lstm_backward_primitive_desc_create", (*self.ends, *self.ends)
        hint = self.forward.descriptor
        descriptor = _Handle("primitive_desc", create, _engine(), _BACKWARD, _BOTH, *ends, 0, hint, None)
        arguments = [_X, *_WEIGHTS, _BIAS, _Y]
        return _Pass(descriptor, self.plain, [*arguments, _WORKSPACE, *(_DIFF + each for each in arguments)])


_plan = functools.lru_cache(maxsize=64)(_Plan)


def _tensors(x: paddle.Tensor, weights: Sequence[paddle.Tensor]) -> tuple[_Plan, dict[int, paddle.Tensor]]:
    """The plan, its inputs, and room for its result; for ``weights`` see :func:`lstm`."""
    own, back, first, second = (paddle.stack(weights[kind::4]) for kind in range(4))
    steps, batch, inputs = x.shape
    plan = _plan(steps, batch, inputs, back.shape[2])
    y = paddle.empty([steps, batch, 2 * back.shape[2]])
    return plan, {_X: x, _OWN: own, _BACK: back, _BIAS: first + second, _Y: y}


class _Notes:
    """What one forward pass notes down for the gradient, counted as long as it lives.

    Its memory is left to the next notes of the same size: memory that is new to a process costs a tenth of the step.
    """

    kept: ClassVar[int] = 0  # bytes of all
    _left: ClassVar[dict[int, list[paddle.Tensor]]] = {}  # memory of earlier ones, by its size

    def __init__(self, layout: ctypes.c_void_p):
        left = _Notes._left.get(_library().dnnl_memory_desc_get_size(layout))
        if not left:
            _Notes.forget()  # other sizes have come: what is left would lie idle
        self.memory = left.pop() if left else _buffer(layout)
        _Notes.kept += self.memory.size

    def __del__(self):
        if hasattr(self, "memory"):
            _Notes.kept -= self.memory.size
            _Notes._left.setdefault(self.memory.size, []).append(self.memory)

    @staticmethod
    def forget() -> None:
        """Gives back the memory that nobody uses at present."""
        _Notes._left.clear()


class _LSTM(PyLayer):
    @staticmethod
    def forward(ctx, x, *weights):
        plan, tensors = _tensors(x.contiguous(), weights)
        ctx.notes = _Notes(plan.forward.layouts[_WORKSPACE])
        plan.forward({**tensors, _WORKSPACE: ctx.notes.memory})
        if _Notes.kept > _KEPT:
            ctx.notes = None
        ctx.save_for_backward(tensors[_X], tensors[_Y], *weights)
        ctx.needs = [not each.stop_gradient for each in (x, *weights)]
        return tensors[_Y]

    @staticmethod
    def backward(ctx, dy):
        x, y, *weights = ctx.saved_tensor()
        plan, tensors = _tensors(x, weights)
        notes, ctx.notes = ctx.notes, None
        if notes is None:
            notes = _Notes(plan.forward.layouts[_WORKSPACE])
            plan.forward({**tensors, _WORKSPACE: notes.memory})
        gradients = {_DIFF + key: paddle.empty(tensors[key].shape) for key in (_X, *_WEIGHTS)}
        gradients[_DIFF + _BIAS] = paddle.zeros(tensors[_BIAS].shape)  # it is added to, too
        plan.backward({**tensors, _Y: y, _WORKSPACE: notes.memory, _DIFF + _Y: dy.contiguous(), **gradients})
        each = [gradients[_DIFF + key] for key in (*_WEIGHTS, _BIAS)]
        each.append(each[-1].clone())  # gradients are clipped in place, each by itself
        found = gradients[_DIFF + _X], *(part[way] for way in range(2) for part in each)
        return tuple(gradient if need else None for gradient, need in zip(found, ctx.needs, strict=True))


def lstm(x: paddle.Tensor, weights: Sequence[paddle.Tensor]) -> paddle.Tensor:
    """All states ``[T, B, 2·hidden]`` of both directions for inputs ``[T, B, features]``, from states of zeros.

    ``weights``: of the inputs ``[4·hidden, features]``, of the state before ``[4·hidden, hidden]`` and two biases
    ``[4·hidden]``, and the same again for the way back; gates in PyTorch's order.
    """
    if paddle.is_grad_enabled() and not all(each.stop_gradient for each in (x, *weights)):
        return _LSTM.apply(x, *weights)
    _Notes.forget()
    plan, tensors = _tensors(x.contiguous(), weights)
    plan.inference(tensors)
    return tensors[_Y]
