"""Building what a plan says, with its weights."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.planning import Plan
from models.tensors import tensors
from runtime import checkpoint


@dataclass(frozen=True)
class Loaded:
    """A network (or several) with weights; ``path`` is where they came from (in common), ``hash`` identifies them."""

    model: Any
    path: Path
    hash: str


def load(plan: Plan) -> Loaded:
    """Build what a plan says. Raises UserError for weights that are missing or of another network."""
    import models
    import pretrained

    if plan.bag is not None:
        bag = pretrained.get_model(plan.bag, plan.repo, offline=True)  # the plan was made with the files at hand
        return Loaded(bag, plan.weights if len(bag.models) == 1 else plan.weights.parent, _hash(bag))
    if plan.targets:
        members = [load(each) for each in plan.targets]
        together = pretrained.Targets.of([member.model for member in members], plan.label)
        place = os.path.commonpath([member.path.resolve() for member in members])
        return Loaded(together, Path(place), _joined([member.hash for member in members]))
    model = models.create(plan.network, **plan.model)
    weights = pretrained.load_weights(model, plan.weights)
    return Loaded(model, weights.path, weights.hash)


def _hash(bag: Any) -> str:
    """Identifies the networks of a bag with their weights in the mean."""
    each = {id(model): model for model in bag.models}
    hashes = {key: checkpoint.weights_hash({k: v.numpy() for k, v in tensors(m).items()}) for key, m in each.items()}
    if len(bag.models) == 1:
        return hashes[id(bag.models[0])]
    return _joined([[hashes[id(model)] for model in bag.models], list(map(list, bag.weights)), list(bag.segments)])


def _joined(facts: list[Any]) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
