"""Sound Demixing Challenge 2023: the default network on the two corrupted data sets, without MUSDB-HQ."""

from __future__ import annotations

from collections.abc import Iterator

from training.xp_grids import Needs, join

NEEDS = Needs(cards=8, minutes=3 * 24 * 60)


def experiments() -> Iterator[list[str]]:
    """One for each data set."""
    for data in ("sdx23_bleeding", "sdx23_labelnoise"):
        yield join({"dset": data, "dset.use_musdb": False})
