"""MDX challenge 2021, track A: second round, fine-tuning on automix of what the grid `mdx` trained."""

from __future__ import annotations

from collections.abc import Iterator

from training import xp
from training.grids.mdx import DIFFQ, MODELS, NEEDS
from training.xp_grids import join

__all__ = ["NEEDS", "experiments"]


def experiments() -> Iterator[list[str]]:
    """The four models of the bag, and their siblings that continue from a quantised first round."""
    for model in MODELS:
        refined = xp.load(model)
        yield refined.argv
        first = xp.load(refined.cfg.continue_from).argv
        for penalty in DIFFQ:
            quantised = {"quant.diffq": penalty}
            source = xp.compose(join(first, quantised)).signature
            yield join(refined.argv, quantised, {"continue_from": source})
