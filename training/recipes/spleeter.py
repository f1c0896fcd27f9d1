"""Spleeter's recipe: the summed L1 distance of magnitudes, Adam, and the same distance for validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import paddle

LOSSES = ("L1_mask", "weighted_L1_mask")


def magnitude_loss(
    outputs: paddle.Tensor, targets: paddle.Tensor, kind: str = "L1_mask", names: Sequence[str] | None = None
) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
    """Sum over the instruments of the mean absolute difference between predicted and true magnitude (Spleeter).

    Args:
        outputs: predicted magnitudes ``[B, S, C, T, F]``.
        targets: true magnitudes, same shape.
        kind: ``L1_mask``, or ``weighted_L1_mask``: the error of each segment times the mean level of its target.
        names: the S instruments, keys of the terms; their numbers if not given.

    Returns:
        The loss (a scalar) and its terms by instrument (scalars that sum to it).

    Raises:
        UserError: ``kind`` is not known.
    """
    if kind not in LOSSES:
        raise UserError(f"train.loss={kind}: choose one of {', '.join(LOSSES)}")
    difference = (outputs - targets).abs().mean(axis=[2, 3, 4])  # [B, S]
    if kind == "weighted_L1_mask":
        difference = difference * targets.mean(axis=[2, 3, 4])
    per_instrument = difference.mean(axis=0)  # [S]
    names = names or [str(index) for index in range(outputs.shape[1])]
    return per_instrument.sum(), {name: per_instrument[index] for index, name in enumerate(names)}
