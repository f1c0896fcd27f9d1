"""Counts the multiplications and additions of convolutions, products, LSTMs and norms while they are computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


def _recurrent(x: Any, weights: Any, y: Any) -> int:
    """Every step ``[T, B, features]`` goes through all matrices; what its gates do to each other is little beside."""
    return 2 * x.shape[0] * x.shape[1] * sum(math.prod(each.shape) for each in weights if each.ndim == 2)


def _normalised(x: Any, weight: Any, y: Any) -> int:
    """A value is added to the mean, centred, squared, added to the variance and divided; perhaps scaled and shifted."""
    return math.prod(x.shape) * (5 if weight is None else 7)


@dataclass(frozen=True)
class _Rule:
    """How one function of Paddle is counted.

    Attributes:
        operations: of a call, from its first argument, its weights, and its (first) result
        kernel: what it launches, if that has another name
        weights: which argument they are
    """

    operations: Callable[[Any, Any, Any], int]
    kernel: str = ""
    weights: int = 1


_RULES = {
    "conv2d": _Rule(_convolution),
    "conv3d": _Rule(_convolution),
    "depthwise_conv2d": _Rule(_convolution),
    "conv2d_transpose": _Rule(_transposed),
    "depthwise_conv2d_transpose": _Rule(_transposed),
    "matmul": _Rule(_product),
    "linear": _Rule(_product, kernel="matmul"),
    "bmm": _Rule(_product),
    "rnn": _Rule(_recurrent, weights=2),
    "group_norm": _Rule(_normalised),
    "layer_norm": _Rule(_normalised),
}


@contextmanager
def counted() -> Iterator[Counts]:
    """Within the block, count the operations of Paddle's eager functions for convolutions, products, LSTMs and norms.

    The gradient of each costs as much as the function itself for every input that wants one (of norms about that); it
    is counted with the forward call, under ``<kernel>_grad``. Weights are one input. What Paddle's C++ calls without
    going through its Python module is not seen.
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
    rule, kernel = _RULES[name], _RULES[name].kernel or name

    def call(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        y = result[0] if isinstance(result, tuple | list) else result
        x, weights = arguments[0], arguments[rule.weights]
        operations = rule.operations(x, weights, y)
        _add(counts, kernel, operations)
        if not y.stop_gradient:
            _add(counts, f"{kernel}_grad", operations * (_learns(x) + _learns(weights)))
        return result

    return call


def _learns(tensors: Any) -> bool:
    """Whether a tensor, or any of several, wants a gradient; there may be none."""
    several = tensors if isinstance(tensors, tuple | list) else [tensors]
    return any(each is not None and not each.stop_gradient for each in several)


def _add(counts: Counts, kernel: str, operations: int) -> None:
    entry = counts.setdefault(kernel, [0, 0])
    entry[0] += 1
    entry[1] += operations
