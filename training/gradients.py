"""Trainable parameters, the global norm of their gradient and its limit, and the checksum that processes compare."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
import paddle


def trainable(model: paddle.nn.Layer) -> dict[str, paddle.Tensor]:
    """The parameters that learn, by structured name; in Paddle's own batch norm the statistics are parameters, too."""
    return {name: value for name, value in model.named_parameters() if not value.stop_gradient}


@paddle.no_grad()
def clip(parameters: Iterable[paddle.Tensor], limit: float) -> float:
    """Scales the gradients in place so that their global L2 norm is at most ``limit`` (0: no limit).

    Returns:
        The norm before; not finite if any gradient is not.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = paddle.stack([(gradient * gradient).sum() for gradient in gradients])
    norm = float(squares.sum()) ** 0.5
    if 0 < limit < norm < float("inf"):
        for gradient in gradients:
            gradient.scale_(limit / norm)
    return norm


def checksum(parameters: Iterable[paddle.Tensor]) -> int:
    """CRC-32 over the bytes of all parameters: differs as soon as one bit does."""
    value = 0
    for parameter in parameters:
        value = zlib.crc32(np.ascontiguousarray(parameter.numpy()).view(np.uint8).reshape(-1), value)
    return value
