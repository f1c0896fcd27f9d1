"""MDX challenge 2021, track B (further songs): what the four models of the bag `mdx_extra` began with."""

from __future__ import annotations

from collections.abc import Iterator

from training import xp
from training.grids.mdx import DIFFQ, NEEDS
from training.xp_grids import ancestors, join

__all__ = ["NEEDS", "experiments"]

MODELS = ("e51eebcc", "a1d90b5c", "5d2d6c55", "cfa93e08")


def experiments() -> Iterator[list[str]]:
    """The first ancestor of each model, on both data sets; with DiffQ on the larger one."""
    for model in MODELS:
        *_, first = ancestors(model)
        argv = xp.load(first).argv
        yield join(argv, {"dset": "extra44"})
        large = join(argv, {"dset": "extra_test"})
        yield large
        for penalty in DIFFQ:
            yield join(large, {"quant.diffq": penalty})
