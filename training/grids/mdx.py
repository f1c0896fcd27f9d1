"""MDX challenge 2021, track A (MUSDB-HQ only): first round, each also with DiffQ. `mdx_refine` is the second round."""

from __future__ import annotations

from collections.abc import Iterator

from training import xp
from training.xp_grids import Needs, join

NEEDS = Needs(cards=8, minutes=3 * 24 * 60)
MODELS = ("0d19c1c6", "7ecf8ec1", "c511e2ab", "7d865c68")  # the bag `mdx`, after the second round
DIFFQ = (1e-4, 3e-4)


def experiments() -> Iterator[list[str]]:
    """What each of the four models was fine-tuned from, and its quantised siblings."""
    for model in MODELS:
        first = xp.load(xp.load(model).cfg.continue_from).argv
        yield first
        for penalty in DIFFQ:
            yield join(first, {"quant.diffq": penalty})
