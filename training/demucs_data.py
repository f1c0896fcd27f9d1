"""What an experiment of the Demucs family learns from and is judged by. Imports no paddle."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import wavset
from pretrained import demucs as published
from runtime.distributed import Group
from runtime.worker import local_size


@dataclass(frozen=True)
class Data:
    """The songs of a configuration, see `data.wavset`.

    Attributes:
        train: segments
        valid: songs, normalised as the segments are
        test: songs in their own level, or None
    """

    train: wavset.WaveSegments
    valid: wavset.WaveTracks
    test: wavset.WaveTracks | None


def prepare(cfg: Any, cache: str | Path | None) -> None:
    """Measures and caches the songs, and fetches the published weights that the run may begin with.

    What is there already takes a moment; else this takes too long for processes that wait for each other.
    Raises as `load` does, and UserError for weights that cannot be had.
    """
    if cfg.continue_pretrained:
        published.fetch_members(cfg.continue_pretrained, cfg.pretrained_repo)
    wavset.prepare(cfg, cache)


def load(cfg: Any, group: Group, cache: str | Path | None) -> Data:
    """The songs; the first process prepares what is not, while the others wait. ``train`` wants to be closed.

    Raises:
        UserError: no data set, no songs for training or validation, songs that cannot be used
    """
    if group.is_main:
        prepare(cfg, cache)
    group.barrier()
    return Data(*wavset.build(cfg, cache, stretchers(cfg)), wavset.test_tracks(cfg, cache))


def stretchers(cfg: Any) -> int:
    """How many processes change pitch and tempo beside this one: as many as it has loader threads and CPUs to itself.

    None where nothing is changed.
    """
    if wavset.repitch_of(cfg) is None:
        return 0
    return min(int(cfg.misc.num_workers), len(os.sched_getaffinity(0)) // local_size())


def fingerprint(train: wavset.WaveSegments) -> str:
    """Twelve hexadecimal digits that name the training songs, their order and their lengths."""
    songs = "\n".join(f"{track.song.name} {track.length}" for track in train.tracks)
    return hashlib.sha256(f"{len(train)}\n{songs}".encode()).hexdigest()[:12]
