"""Functions made of the kernels that an SDAA card has, where Paddle's own operator has none and goes to the host.

Each of them takes Paddle's operator unless its input is on such a card in eager mode (:func:`holds`): the CPU, CUDA and
exported programs keep their fast kernels. Both ways compute the same within float32 rounding, gradients included. What
is native is in ``runtime/sdaa_kernels.json``. Operators that are made of native ones anyway need nothing here:
``F.glu``, ``F.dropout``, and ``paddle.matmul``, which says what ``bmm`` and ``einsum`` say.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

paddle.jit.ignore_module([sys.modules[__name__]])  # Paddle 3.0 would leave its translations behind in exported layers

Padding = int | Sequence[int]


def holds(x: paddle.Tensor) -> bool:
    """Whether ``x`` is on a plug-in device such as SDAA, in eager mode: the one place that chooses between kernels."""
    return paddle.in_dynamic_mode() and x.place.is_custom_place()


# --------------------------------------------------------------------------------------------------- element by element


class _ELU(PyLayer):
    """Written out because the result holds the gradient (e^x = y + 1 below zero), also at zero, where it is 1."""

    @staticmethod
    def forward(ctx, x: paddle.Tensor) -> paddle.Tensor:
        below = paddle.exp(paddle.clip(x, max=0.0)) - 1.0  # ≥ x everywhere
        y = paddle.maximum(x, below if below.dtype == x.dtype else below.astype(x.dtype))  # float32 by autocast
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient: paddle.Tensor) -> paddle.Tensor:
        (y,) = ctx.saved_tensor()
        return gradient * (paddle.clip(y, max=0.0) + 1.0)


def elu(x: paddle.Tensor) -> paddle.Tensor:
    """x above zero, e^x − 1 below; any shape."""
    return _ELU.apply(x) if holds(x) else F.elu(x)


def log1p(x: paddle.Tensor) -> paddle.Tensor:
    """log(1 + x); any shape. On a card its absolute error is that of 1 + x, 6e-8."""
    return paddle.log(x + 1.0) if holds(x) else paddle.log1p(x)


def sign(x: paddle.Tensor) -> paddle.Tensor:
    """−1, 0 or 1 (for NaN 0 on a card); any shape; its gradient is zero."""
    if not holds(x):
        return paddle.sign(x)
    return _positive(x).astype(x.dtype) - _positive(-x).astype(x.dtype)


def _positive(x: paddle.Tensor) -> paddle.Tensor:
    """Where x > 0; the card compares at most four dimensions, so one is made of them."""
    flat = x.detach().reshape([-1])
    return (flat > paddle.zeros_like(flat)).reshape(x.shape)


class _Atan2(PyLayer):
    """The tangent is taken in the octant beside an axis, where it is at most 1; the gradient is a closed formula."""

    @staticmethod
    def forward(ctx, y: paddle.Tensor, x: paddle.Tensor) -> paddle.Tensor:
        ctx.save_for_backward(y, x)
        height, width = y.abs(), x.abs()
        steep = _positive(height - width)
        shorter, longer = paddle.where(steep, width, height), paddle.where(steep, height, width)
        longer = paddle.where(_positive(longer), longer, paddle.ones_like(longer))  # the angle of nothing is 0
        angle = paddle.atan(shorter / longer)
        angle = paddle.where(steep, math.pi / 2 - angle, angle)
        angle = paddle.where(_positive(-x), math.pi - angle, angle)
        return paddle.where(_positive(-y), -angle, angle)

    @staticmethod
    def backward(ctx, gradient: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        y, x = ctx.saved_tensor()
        share = gradient / (x * x + y * y)
        return x * share, -y * share


def atan2(y: paddle.Tensor, x: paddle.Tensor) -> paddle.Tensor:
    """The angle of (x, y) in [−π, π], for two tensors of one shape; a card knows no zero with a sign."""
    return _Atan2.apply(y, x) if holds(x) else paddle.atan2(y, x)


# ---------------------------------------------------------------------------------------------------------- along axes


def cut(x: paddle.Tensor, axis: int, first: int, last: int) -> paddle.Tensor:
    """``x[first:last]`` on an axis."""
    return paddle.slice(x, [axis], [first], [last])


def pad(
    x: paddle.Tensor,
    before: int,
    after: int,
    axis: int = -1,
    mode: Literal["constant", "reflect", "replicate", "circular"] = "constant",
) -> paddle.Tensor:
    """Lengthens one axis: with zeros, mirrored without the edge, with the edge, or with the other end.

    Reflected and circular padding may be no longer than the axis (less one where reflected).
    """
    axis %= x.ndim
    if not before and not after:
        return x
    if holds(x):
        parts = [_margin(x, before, axis, mode, True), x, _margin(x, after, axis, mode, False)]
        return paddle.concat([part for part in parts if part is not None], axis)
    if mode == "constant":
        return F.pad(x, [0, 0] * axis + [before, after] + [0, 0] * (x.ndim - axis - 1))
    shape = list(x.shape)
    flat = x.reshape([-1, shape[axis], math.prod(shape[axis + 1 :])])
    shape[axis] += before + after
    return F.pad(flat, [before, after], mode, data_format="NLC").reshape(shape)


def _margin(x: paddle.Tensor, count: int, axis: int, mode: str, front: bool) -> paddle.Tensor | None:
    """What stands before or after ``x`` on an axis; a card cannot join nothing."""
    if not count:
        return None
    size, shape = x.shape[axis], [*x.shape[:axis], count, *x.shape[axis + 1 :]]
    if mode == "constant":
        return paddle.zeros(shape, x.dtype)
    if mode == "replicate":
        return (cut(x, axis, 0, 1) if front else cut(x, axis, size - 1, size)).expand(shape)
    if mode == "circular":
        return cut(x, axis, size - count, size) if front else cut(x, axis, 0, count)
    edge = cut(x, axis, 1, count + 1) if front else cut(x, axis, size - 1 - count, size - 1)
    return paddle.flip(edge, [axis])


def roll(x: paddle.Tensor, shift: int, axis: int) -> paddle.Tensor:
    """Moves everything by ``shift`` along an axis; what leaves at one end comes in at the other."""
    if not holds(x):
        return paddle.roll(x, shift, axis)
    size = x.shape[axis]
    shift %= size
    return paddle.concat([cut(x, axis, size - shift, size), cut(x, axis, 0, size - shift)], axis) if shift else x


def upsample_linear(x: paddle.Tensor, factor: int) -> paddle.Tensor:
    """``[..., N] -> [..., N·factor]``: values on the straight lines between the centres of the given ones."""
    size, shape = x.shape[-1], x.shape
    if not holds(x):
        flat = x.reshape([1, -1, size])
        done = F.interpolate(flat, scale_factor=float(factor), mode="linear", align_corners=False, data_format="NCW")
        return done.reshape([*shape[:-1], size * factor])
    centre = [(phase + 0.5) / factor - 0.5 for phase in range(factor)]  # in steps of the input
    shares = [[max(-c, 0.0) for c in centre], [1.0 - abs(c) for c in centre], [max(c, 0.0) for c in centre]]
    padded = pad(x, 1, 1, mode="replicate")
    neighbours = paddle.stack([cut(padded, -1, shift, shift + size) for shift in range(3)], axis=-1)  # [..., N, 3]
    shares = paddle.to_tensor(shares, dtype=x.dtype, place=x.place)
    return paddle.matmul(neighbours, shares).reshape([*shape[:-1], size * factor])


# ------------------------------------------------------------------------------------------------------- normalisation


def group_norm(
    x: paddle.Tensor,
    groups: int,
    weight: paddle.Tensor | None = None,
    bias: paddle.Tensor | None = None,
    epsilon: float = 1e-5,
) -> paddle.Tensor:
    """Each group of channels of each example to mean 0 and variance 1, then scale and shift a channel.

    ``[B, C, ...]`` with at least one axis after the channels; ``weight`` and ``bias`` ``[C]``.
    """
    if not holds(x):
        # the kernel takes the square of the mean from the mean of the squares: nothing of the variance of groups that
        # are almost constant, as silence makes them, would be left. The gradient does not depend on the offset
        members = x.reshape([0, groups, -1])
        centred = (members - members.mean(2, keepdim=True).detach()).reshape(x.shape)
        flat = centred.flatten(2)  # Paddle knows the layouts of a few ranks only
        return F.group_norm(flat, groups, epsilon, weight, bias, data_format="NCL").reshape(x.shape)
    flat = x.reshape([x.shape[0] * groups, -1])
    y = F.layer_norm(flat, flat.shape[1:], epsilon=epsilon).reshape(x.shape)  # one kernel for mean, variance and ratio
    channels = [1, -1, *[1] * (x.ndim - 2)]
    if weight is not None:
        y = y * weight.reshape(channels)
    return y if bias is None else y + bias.reshape(channels)


# --------------------------------------------------------------------------------------------------------- convolutions
#
# The card refuses groups (unless there is one a channel) and padding that differs between the two ends of an axis.
# Uneven padding is made even by going back whole strides and leaving out the results that come too early: one slice of
# the results. To join zeros to the input would copy the whole of it once an axis, and the input of a convolution with
# stride 2 is larger than its result; a filter with a row of zeros would multiply by them at every place.


def conv2d(
    x: paddle.Tensor,
    weight: paddle.Tensor,
    bias: paddle.Tensor | None = None,
    stride: Padding = 1,
    padding: Padding = 0,
    dilation: Padding = 1,
    groups: int = 1,
) -> paddle.Tensor:
    """``[B, C, H, W] -> [B, K, H', W']`` with ``weight`` ``[K, C/groups, h, w]``, ``bias`` ``[K]``.

    ``padding``: one for all sides, ``[height, width]``, or ``[top, bottom, left, right]``.
    """
    if not holds(x):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if groups not in (1, x.shape[1]):
        return _in_groups(conv2d, x, weight, bias, groups, stride, padding, dilation)
    ends, even, first, last = _ends(padding), [], [], []
    for axis, (before, after) in enumerate(ends):
        step, spread = _pair(stride)[axis], _pair(dilation)[axis]
        skipped = max(-((before - after) // step), 0)
        span = x.shape[2 + axis] + before + after - spread * (weight.shape[2 + axis] - 1) - 1
        even.append(before + skipped * step)
        first.append(skipped)
        last.append(skipped + span // step + 1)
    y = F.conv2d(x, weight, bias, stride, even, dilation, groups)
    return y if _is_even(ends) else paddle.slice(y, [2, 3], first, last)


def conv2d_transpose(
    x: paddle.Tensor,
    weight: paddle.Tensor,
    bias: paddle.Tensor | None = None,
    stride: Padding = 1,
    padding: Padding = 0,
    groups: int = 1,
) -> paddle.Tensor:
    """``[B, C, H, W] -> [B, K, H', W']`` with ``weight`` ``[C, K/groups, h, w]``, ``bias`` ``[K]``.

    ``padding`` as in :func:`conv2d`: what is cut off the ends of the full result.
    """
    if not holds(x):
        return F.conv2d_transpose(x, weight, bias, stride, padding, groups=groups)
    if groups != 1:
        return _in_groups(conv2d_transpose, x, weight, bias, groups, stride, padding)
    ends = _ends(padding)
    y = F.conv2d_transpose(x, weight, bias, stride, [min(pair) for pair in ends])
    if _is_even(ends):
        return y
    first = [max(before - after, 0) for before, after in ends]
    last = [size - max(after - before, 0) for size, (before, after) in zip(y.shape[2:], ends, strict=True)]
    return paddle.slice(y, [2, 3], first, last)


def conv1d(
    x: paddle.Tensor,
    weight: paddle.Tensor,
    bias: paddle.Tensor | None = None,
    stride: int = 1,
    padding: Padding = 0,
    dilation: int = 1,
    groups: int = 1,
) -> paddle.Tensor:
    """``[B, C, N] -> [B, K, N']`` with ``weight`` ``[K, C/groups, k]``; ``padding``: one, or ``[before, after]``.

    On a card it is a convolution over one row, which has a kernel for one group a channel.
    """
    if not holds(x):
        return F.conv1d(x, weight, bias, stride, padding, dilation, groups)
    before, after = _pair(padding)
    y = conv2d(_row(x), _row(weight), bias, [1, stride], [0, 0, before, after], [1, dilation], groups)
    return y.reshape([*y.shape[:2], -1])


def conv1d_transpose(
    x: paddle.Tensor,
    weight: paddle.Tensor,
    bias: paddle.Tensor | None = None,
    stride: int = 1,
    padding: Padding = 0,
    groups: int = 1,
) -> paddle.Tensor:
    """``[B, C, N] -> [B, K, N']`` with ``weight`` ``[C, K/groups, k]``; ``padding``: one, or ``[before, after]``."""
    if not holds(x):
        return F.conv1d_transpose(x, weight, bias, stride, padding, groups=groups)
    before, after = _pair(padding)
    y = conv2d_transpose(_row(x), _row(weight), bias, [1, stride], [0, 0, before, after], groups)
    return y.reshape([*y.shape[:2], -1])


def _row(x: paddle.Tensor) -> paddle.Tensor:
    return x.reshape([*x.shape[:2], 1, x.shape[2]])


def _pair(value: Padding) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _ends(padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding before and after on both axes."""
    if isinstance(padding, int) or len(padding) == 2:
        height, width = _pair(padding)
        return (height, height), (width, width)
    return tuple(padding[:2]), tuple(padding[2:])


def _is_even(ends: Sequence[tuple[int, int]]) -> bool:
    return all(before == after for before, after in ends)


def _in_groups(
    operator: Callable,
    x: paddle.Tensor,
    weight: paddle.Tensor,
    bias: paddle.Tensor | None,
    groups: int,
    *options: Padding,
) -> paddle.Tensor:
    """One convolution a group, and their results side by side."""
    biases = [None] * groups if bias is None else paddle.split(bias, groups)
    parts = zip(paddle.split(x, groups, 1), paddle.split(weight, groups, 0), biases, strict=True)
    return paddle.concat([operator(*part, *options) for part in parts], axis=1)
