"""Commands that do not disturb each other, a few at a time: most of what they do is to start."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Case = TypeVar("Case")
Result = TypeVar("Result")


def side_by_side(run: Callable[[Case], Result], cases: Iterable[Case]) -> dict[Case, Result]:
    """``run`` of each case, by case."""
    cases = list(cases)
    with ThreadPoolExecutor(3) as pool:
        return dict(zip(cases, pool.map(run, cases), strict=True))
