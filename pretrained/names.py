"""How the tensors of reference implementations map to ours: one table per network."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.spleeter_config import LEVELS, SpleeterConfig
from runtime.errors import UserError

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


_TABLES: dict[type, Callable[[Any], Iterator[Link]]] = {SpleeterConfig: spleeter}


def links(model: Any) -> list[Link]:
    """The table of a network; every tensor of its state dict is in it once.

    Raises:
        UserError: the network has no reference implementation with a table
    """
    table = _TABLES.get(type(model.config))
    if table is None:
        raise UserError(f"there is no table of reference names for {model.description.name}")
    return list(table(model.config))
