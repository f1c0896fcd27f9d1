"""The optimisers of the recipes."""

from __future__ import annotations

from typing import Any

import paddle


def adam(train: Any, model: paddle.nn.Layer) -> paddle.optimizer.Optimizer:
    """Adam of the parameters that learn, with the keys of a configuration's section ``train``.

    Paddle adds epsilon to the root of the bias-corrected second moment, as torch does.
    """
    return paddle.optimizer.Adam(
        learning_rate=train.lr,
        beta1=train.betas[0],
        beta2=train.betas[1],
        epsilon=train.epsilon,
        weight_decay=train.weight_decay or None,
        parameters=[parameter for parameter in model.parameters() if not parameter.stop_gradient],
    )


def adamw(train: Any, model: paddle.nn.Layer) -> paddle.optimizer.Optimizer:
    """Adam whose weight decay is no part of the gradient, with the same keys; all parameters decay, as with torch."""
    return paddle.optimizer.AdamW(
        learning_rate=train.lr,
        beta1=train.betas[0],
        beta2=train.betas[1],
        epsilon=train.epsilon,
        weight_decay=train.weight_decay,
        parameters=[parameter for parameter in model.parameters() if not parameter.stop_gradient],
    )
