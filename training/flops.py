"""Counts the multiplications and additions of convolutions and matrix products while they are computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Counts = dict[str, list[int]]
"""Kernel -> [calls, operations]; a multiplication and an addition are two."""


def _convolution(x: Any, weight: Any, y: Any) -> int:
    """Every output value is a sum over the inputs of its group and the taps; ``weight`` ``[K, C / groups, taps…]``."""
    return 2 * math.prod(y.shape) * math.prod(weight.shape[1:])


def _transposed(x: Any, weight: Any, y: Any) -> int:
    """Every input value goes into the outputs of its group, at all taps; ``weight`` ``[C, K / groups, taps…]``."""
    return 2 * math.prod(x.shape) * math.prod(weight.shape[1:])


def _product(x: Any, other: Any, y: Any) -> int:
    """The inner size is that of the two last axes of ``x`` which is not the rows of the result."""
    inner = x.shape[-1]
    if x.ndim > 1 and other.ndim > 1 and x.shape[-1] == y.shape[-2] != x.shape[-2]:
        inner = x.shape[-2]  # x is transposed
    return 2 * math.prod(y.shape) * inner


_RULES: dict[str, Callable[[Any, Any, Any], int]] = {
    "conv2d": _convolution,
    "conv3d": _convolution,
    "depthwise_conv2d": _convolution,
    "conv2d_transpose": _transposed,
    "depthwise_conv2d_transpose": _transposed,
    "matmul": _product,
    "bmm": _product,
}


@contextmanager
def counted() -> Iterator[Counts]:
    """Within the block, count the operations of Paddle's eager functions for convolutions and matrix products.

    The gradient of each costs as much as the product itself for every input that wants one; it is counted with the
    forward call, under ``<kernel>_grad``. What Paddle's C++ calls without going through its Python module is not seen.
    """
    from paddle import _C_ops

    counts: Counts = {}
    originals = {name: getattr(_C_ops, name) for name in _RULES if hasattr(_C_ops, name)}
    for name, function in originals.items():
        setattr(_C_ops, name, _counting(name, function, counts))
    try:
        yield counts
    finally:
        for name, function in originals.items():
            setattr(_C_ops, name, function)


def _counting(name: str, function: Callable[..., Any], counts: Counts) -> Callable[..., Any]:
    def call(x: Any, other: Any, *arguments: Any, **options: Any) -> Any:
        y = function(x, other, *arguments, **options)
        operations = _RULES[name](x, other, y)
        _add(counts, name, operations)
        if not y.stop_gradient:
            _add(counts, f"{name}_grad", operations * ((not x.stop_gradient) + (not other.stop_gradient)))
        return y

    return call


def _add(counts: Counts, kernel: str, operations: int) -> None:
    entry = counts.setdefault(kernel, [0, 0])
    entry[0] += 1
    entry[1] += operations
