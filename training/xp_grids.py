"""Grids of Demucs experiments: modules of ``training.grids``, each a list of experiments and what they need.

A grid is a module with a docstring, ``NEEDS`` (a `Needs`; may be left out) and ``experiments()``, which yields the
overrides of each experiment, put together with `join`. An own grid is a new file there.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.nearest import did_you_mean
from training import xp

FOLDER = Path(__file__).with_name("grids")


@dataclass(frozen=True)
class Needs:
    """What each experiment of a grid asks of a cluster: cards, and minutes before it is requeued."""

    cards: int = 1
    minutes: int | None = None  # None: slurm.time


@dataclass(frozen=True)
class Grid:
    """The experiments of a grid, no two of one signature, in the grid's order."""

    name: str
    title: str
    needs: Needs
    experiments: list[xp.Experiment]


def names() -> list[str]:
    """The grids that there are."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.name.startswith("_"))


def read(name: str, extra: Sequence[str] = ()) -> Grid:
    """The grid of that name; its experiments have the overrides ``extra`` on top.

    Raises:
        UserError: there is no such grid, or no such key in one of its experiments
    """
    if name not in names():
        raise UserError(f"there is no grid {name}: {did_you_mean(name, names())} (there are {', '.join(names())})")
    module = importlib.import_module(f"training.grids.{name}")
    found: dict[str, xp.Experiment] = {}
    for argv in module.experiments():
        experiment = xp.compose([*argv, *extra])
        found.setdefault(experiment.signature, experiment)
    title = (module.__doc__ or name).strip().splitlines()[0]
    return Grid(name, title, getattr(module, "NEEDS", Needs()), list(found.values()))


def join(*parts: str | Mapping[str, Any] | Sequence[str]) -> list[str]:
    """One list of overrides from lists, single overrides, and mappings of keys to values; later ones win."""
    argv: list[str] = []
    for part in parts:
        if isinstance(part, str):
            argv.append(part)
        elif isinstance(part, Mapping):
            argv += [xp.override(key, value) for key, value in part.items()]
        else:
            argv += part
    return argv


def ancestors(signature: str) -> Iterator[str]:
    """The signature, that of the experiment it continues from, and so on to the one that began from scratch."""
    found: str | None = signature
    while found:
        yield found
        found = xp.load(found).cfg.continue_from
