"""Windows, overlapping frames and their sum: what every short-time transform of the house is made of."""

from __future__ import annotations

import numpy as np

BLOCK_VALUES = 1 << 21  # float32 values of windowed frames held at once: 8 MiB, whatever the length of the song


def periodic_hann(length: int) -> np.ndarray:
    """Hann window ``[length]`` float32 whose period is ``length``: the one for spectral analysis."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def frame_view(x: np.ndarray, length: int, hop: int) -> np.ndarray:
    """Overlapping frames of ``x [..., N]`` as a read-only view ``[..., T, length]``; only frames that are complete.

    ``T = 1 + (N - length) // hop``, or 0 when ``N < length``.
    """
    if x.shape[-1] < length:
        return np.empty((*x.shape[:-1], 0, length), x.dtype)
    return np.lib.stride_tricks.sliding_window_view(x, length, axis=-1)[..., ::hop, :]


def frame_blocks(frames: int, rows: int, length: int) -> list[slice]:
    """Cuts a run of ``frames`` (each ``rows × length`` values) into pieces of bounded size."""
    size = max(1, BLOCK_VALUES // max(1, rows * length))
    return [slice(start, min(start + size, frames)) for start in range(0, frames, size)]


def add_frames(out: np.ndarray, frames: np.ndarray, hop: int, first: int = 0) -> None:
    """Adds ``frames [..., T, L]`` to the signal ``out``, frame ``t`` beginning at sample ``(first + t)·hop``.

    ``out [..., blocks, hop]`` is the signal cut at every hop. Each sample receives its frames in ascending order of
    time, one after the other. That order does not depend on how many frames come in one call, so a sum in pieces has
    the same bits as a sum in one go.
    """
    count, length = frames.shape[-2:]
    for block in range(-(-length // hop) - 1, -1, -1):  # the farthest part of a frame belongs to the oldest frames
        part = frames[..., block * hop : (block + 1) * hop]
        start = first + block
        out[..., start : start + count, : part.shape[-1]] += part


def blocks_for(frames: int, length: int, hop: int) -> int:
    """Number of hop-sized blocks that ``frames`` overlapping frames reach."""
    return max(0, frames - 1) + -(-length // hop)
