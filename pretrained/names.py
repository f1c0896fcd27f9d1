"""How the tensors of reference implementations map to ours.

Networks that come from PyTorch have the names of the original, so one rule serves them all; Spleeter has a table.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.spleeter_config import LEVELS, SpleeterConfig
from models.tensors import tensors

_TRAINING_STATE = re.compile(r"(^|/)(global_step|beta[12]_power)$|/(Adam|Adadelta|Momentum)(_\d+)?$")


@dataclass(frozen=True)
class Link:
    """One tensor: our name, the reference's name, and the axes that turn its layout into ours."""

    ours: str
    theirs: str
    axes: tuple[int, ...] = ()

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        """Reference layout to ours."""
        return array.transpose(self.axes) if self.axes and array.ndim == len(self.axes) else array

    def to_theirs(self, array: np.ndarray) -> np.ndarray:
        """Our layout to the reference's."""
        return array.transpose(np.argsort(self.axes)) if self.axes else array


def is_training_state(name: str) -> bool:
    """Whether a TensorFlow variable belongs to the optimiser or the step counter and not to the network."""
    return bool(_TRAINING_STATE.search(name))


def _numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def spleeter(config: SpleeterConfig) -> Iterator[Link]:
    """Variables of deezer/spleeter: Keras numbers its layers through all instruments, ours start anew in each.

    Kernels ``[kh, kw, in, out]`` of convolutions and ``[kh, kw, out, in]`` of transposed ones both become ours by the
    same reversal of channels.
    """
    kernel = (3, 2, 0, 1)
    statistics = {"weight": "gamma", "bias": "beta", "_mean": "moving_mean", "_variance": "moving_variance"}
    convolutions = [f"conv{k + 1}" for k in range(LEVELS)] + ["mask"]
    for i, instrument in enumerate(config.instruments):
        net = f"nets.{instrument}"
        for k, layer in enumerate(convolutions):
            theirs = _numbered("conv2d", len(convolutions) * i + k)
            yield Link(f"{net}.{layer}.weight", f"{theirs}/kernel", kernel)
            yield Link(f"{net}.{layer}.bias", f"{theirs}/bias")
        for k in range(LEVELS):
            theirs = _numbered("conv2d_transpose", LEVELS * i + k)
            yield Link(f"{net}.up{k + 1}.weight", f"{theirs}/kernel", kernel)
            yield Link(f"{net}.up{k + 1}.bias", f"{theirs}/bias")
        for k in range(2 * LEVELS):
            theirs = _numbered("batch_normalization", 2 * LEVELS * i + k)
            for ours, name in statistics.items():
                yield Link(f"{net}.norm{k + 1}.{ours}", f"{theirs}/{name}")


_STATISTICS = {"_mean": "running_mean", "_variance": "running_var"}


def torch_links(model: Any) -> Iterator[Link]:
    """Tensors of a network whose original is in PyTorch: the same names, in the order of the layers.

    Paddle keeps the weight of a ``Linear`` as ``[in, out]``; a layer with matrices of its own that lie the other way
    round lists their names in ``transposed``. The statistics of batch normalisation have other names, and PyTorch's
    counter of batches, which nothing computes with, has no counterpart.
    """
    from paddle import nn

    layers = dict(model.named_sublayers(include_self=True))
    for name in tensors(model):
        place, _, own = name.rpartition(".")
        layer = layers[place]
        theirs = _STATISTICS.get(own, own) if isinstance(layer, nn.layer.norm._BatchNormBase) else own
        turned = own in getattr(layer, "transposed", ()) or (isinstance(layer, nn.Linear) and own == "weight")
        yield Link(name, f"{place}.{theirs}" if place else theirs, (1, 0) if turned else ())


def links(model: Any) -> list[Link]:
    """Every tensor of a network once, with its name in the reference implementation."""
    if isinstance(model.config, SpleeterConfig):
        return list(spleeter(model.config))
    return list(torch_links(model))


def current(model: Any, name: str) -> str:
    """The reference's name of a tensor today, where earlier versions of it had another (``former_names``)."""
    for pattern, replacement in getattr(model, "former_names", ()):
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    return name
