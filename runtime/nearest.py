"""Which of the known names did somebody mean."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], cutoff: float = 0.0) -> str | None:
    """The known name most like ``name``; a dotted key that ends in ``name`` is very like it. ``None``: nothing is."""
    known = sorted(known)
    tail = name.rpartition(".")[2]
    same_end = [key for key in known if key.rpartition(".")[2] == tail]
    if same_end:
        return difflib.get_close_matches(name, same_end, 1, 0.0)[0]
    close = difflib.get_close_matches(name, known, 1, max(cutoff, 0.6))
    ends = {key.rpartition(".")[2]: key for key in reversed(known)}
    by_end = [ends[end] for end in difflib.get_close_matches(tail, ends, 1, max(cutoff, 0.6))]
    return next(iter(close or by_end or difflib.get_close_matches(name, known, 1, cutoff)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one."""
    known = list(known)
    near = nearest(name, known, 0.6)
    return f"did you mean {near}?" if near else f"the nearest known one is {nearest(name, known)}"
