"""The training and validation segments of a configuration of magnitudes. Imports no paddle."""

from __future__ import annotations

from functools import partial
from typing import Any

from data.augment import Augment
from data.chunks import CacheSpec
from data.datasets import CachedMagnitudes, DecodedMagnitudes, Magnitudes
from data.index import Index
from runtime.errors import UserError


def cache_spec(cfg: Any) -> CacheSpec:
    """What the cache holds for a configuration.

    Raises:
        UserError: values that cannot work
    """
    return CacheSpec(
        stems=tuple(cfg.model.instruments),
        frame_length=cfg.model.frame_length,
        frame_step=cfg.model.frame_step,
        bins=cfg.model.frequency_bins,
        sample_rate=cfg.model.sample_rate,
        channels=cfg.model.channels,
        chunk_seconds=cfg.data.chunk_seconds,
        chunks_per_song=cfg.data.chunks_per_song,
        payload=cfg.data.payload,
    )


def magnitude_segments(cfg: Any, index: Index) -> tuple[Magnitudes, Magnitudes | None]:
    """Segments of the training and of the validation songs (None without such songs), from the cache or decoded.

    Raises:
        UserError: an empty split, no usable segment, songs that are not cached
    """
    data, spec, frames = cfg.data, cache_spec(cfg), cfg.model.segment_frames
    if data.source == "cache":
        make = partial(CachedMagnitudes, root=data.cache)
    elif data.source == "decode":
        make = DecodedMagnitudes
    else:
        raise UserError(f"data.source={data.source}: choose cache or decode")
    train = make(
        index,
        spec,
        split="train",
        segment_frames=frames,
        seed=cfg.train.seed,
        augment=Augment(**data.augment),
        training=True,
        samples_per_epoch=data.samples_per_epoch,
    )
    valid = make(index, spec, split="valid", segment_frames=frames) if index.split("valid") else None
    return train, valid
