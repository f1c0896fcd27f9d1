"""Cutting a signal into overlapping chunks and putting the processed chunks together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np


def chunks(length: int, size: int, hop: int) -> Iterator[tuple[int, int]]:
    """``(start, samples)`` of the chunks that cover ``length`` samples: one at every ``hop``, the last ones shorter.

    As in Demucs a chunk begins at every multiple of ``hop`` below ``length``; nothing for a length of 0.
    """
    if not 0 < hop <= size:
        raise ValueError(f"the hop must lie in 1 … {size}, the size of a chunk, not {hop}")
    return ((start, min(size, length - start)) for start in range(0, length, hop))


def transition_window(size: int, power: float = 1.0) -> np.ndarray:
    """Demucs's triangle ``[size]`` float32: rises to 1 in the middle, nowhere 0; ``power`` ≥ 1 makes it steeper."""
    if power < 1:
        raise ValueError(f"the transition power must be at least 1, not {power}")
    half = size // 2
    triangle = np.concatenate([np.arange(1, half + 1), np.arange(size - half, 0, -1)]).astype(np.float32)
    return (triangle / triangle.max(initial=1)) ** np.float32(power)


def fade_window(size: int, fade: int, first: bool = False, last: bool = False) -> np.ndarray:
    """Ones ``[size]`` float32 with straight fades of ``fade`` samples from and to 0; none before the first chunk of a
    signal and none after the last."""
    window = np.ones(size, np.float32)
    if fade and not last:
        window[size - fade :] = np.linspace(1, 0, fade, dtype=np.float32)
    if fade and not first:
        window[:fade] = np.linspace(0, 1, fade, dtype=np.float32)
    return window


def rounded_window(size: int) -> np.ndarray:
    """A squared sine ``[size]`` float32: smooth, symmetrical, nowhere 0, so that chunks may follow without overlap."""
    return (np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2).astype(np.float32)


def inner_window(size: int, hop: int, margin: int) -> np.ndarray:
    """Weights ``[size]`` float32 of chunks whose ends do not count: nothing for ``margin`` samples at each end.

    Between them chunks pass into each other as a squared sine, over what they have in common with the next one (at
    ``hop`` from here), half of it at most. ``size - hop`` must be no less than two margins.
    """
    inner = size - 2 * margin
    if not 0 < hop <= inner:
        raise ValueError(f"chunks of {size} samples every {hop} leave gaps if {margin} at each end do not count")
    fade = min(inner - hop, inner // 2)
    rising = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / max(fade, 1)) ** 2
    flat = np.ones(inner - 2 * fade)
    return np.pad(np.concatenate([rising, flat, rising[::-1]]), margin).astype(np.float32)


class OverlapAdd:
    """Weighted mean of overlapping chunks, streamed: what is final comes out at once, memory is one chunk.

    Chunk k begins at sample ``k·hop``. The sum is divided by the sum of the weights, so windows need not add up to a
    constant; a sample that only got weight 0 becomes 0.

    Args:
        window: weights ``[size]``; a shorter chunk takes the beginning
        hop: samples from chunk to chunk
        mean: False leaves the weighted sum as it is
    """

    def __init__(self, window: np.ndarray, hop: int, mean: bool = True):
        if not 0 < hop <= len(window):
            raise ValueError(f"the hop must lie in 1 … {len(window)}, the length of the window, not {hop}")
        self.window, self.hop, self.mean = np.asarray(window, np.float32), hop, mean
        self._sum: np.ndarray | None = None  # [..., size], from the next chunk's beginning on
        self._weight = np.zeros(len(window), np.float32)
        self._reach = 0  # samples of _sum that a chunk has reached

    def push(self, chunk: np.ndarray, window: np.ndarray | None = None) -> np.ndarray:
        """Adds ``chunk [..., n]``, n ≤ size, and returns the samples before the next chunk's beginning.

        That is ``[..., min(hop, n)]``, or more where the chunk before was longer. ``window [size]`` replaces the usual
        weights for this chunk.
        """
        samples = chunk.shape[-1]
        weights = (self.window if window is None else window)[:samples]
        if self._sum is None:
            self._sum = np.zeros((*chunk.shape[:-1], len(self.window)), np.float32)
        self._sum[..., :samples] += weights * chunk
        self._weight[:samples] += weights
        self._reach = max(self._reach, samples)
        return self._take(min(self.hop, self._reach))

    def flush(self) -> np.ndarray | None:
        """The rest ``[..., n]`` after the last chunk; None if there never was a chunk. Ready for another signal."""
        if self._sum is None:
            return None
        rest = self._take(self._reach)
        self._sum = None
        return rest

    def _take(self, count: int) -> np.ndarray:
        weight = self._weight[:count]
        out = self._sum[..., :count] / np.where(weight == 0, 1, weight) if self.mean else self._sum[..., :count].copy()
        for buffer in (self._sum, self._weight):
            buffer[..., : buffer.shape[-1] - count] = buffer[..., count:].copy()
            buffer[..., buffer.shape[-1] - count :] = 0
        self._reach -= count
        return out


def demix(
    mix: np.ndarray,
    network: Callable[[np.ndarray], np.ndarray],
    chunk: int,
    num_overlap: int,
    batch_size: int = 1,
    mode: str = "generic",
) -> np.ndarray:
    """Chunked separation of ZFTurbo's Music-Source-Separation-Training (``demix``), for networks trained for it.

    Args:
        mix: waveform ``[C, N]``
        network: batch ``[B, C, chunk]`` → estimates ``[B, S, C, chunk]``
        chunk: samples the network takes
        num_overlap: chunks over each sample; a chunk begins every ``chunk // num_overlap`` samples
        batch_size: chunks given to the network at once. As in the original the fades depend on it: only a first batch
            of one chunk starts without a fade-in, and the whole last batch ends without a fade-out
        mode: ``generic`` (mirrored ends, fades of a tenth of a chunk) or ``demucs`` (plain mean)

    Returns:
        estimates ``[S, C, N]`` float32
    """
    if mode not in ("generic", "demucs"):
        raise ValueError(f"mode must be generic or demucs, not {mode!r}")
    generic = mode == "generic"
    step, samples = chunk // num_overlap, mix.shape[-1]
    border = chunk - step
    mirrored = generic and samples > 2 * border and border > 0
    signal = np.pad(mix, [(0, 0), (border, border)], "reflect") if mirrored else mix
    places = list(chunks(signal.shape[-1], chunk, step)) or [(0, 0)]  # an empty signal: ask the network for its stems
    adder, pieces = OverlapAdd(np.ones(chunk, np.float32), step), []
    for first in range(0, len(places), batch_size):
        batch = places[first : first + batch_size]
        estimates = network(np.stack([_filled(signal, start, size, chunk, generic) for start, size in batch]))
        is_last = first + batch_size >= len(places)
        alone_first = first == 0 and len(batch) == 1
        fade = chunk // 10 if generic else 0
        window = fade_window(chunk, fade, first=alone_first, last=is_last and not alone_first)
        pieces += [
            adder.push(estimate[..., :size], window) for estimate, (_, size) in zip(estimates, batch, strict=True)
        ]
    pieces.append(adder.flush())
    out = np.concatenate(pieces, axis=-1)
    return out[..., border : border + samples] if mirrored else out


def _filled(signal: np.ndarray, start: int, size: int, chunk: int, mirror: bool) -> np.ndarray:
    """The chunk at ``start``, filled up at the end: mirrored when more than half is there, else with zeros."""
    part = signal[:, start : start + size]
    mode = "reflect" if mirror and size > chunk // 2 else "constant"
    return np.pad(part, [(0, 0), (0, chunk - size)], mode)
