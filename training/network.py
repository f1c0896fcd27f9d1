"""The network that a configuration trains."""

from __future__ import annotations

from typing import Any

import paddle

import models
from training.prepare import plain


def build(cfg: Any) -> paddle.nn.Layer:
    """``cfg.network`` with the options ``cfg.model`` and its initial weights.

    What no gradient reaches is frozen, as data parallelism wants it.
    """
    model = models.create(cfg.network, **plain(cfg.model))
    for parameter in model.unused_parameters():
        parameter.stop_gradient = True
    return model
