"""Building what a plan says, with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.planning import Plan


@dataclass(frozen=True)
class Loaded:
    """A network (or a bag) with its weights; ``path`` is where they came from, ``hash`` identifies them."""

    model: Any
    path: Path
    hash: str


def load(plan: Plan) -> Loaded:
    """Build the network of a plan. Raises UserError for weights that are missing or of another network."""
    import models
    import pretrained

    model = models.create(plan.network, **plan.model)
    weights = pretrained.load_weights(model, plan.weights)
    return Loaded(model, weights.path, weights.hash)
