"""Dropout that draws where something is dropped, instead of a number for every place.

With the small probabilities of transformers that is a fiftieth of the numbers, and the places need not be kept for the
gradient: they are drawn again. For eager mode on the CPU; elsewhere Paddle's operator.
"""

import sys
from collections.abc import Callable

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

from models import onednn

paddle.jit.ignore_module([sys.modules[__name__]])  # Paddle 3.0 would leave its translations behind in exported layers

FEW = 0.25  # up to this probability the distances between drops are the quicker thing to draw


class Drops:
    """Independent drops with one probability, always the same ones from the beginning of a stream.

    The seed follows Paddle's generator, so that a seeded run repeats itself.

    Args:
        probability: of a drop, from 0 to below 1
    """

    def __init__(self, probability: float):
        self.probability = probability
        self._seed = paddle.randint(0, 2**31 - 1, [2], "int64").tolist() if probability else []

    def stream(self) -> Callable[[int], np.ndarray]:
        """A function that says which of the next so many places are dropped, in ascending order."""
        if not self.probability:
            return lambda count: np.empty(0, np.int64)
        rng = np.random.default_rng(self._seed)
        return lambda count: self._draw(rng, count)

    def _draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        parts, last = [], -1
        while last < count:
            expected = (count - last) * self.probability
            steps = rng.geometric(self.probability, int(expected + 4 * expected**0.5) + 8)
            parts.append(last + np.cumsum(steps))
            last = int(parts[-1][-1])
        places = np.concatenate(parts)
        return places[: np.searchsorted(places, count)]


class _Dropout(PyLayer):
    @staticmethod
    def forward(ctx, x, probability):
        ctx.drops = Drops(probability)
        return _thinned(x, ctx.drops)

    @staticmethod
    def backward(ctx, gradient):
        return _thinned(gradient, ctx.drops)


def _thinned(x: paddle.Tensor, drops: Drops) -> paddle.Tensor:
    x, y = x.contiguous(), paddle.empty(x.shape)
    values = onednn.array(y)
    np.multiply(onednn.array(x), np.float32(1 / (1 - drops.probability)), out=values)
    values[drops.stream()(values.size)] = 0.0
    return y


def dropout(x: paddle.Tensor, probability: float, training: bool) -> paddle.Tensor:
    """``F.dropout``: in training each number is dropped with this probability, and the rest grow to make up for it."""
    if training and 0 < probability <= FEW and onednn.usable(x):
        return _Dropout.apply(x, probability)
    return F.dropout(x, probability, training=training)
