"""Apollo's layers for eager mode on the CPU, forward and backward: from a normalisation to a product, block by block.

What is between the first and the last product of a layer is four to eight times as wide as the feature map. Computed
for a few rows at a time it never leaves the processor's cache; only what the gradient starts from is kept, where there
will be one. See :mod:`models.onednn` for where this exists.
"""

import sys
from collections.abc import Iterator

import numpy as np
import paddle
from paddle.autograd import PyLayer

from models.onednn import array
from models.onednn_bands import product, products, silu, silu_slope, softmax, softmax_slope

paddle.jit.ignore_module([sys.modules[__name__]])  # Paddle 3.0 would leave its translations behind in exported layers

_EPSILON = 1e-5
_BLOCK = 2**20  # numbers of the widest part that are computed at a time


def _rows(x: paddle.Tensor) -> np.ndarray:
    """``[..., N]`` as a matrix; it must not outlive the tensor."""
    return array(x).reshape(-1, x.shape[-1])


def _blocks(rows: int, width: int) -> Iterator[slice]:
    """Parts of so many rows whose widest part has ``width`` numbers a row."""
    size = max(_BLOCK // width // 16 * 16, 16)
    for first in range(0, rows, size):
        yield slice(first, min(first + size, rows))


def _buffers(count: int, *shape: int) -> list[np.ndarray]:
    return [np.empty(shape, np.float32) for _ in range(count)]


def _unit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows divided by the root of their mean square, and the factors that were multiplied by."""
    scale = 1 / np.sqrt(np.einsum("ij,ij->i", x, x)[:, None] / np.float32(x.shape[1]) + np.float32(_EPSILON))
    return x * scale, scale


def _unit_slope(x: np.ndarray, scale: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The gradient of rows whose normalised form is ``x``, out of that of the latter."""
    along = np.einsum("ij,ij->i", slope, x)[:, None] / np.float32(x.shape[1])
    return (slope - x * along) * scale


# -------------------------------------------------------------------------------------------------------- over features


class _Gated(PyLayer):
    @staticmethod
    def forward(ctx, x, widen, narrow, keep):
        x, widen, narrow, y = x.contiguous(), widen.contiguous(), narrow.contiguous(), paddle.empty(x.shape)
        own, out, first, last = _rows(x), _rows(y), _rows(widen), _rows(narrow)
        width = first.shape[0] // 2
        kept = paddle.empty([2, own.shape[0] if keep else 0, width])
        gates, values = array(kept).reshape(kept.shape) if keep else (None, None)
        for at in _blocks(len(own), width):
            unit, _ = _unit(own[at])
            gate, value = (gates[at], values[at]) if keep else _buffers(2, len(unit), width)
            product(unit, first[:width].T, gate)
            product(unit, first[width:].T, value)
            _, _, inner = _gate(gate, value)
            out[at] = own[at]
            product(inner, last.T, out[at], add=True)
        ctx.save_for_backward(x, widen, narrow, kept)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, widen, narrow, kept = ctx.saved_tensor()
        dy, dx = dy.contiguous(), paddle.empty(x.shape)
        d_widen, d_narrow = paddle.zeros(widen.shape), paddle.zeros(narrow.shape)
        own, slopes, out, first, last = _rows(x), _rows(dy), _rows(dx), _rows(widen), _rows(narrow)
        d_first, d_last = _rows(d_widen), _rows(d_narrow)
        gates, values = array(kept).reshape(kept.shape)
        width = first.shape[0] // 2
        for at in _blocks(len(own), width):
            (unit, scale), slope, gate, value = _unit(own[at]), slopes[at], gates[at], values[at]
            once, twice, inner = _gate(gate, value)
            product(slope.T, inner, d_last, add=True)
            d_gate, d_value, activated = _buffers(3, len(unit), width)
            product(slope, last, d_gate)
            np.multiply(d_gate, twice, out=d_value)
            silu_slope(value, d_value)
            silu(value, activated)
            d_gate *= activated
            silu_slope(once, d_gate)
            silu_slope(gate, d_gate)
            product(d_gate.T, unit, d_first[:width], add=True)
            product(d_value.T, unit, d_first[width:], add=True)
            (d_unit,) = _buffers(1, *unit.shape)
            product(d_gate, first[:width], d_unit)
            product(d_value, first[width:], d_unit, add=True)
            np.add(slope, _unit_slope(unit, scale, d_unit), out=out[at])
        return dx, d_widen, d_narrow


def _gate(gate: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gate through its activation once and twice, and the product of the latter with the activated value."""
    once, twice, inner = _buffers(3, *gate.shape)
    silu(gate, once)
    silu(once, twice)
    silu(value, inner)
    inner *= twice
    return once, twice, inner


def gated(x: paddle.Tensor, widen: paddle.Tensor, narrow: paddle.Tensor) -> paddle.Tensor:
    """x plus a gated layer of its normalised form, ``[..., N]``: ``widen`` ``[2·M, N]``, ``narrow`` ``[N, M]``.

    With the gate g and the value v that the first product gives, it is silu(silu(g))·silu(v) that the second one takes.
    """
    return _Gated.apply(x, widen, narrow, paddle.is_grad_enabled())


class _Hidden(PyLayer):
    @staticmethod
    def forward(ctx, x, widen, widen_bias, narrow, narrow_bias, keep):
        x, widen, narrow, y = x.contiguous(), widen.contiguous(), narrow.contiguous(), paddle.empty(x.shape)
        own, out, first, last = _rows(x), _rows(y), _rows(widen), _rows(narrow)
        width = len(first)
        kept = paddle.empty([len(own) if keep else 0, width])
        wide = _rows(kept) if keep else None
        for at in _blocks(len(own), width):
            unit, _ = _unit(own[at])
            (inner,) = _buffers(1, len(unit), width)
            before = wide[at] if keep else inner
            product(unit, first.T, before, bias=array(widen_bias))
            silu(before, inner)
            product(inner, last.T, out[at], bias=array(narrow_bias))
        ctx.save_for_backward(x, widen, narrow, kept)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, widen, narrow, kept = ctx.saved_tensor()
        dy, dx = dy.contiguous(), paddle.empty(x.shape)
        d_widen, d_narrow, d_bias = paddle.zeros(widen.shape), paddle.zeros(narrow.shape), paddle.zeros(widen.shape[:1])
        own, slopes, out, first, last = _rows(x), _rows(dy), _rows(dx), _rows(widen), _rows(narrow)
        d_first, d_last, wide = _rows(d_widen), _rows(d_narrow), _rows(kept)
        for at in _blocks(len(own), len(first)):
            (unit, scale), slope, before = _unit(own[at]), slopes[at], wide[at]
            inner, d_inner = _buffers(2, *before.shape)
            silu(before, inner)
            product(slope.T, inner, d_last, add=True)
            product(slope, last, d_inner)
            silu_slope(before, d_inner)
            bias = array(d_bias)
            bias += d_inner.sum(axis=0)
            product(d_inner.T, unit, d_first, add=True)
            (d_unit,) = _buffers(1, *unit.shape)
            product(d_inner, first, d_unit)
            out[at] = _unit_slope(unit, scale, d_unit)
        return dx, d_widen, d_bias, d_narrow, dy.reshape([-1, dy.shape[-1]]).sum(axis=0)


def hidden(
    x: paddle.Tensor,
    widen: paddle.Tensor,
    widen_bias: paddle.Tensor,
    narrow: paddle.Tensor,
    narrow_bias: paddle.Tensor,
) -> paddle.Tensor:
    """Two layers on the normalised form of ``[..., N]``, with x·sigmoid(x) between them.

    ``widen`` ``[M, N]`` with bias ``[M]``, ``narrow`` ``[N, M]`` with bias ``[N]``.
    """
    return _Hidden.apply(x, widen, widen_bias, narrow, narrow_bias, paddle.is_grad_enabled())


# ----------------------------------------------------------------------------------------------------------- over bands


class _Attention(PyLayer):
    @staticmethod
    def forward(ctx, x, into, out_of, turns, heads, keep):
        x, into, out_of, y = x.contiguous(), into.contiguous(), out_of.contiguous(), paddle.empty(x.shape)
        bands, own, out, first, last = x.shape[-2], _rows(x), _rows(y), _rows(into), _rows(out_of)
        kept = paddle.empty([len(own) if keep else 0, len(first)])
        wide = _rows(kept) if keep else None
        for at in _frames(len(own), bands, heads):
            unit, _ = _unit(own[at])
            block = wide[at] if keep else np.empty((len(unit), len(first)), np.float32)
            product(unit, first.T, block)
            pairs, query, key, value = _views(block, bands, heads)
            pairs *= turns
            mixture, _ = _mix(query, key, value)
            out[at] = own[at]
            product(mixture, last.T, out[at], add=True)
        ctx.save_for_backward(x, into, out_of, kept)
        ctx.turns, ctx.heads = turns, heads
        return y

    @staticmethod
    def backward(ctx, dy):
        x, into, out_of, kept = ctx.saved_tensor()
        dy, dx = dy.contiguous(), paddle.empty(x.shape)
        d_into, d_out_of = paddle.zeros(into.shape), paddle.zeros(out_of.shape)
        own, slopes, out, first, last, wide = (_rows(each) for each in (x, dy, dx, into, out_of, kept))
        d_first, d_last, bands, heads = _rows(d_into), _rows(d_out_of), x.shape[-2], ctx.heads
        for at in _frames(len(own), bands, heads):
            (unit, scale), slope = _unit(own[at]), slopes[at]
            _, query, key, value = _views(wide[at], bands, heads)
            mixture, weights = _mix(query, key, value)
            product(slope.T, mixture, d_last, add=True)
            d_mixture, d_block, d_unit = (np.empty(s, np.float32) for s in (mixture.shape, wide[at].shape, unit.shape))
            product(slope, last, d_mixture)
            d_mixtures = _heads_first(d_mixture, bands, heads)
            d_pairs, d_query, d_key, d_value = _views(d_block, bands, heads)
            d_weights = np.empty_like(weights)
            products(weights.swapaxes(2, 3), d_mixtures, d_value)
            products(d_mixtures, value.swapaxes(2, 3), d_weights)
            softmax_slope(weights, d_weights)
            products(d_weights, key, d_query)
            products(d_weights.swapaxes(2, 3), query, d_key)
            d_pairs *= ctx.turns.conj()
            product(d_block.T, unit, d_first, add=True)
            product(d_block, first, d_unit)
            np.add(slope, _unit_slope(unit, scale, d_unit), out=out[at])
        return dx, d_into, d_out_of


def _frames(rows: int, bands: int, heads: int) -> Iterator[slice]:
    """Parts of whole frames, by the numbers of their scores."""
    count = max(_BLOCK // (heads * bands * bands), 1) * bands
    for first in range(0, rows, count):
        yield slice(first, min(first + count, rows))


def _heads_first(x: np.ndarray, bands: int, heads: int) -> np.ndarray:
    """Rows ``[F·K, H·d]`` as ``[F, H, K, d]``, a view."""
    return x.reshape(-1, bands, heads, x.shape[1] // heads).transpose(0, 2, 1, 3)


def _views(block: np.ndarray, bands: int, heads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of rows ``[F·K, H·3·d]``: complex pairs of queries and keys ``[F, K, H, d]``; queries, keys, values by heads."""
    size = block.shape[1] // heads // 3
    split = block.reshape(-1, bands, heads, 3 * size)
    parts = _heads_first(block, bands, heads)
    query, key, value = (parts[..., place * size : (place + 1) * size] for place in range(3))
    return split[..., : 2 * size].view(np.complex64), query, key, value


def _mix(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mixtures of values as rows ``[F·K, H·d]``, and their weights ``[F, H, K, K]``."""
    frames, heads, bands, size = query.shape
    mixture = np.empty((frames * bands, heads * size), np.float32)
    weights = np.empty((frames, heads, bands, bands), np.float32)
    products(query, key.swapaxes(2, 3), weights)
    softmax(weights)
    products(weights, value, _heads_first(mixture, bands, heads))
    return mixture, weights


def attention(
    x: paddle.Tensor, into: paddle.Tensor, out_of: paddle.Tensor, cos: np.ndarray, sin: np.ndarray, heads: int
) -> paddle.Tensor:
    """x plus attention over the bands of its normalised form, ``[..., K, N]``.

    Args:
        into: ``[H·3·d, N]``: for each head queries, keys and values
        out_of: ``[N, H·d]``
        cos, sin: ``[K, d]``, of the angles that pairs of queries and keys are turned by
        heads: H
    """
    turn = (cos + 1j * sin)[:, ::2]  # a pair is a complex number
    turns = np.concatenate([turn * cos.shape[1] ** -0.5, turn], axis=1).astype(np.complex64)  # queries are scaled, too
    return _Attention.apply(x, into, out_of, turns[:, None], heads, paddle.is_grad_enabled())
