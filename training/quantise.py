"""Weights of few bits: DiffQ, which learns how many (``quant.diffq``), and a fixed number of them (``quant.qat``).

Defossez, Adi, Synnaeve (2021), "Differentiable Model Compression via Pseudo Quantization Noise". While it trains, a
network computes with weights that are as wrong as rounding would make them; when it is judged, with the rounded ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import nn

from pretrained.names import torch_links
from runtime.errors import UserError

SUFFIX = "_diffq"  # of the parameters that DiffQ adds beside the weights
_MEGABYTE = 2**23  # bits
_FEWEST, _MOST, _FIRST = 2, 15, 8  # bits that DiffQ can learn, and those it begins with
_PACKABLE = 14  # the file format of packed weights has no room for 15


@dataclass(frozen=True)
class Weight:
    """One weight that gets fewer bits.

    Attributes:
        name: structured name
        places: the layers that it is a parameter of, each with the parameter's name there
        parameter: the weight itself
        turned: whether PyTorch has it the other way round; groups of neighbours are PyTorch's
        logits: DiffQ's parameter for the number of bits of each group ``[G]``, or None
    """

    name: str
    places: tuple[tuple[nn.Layer, str], ...]
    parameter: paddle.Tensor
    turned: bool
    logits: paddle.Tensor | None = None

    def flat(self, values: Any, columns: int) -> Any:
        """A tensor or array of the weight's shape as rows of ``columns`` neighbours."""
        return (values.transpose((1, 0)) if self.turned else values).reshape((-1, columns))

    def shaped(self, rows: Any) -> Any:
        """Counterpart of :meth:`flat`."""
        shape = self.parameter.shape
        return rows.reshape(tuple(reversed(shape))).transpose((1, 0)) if self.turned else rows.reshape(tuple(shape))


class Quantiser(ABC):
    """The weights of a network that get fewer bits: those above ``min_size`` MB of float32.

    Args:
        model: the network
        min_size: MB
    """

    def __init__(self, model: nn.Layer, min_size: float):
        limit = min_size * 2**20 // 4
        turned = {link.ours: bool(link.axes) for link in torch_links(model)}
        layers = model.sublayers(include_self=True)
        self.model, self.weights = model, []
        self.others = 0  # values of the smaller weights
        for name, parameter in list(model.named_parameters()):
            if parameter.size > limit:
                places = [(la, key) for la in layers for key, own in la._parameters.items() if own is parameter]
                self.weights.append(self._weight(name, tuple(places), parameter, turned[name]))
            else:
                self.others += parameter.size

    def _weight(self, name: str, places: tuple, parameter: paddle.Tensor, turned: bool) -> Weight:
        return Weight(name, places, parameter, turned)

    @contextmanager
    def disturbed(self) -> Iterator[None]:
        """Within the block the network computes with the weights of training; gradients reach the real ones."""
        swapped = []
        try:
            for weight in self.weights:
                value = self._disturbed(weight)
                for layer, key in weight.places:
                    swapped.append((layer, key, weight.parameter, value))
                    _swap(layer, key, weight.parameter, value)
            yield
        finally:
            for layer, key, parameter, value in swapped:
                _swap(layer, key, value, parameter)

    @contextmanager
    def rounded(self) -> Iterator[None]:
        """Within the block the weights have their rounded values; the real ones come back bit for bit."""
        kept = [weight.parameter.detach().clone() for weight in self.weights]
        for weight in self.weights:
            weight.parameter.set_value(self.rounded_values(weight))
        try:
            yield
        finally:
            for weight, value in zip(self.weights, kept, strict=True):
                weight.parameter.set_value(value)

    @abstractmethod
    def rounded_values(self, weight: Weight) -> np.ndarray:
        """What is left of a weight, float32 of its shape."""

    @abstractmethod
    def size(self) -> paddle.Tensor:
        """MB that the network would need with as many bits as now, a scalar; learnt bits have a gradient."""

    @abstractmethod
    def true_size(self) -> float:
        """MB that the rounded weights take, without compression."""

    @abstractmethod
    def _disturbed(self, weight: Weight) -> paddle.Tensor: ...


class DiffQ(Quantiser):
    """Noise in place of rounding: its size depends on the number of bits, which is thus learnt against the size.

    Every weight gets a parameter ``<name>_diffq`` with one number for each group of neighbours. Make it before the
    optimiser.

    Args:
        model: the network
        min_size: MB; smaller weights keep 32 bits
        group_size: weights that share a number of bits

    Raises:
        UserError: a weight cannot be divided into such groups
    """

    def __init__(self, model: nn.Layer, min_size: float, group_size: int):
        self.group_size = group_size
        super().__init__(model, min_size)

    @property
    def logits(self) -> list[paddle.Tensor]:
        """The parameters that were added."""
        return [weight.logits for weight in self.weights]

    def bits(self, weight: Weight) -> paddle.Tensor:
        """Bits of each group ``[G]``, between 2 and 15."""
        share = nn.functional.sigmoid(weight.logits)
        return share * float(_MOST) + (1.0 - share) * float(_FEWEST)

    def rounded_values(self, weight: Weight) -> np.ndarray:
        widths = np.round(self.bits(weight).numpy()).clip(1, _PACKABLE)
        rows = weight.flat(weight.parameter.numpy(), self.group_size)
        return np.ascontiguousarray(weight.shaped(rounded(rows, widths[:, None])))

    def size(self) -> paddle.Tensor:
        bits = [self.bits(weight) for weight in self.weights]
        fixed = self._fixed_bits([float(one.max()) for one in bits])
        return sum((one.sum() for one in bits), paddle.zeros([])) * (self.group_size / _MEGABYTE) + fixed / _MEGABYTE

    def true_size(self) -> float:
        widths = [np.round(self.bits(weight).numpy()).clip(1, _PACKABLE) for weight in self.weights]
        learnt = self.group_size * sum(float(one.sum()) for one in widths)
        return (learnt + self._fixed_bits([float(one.max()) for one in widths])) / _MEGABYTE

    def _fixed_bits(self, widest: list[float]) -> float:
        """Bits for all but the levels: the range of each weight, the width of each group, the weights left alone."""
        total = 32.0 * self.others
        for weight, most in zip(self.weights, widest, strict=True):
            width = math.ceil(math.log2(1 + round(most) - _FEWEST))
            total += 64 + 8 + width * weight.logits.size
        return total

    def _disturbed(self, weight: Weight) -> paddle.Tensor:
        rows = weight.flat(weight.parameter, self.group_size)  # [G, group_size]
        step = 1.0 / (paddle.exp(self.bits(weight) * math.log(2.0)) - 1.0)
        noise = paddle.randn(rows.shape) * 0.5
        spread = _largest(rows) + _largest(-rows)
        return weight.shaped(rows + spread * step.unsqueeze(1) * noise)

    def _weight(self, name: str, places: tuple, parameter: paddle.Tensor, turned: bool) -> Weight:
        if parameter.size % self.group_size:
            raise UserError(
                f"quant.group_size={self.group_size}: the {parameter.size} numbers of {name} cannot be divided so"
            )
        share = (_FIRST - _FEWEST) / (_MOST - _FEWEST)
        layer, key = places[0]
        start = nn.initializer.Constant(math.log(share / (1 - share)))
        logits = layer.create_parameter([parameter.size // self.group_size], default_initializer=start)
        layer.add_parameter(key + SUFFIX, logits)
        return Weight(name, places, parameter, turned, logits)


class Uniform(Quantiser):
    """The same number of bits for all: rounded values in the forward pass, the gradient as if nothing was rounded.

    Args:
        model: the network
        min_size: MB; smaller weights keep 32 bits
        bits: 1 to 15
    """

    def __init__(self, model: nn.Layer, min_size: float, bits: int):
        if not 1 <= bits <= _MOST:
            raise UserError(f"quant.qat={bits}: choose 1 to {_MOST} bits")
        self.width = bits
        super().__init__(model, min_size)

    def rounded_values(self, weight: Weight) -> np.ndarray:
        return rounded(weight.parameter.numpy(), np.float32(self.width))

    def size(self) -> paddle.Tensor:
        return paddle.full([], self.true_size())

    def true_size(self) -> float:
        numbers = sum(weight.parameter.size for weight in self.weights)
        return (32.0 * self.others + self.width * numbers + 64 * len(self.weights)) / _MEGABYTE

    def _disturbed(self, weight: Weight) -> paddle.Tensor:
        error = self.rounded_values(weight) - weight.parameter.numpy()
        return weight.parameter + paddle.to_tensor(error)


def rounded(values: np.ndarray, widths: Any) -> np.ndarray:
    """``values`` rounded to 2^widths levels between their minimum and maximum, all in float32 as DiffQ computes it."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return values.copy()
    one, spread = np.float32(1), np.float32(high - low)
    step = one / (np.exp2(np.asarray(widths, np.float32)) - one)
    levels = np.round((values - np.float32(low)) / spread / step)
    return levels * step * spread + np.float32(low)


def create(section: Mapping[str, Any], model: nn.Layer) -> Quantiser | None:
    """What the ``quant`` section of a configuration asks for.

    Raises:
        UserError: numbers that do not fit the network
    """
    if section["diffq"]:
        return DiffQ(model, section["min_size"], section["group_size"])
    if section["qat"]:
        return Uniform(model, section["min_size"], section["qat"])
    return None


def _largest(rows: paddle.Tensor) -> paddle.Tensor:
    """The maximum, whose gradient goes to it, or in equal parts to all that are as large; a card has no such kernel."""
    fixed = rows.detach()
    there = (fixed >= fixed.max()).astype(rows.dtype)
    return (rows * there).sum() / there.sum()


def _swap(layer: nn.Layer, key: str, old: paddle.Tensor, new: paddle.Tensor) -> None:
    """Puts ``new`` in the place of a layer's parameter; recurrent layers have a list of theirs besides."""
    layer._parameters[key] = new
    weights = getattr(layer, "_all_weights", None)
    if weights is not None:
        layer._all_weights = [new if weight is old else weight for weight in weights]
