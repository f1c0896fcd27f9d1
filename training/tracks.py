"""Whole songs shared out to all processes, each measured once, the results the same for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import paddle

from runtime.distributed import Group

Measure = Callable[[Any], Mapping[str, float]]


def mean_scores(
    songs: Sequence[Any],
    names: Sequence[str],
    measure: Measure,
    model: paddle.nn.Layer,
    group: Group,
    asked_to_stop: Callable[[], bool],
) -> dict[str, float] | None:
    """The mean of each score over the songs.

    Every song's scores are gathered before they are added, so the sum does not depend on the number of processes.

    Args:
        songs: read when they are asked for
        names: of the scores
        measure: a song to its scores
        model: in evaluation mode meanwhile, in training mode afterwards
        group: the processes
        asked_to_stop: called before every song, equally often by all processes, and answered alike

    Returns:
        The scores, the same in all processes, or None if it was asked to stop.
    """
    values = np.zeros((len(names), len(songs)))

    def score(k: int) -> None:
        measured = measure(songs[k])
        values[:, k] = [measured[name] for name in names]

    done = each_song(len(songs), score, model, group, asked_to_stop)
    if not done:
        return None
    values = group.all_reduce_sum(values)  # exact: one process has the number, the others zero
    return {name: math.fsum(row) / len(songs) for name, row in zip(names, values, strict=True)}


def each_song(
    count: int,
    work: Callable[[int], None],
    model: paddle.nn.Layer,
    group: Group,
    asked_to_stop: Callable[[], bool],
) -> bool:
    """Calls ``work`` with the numbers of this process's share of ``count`` songs; False if it was asked to stop."""
    model.eval()
    try:
        for first in range(0, count, group.size):
            if asked_to_stop():
                return False
            if first + group.rank < count:
                work(first + group.rank)
            group.meet()  # one song may be much longer than another, and the last round may have nothing for this one
    finally:
        model.train()
    return True
