"""``apply_model``: a network or a bag over mixtures in memory, as ``demucs.apply`` does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dsp.chunks import MAX_SHIFT, ArraySong, draw_delays
from inference.chunked import Member, Splitting, WaveNetwork, separated
from inference.engine import EagerEngine, device_in_force
from inference.progress import Cancel, Cancelled, Progress
from runtime.device import is_host
from runtime.errors import UserError

Engines = Callable[[Any], Callable[[np.ndarray], np.ndarray]]


def apply_model(
    model: Any,
    mix: Any,
    shifts: int = 1,
    split: bool = True,
    overlap: float = 0.25,
    transition_power: float = 1.0,
    progress: Progress | None = None,
    num_workers: int = 0,
    segment: float | None = None,
    seed: int = 0,
    offsets: Sequence[int] | None = None,
    cancel: Cancel | None = None,
    batch: int = 1,
) -> Any:
    """Separate mixtures with a network on waveforms, or a bag of them; the numbers are those of ``demucs.apply``.

    The mixture is taken as it is: Demucs normalises it before (by the mean and the deviation of its mono mix) and takes
    that back afterwards, which `inference.Separator` does by itself.

    Args:
        model: a network that eats waveforms, or a bag of `pretrained.get_model`
        mix: ``[B, C, N]``, numpy or paddle, at the network's sample rate
        shifts: average so many passes over copies delayed by up to 0.5 s; 0 is one pass without delay
        split: in chunks; False is the whole song at once
        overlap: share of a chunk that overlaps the next, 0 … below 1
        transition_power: of the triangle that chunks are cross-faded with, at least 1
        progress: called with the finished share, 0 … 1
        num_workers: chunks to compute at the same time, in threads of the CPU
        segment: s of a chunk, instead of the network's
        seed: of the delays
        offsets: the draws of Demucs instead of our own, 0 … 0.5 s in samples: ``shifts`` for each network of the bag;
            a copy is delayed by 0.5 s minus its offset
        cancel: asked after every chunk; True ends the work with `Cancelled`
        batch: chunks per call of the network

    Returns:
        estimates ``[B, S, C, N]`` float32, of the kind that ``mix`` is

    Raises:
        ValueError: other axes or number of channels, options out of range
        UserError: a segment or a whole song that is too long for the network
        Cancelled: ``cancel`` said so

    Source: Défossez, ``demucs.apply`` of PyPI demucs 4.1.0.
    """
    if shifts < 0 or not 0 <= overlap < 1 or transition_power < 1 or num_workers < 0 or batch < 1:
        raise ValueError(
            "shifts and num_workers begin at 0, overlap lies in 0 … 1, transition_power and batch from 1 on"
        )
    how = Splitting(split, segment, overlap, transition_power, batch, max(1, num_workers))
    together = num_workers > 1 and is_host(device_in_force())
    crew = members(model, lambda each: EagerEngine(each, together), shifts, seed, offsets)
    array = np.asarray(mix if isinstance(mix, np.ndarray) else mix.numpy(), np.float32)
    network = crew[0].network
    if array.ndim != 3 or array.shape[1] != network.channels:
        raise ValueError(
            f"mixtures have the axes [batch, {network.channels} channels, samples], not {list(array.shape)}"
        )
    out = np.empty((len(array), network.sources, *array.shape[1:]), np.float32)
    done = 0
    for block in separated(ArraySong(array), crew, how):
        out[..., done : done + block.shape[-1]] = block
        done += block.shape[-1]
        if cancel and cancel():
            raise Cancelled
        if progress:
            progress(done / array.shape[-1])
    return out if isinstance(mix, np.ndarray) else _tensor(out)


def networks(model: Any) -> Sequence[Any]:
    """The networks of a bag or of several targets, or the one that is none."""
    return list(getattr(model, "models", None) or [model])


def members(
    model: Any, engine: Engines, shifts: int, seed: int = 0, offsets: Sequence[int] | None = None
) -> list[Member]:
    """What `inference.chunked` needs of a network or a bag; ``engine`` makes something callable of each network.

    The delays of a bag's networks are drawn one network after the other. See `apply_model` for ``offsets``.
    """
    crew = networks(model)
    weights = getattr(model, "weights", None) or [[1.0] * len(crew[0].description.sources)] * len(crew)
    seconds = getattr(model, "segments", None) or [None] * len(crew)
    for each in crew:
        if each.description.eats != "waveform":
            raise UserError(f"{each.description.name} is not a network that separates waveforms")
        if each.description.hop:
            raise UserError(f"{each.description.name} separates chunks of a stream: use inference.Separator")
    rate = crew[0].description.sample_rate
    delays = _drawn(len(crew), rate, shifts, seed) if offsets is None else _given(len(crew), rate, shifts, offsets)
    return [
        Member(WaveNetwork.of(each, engine(each), length), np.asarray(share, np.float64), own)
        for each, length, share, own in zip(crew, seconds, weights, delays, strict=True)
    ]


def _drawn(count: int, rate: int, shifts: int, seed: int) -> Iterator[tuple[int, ...]]:
    generator = np.random.default_rng(seed)
    return (draw_delays(generator, rate, shifts) for _ in range(count))


def _given(count: int, rate: int, shifts: int, offsets: Sequence[int]) -> Iterator[tuple[int, ...]]:
    longest = int(MAX_SHIFT * rate)
    if len(offsets) != count * shifts or not all(0 <= offset <= longest for offset in offsets):
        raise ValueError(f"{count * shifts} offsets from 0 to {longest} are needed, not {list(offsets)}")
    delays = [longest - offset for offset in offsets]
    return (tuple(delays[i * shifts : (i + 1) * shifts]) or (0,) for i in range(count))


def _tensor(array: np.ndarray) -> Any:
    import paddle

    return paddle.to_tensor(array)
