"""A network on waveforms over a whole song in memory: chunks in real surroundings, cross-faded, delayed and averaged.

The rules are those of ``demucs.apply`` (PyPI demucs 4.1.0) for one network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dsp.overlap_add import OverlapAdd, chunks, transition_window

Network = Callable[[np.ndarray], np.ndarray]
"""Mixture ``[C, N]`` -> estimates ``[S, C, N]``, float32."""


@dataclass(frozen=True)
class Chunking:
    """How a song is cut.

    Attributes:
        size: samples of a chunk; None is the whole song at once
        valid_length: samples of a chunk -> samples to give the network, not fewer
        overlap: share of a chunk that overlaps the next, 0 … below 1
        power: of the triangle that chunks are cross-faded with, at least 1
    """

    size: int | None
    valid_length: Callable[[int], int]
    overlap: float = 0.0
    power: float = 1.0


def separated(song: np.ndarray, network: Network, how: Chunking, delays: Sequence[int] = (0,)) -> np.ndarray:
    """Estimates ``[S, C, N]`` of a song ``[C, N]``: the mean over passes, each with so many zeros before the song."""
    total = None
    for delay in delays:
        estimate = _pass(np.pad(song, [(0, 0), (delay, 0)]), network, how)[..., delay:]
        total = estimate if total is None else total + estimate
    return total if len(delays) == 1 else total / np.float32(len(delays))


def centred(song: np.ndarray, start: int, count: int, target: int) -> np.ndarray:
    """Samples ``start … start + count`` in the middle of ``target``: around them what is there, then zeros."""
    begin = start - (target - count) // 2
    inside = song[:, max(begin, 0) : begin + target]
    before = max(-begin, 0)
    return np.pad(inside, [(0, 0), (before, target - before - inside.shape[-1])])


def _pass(song: np.ndarray, network: Network, how: Chunking) -> np.ndarray:
    samples = song.shape[-1]
    size = samples if how.size is None else how.size
    hop = samples if how.size is None else int((1 - how.overlap) * size)
    adder, blocks = OverlapAdd(transition_window(size, how.power), hop), []
    for start, count in chunks(samples, size, hop):
        target = how.valid_length(count)
        estimate = network(centred(song, start, count, target))
        first = (estimate.shape[-1] - count) // 2
        blocks.append(adder.push(estimate[..., first : first + count]))
    return np.concatenate([*blocks, adder.flush()], axis=-1)
