"""Networks that separate one stem each, together as one that separates them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from data.stems import CANONICAL, RESTORED
from models.description import Description
from runtime.errors import UserError


@dataclass(frozen=True)
class Targets:
    """Networks for different stems of the same mixture; `inference.Separator` runs them side by side.

    Attributes:
        name: what to call them
        models: networks, in the canonical order of their stems
        description: of all together, see `together`
    """

    name: str
    models: tuple[Any, ...]
    description: Description

    @classmethod
    def of(cls, models: Sequence[Any], name: str = "targets") -> Targets:
        """Networks in memory, in any order; errors as of `together`."""
        ordered = tuple(sorted(models, key=lambda model: rank(model.description)))
        return cls(name, ordered, together(name, [model.description for model in ordered]))

    @property
    def sources(self) -> tuple[str, ...]:
        """Stem names in the order of the networks."""
        return self.description.sources


def rank(facts: Description) -> tuple[int, str]:
    """Sorts networks by their stems: canonical ones in their order, then others by name."""
    stem = facts.sources[0]
    return (CANONICAL.index(stem) if stem in CANONICAL else len(CANONICAL)), stem


def together(name: str, members: Sequence[Description]) -> Description:
    """What networks are like together: their stems, and the longest segment and hop of them.

    Raises:
        UserError: networks of several stems or of the same one, of different rates or channels, ones that do not
            separate chunks of a stream, or that separate nothing
    """
    for facts in members:
        refuse_restoring(facts)
        if len(facts.sources) > 1 or not facts.hop:
            raise UserError(
                f"{facts.name} separates {', '.join(facts.sources)}: only networks that separate one stem each, as "
                "those of BandSplitRNN do, run together"
            )
    stems = [facts.sources[0] for facts in members]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise UserError(f"{name}: two of the networks separate {twice}: leave one of them out")
    for key, what in (("sample_rate", "sample rate"), ("channels", "number of channels")):
        values = [getattr(facts, key) for facts in members]
        if len(set(values)) > 1:
            said = ", ".join(f"{stem} {value}" for stem, value in zip(stems, values, strict=True))
            raise UserError(f"{name}: networks that run together have one {what}, and these differ: {said}")
    longest = max(members, key=lambda facts: facts.segment)
    return replace(longest, name=name, sources=tuple(stems), config={}, hop=max(facts.hop for facts in members))


def refuse_restoring(facts: Description) -> None:
    """UserError for a network that separates nothing but restores what it is given."""
    if facts.sources == (RESTORED,):
        raise UserError(
            f"{facts.name} restores music and separates nothing, so it does not run together with others: "
            "`separator.py --restore` restores stems"
        )
