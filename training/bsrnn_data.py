"""What BandSplitRNN learns from and is judged by: pairs of a mixture and its target. Imports no paddle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import cache
from data.activity import Activity
from data.activity_index import SOURCES, open_index
from data.activity_lists import list_path, write_lists
from data.chunks import CacheSpec
from data.index import INDEX_NAME, Index, Song, read_index
from data.salient import Remix, SalientSegments
from data.salient_augment import BatchAugmentation, augment, batch_generator
from data.wave_tracks import Track
from models.registry import describe
from runtime.console import log
from runtime.errors import UserError
from training.prepare import plain

if TYPE_CHECKING:
    from training.recipes import Batch

SPLITS = ("train", "valid")


def settle(cfg: Any, processes: int | None = None) -> Index:
    """Makes what is missing: the index of a folder without, lists of the target, cached waveforms.

    For the first of several processes, before the others start; what is there already takes a moment.

    Args:
        cfg: the configuration of a run
        processes: that listen and cache; one for each processor if not given

    Raises:
        UserError: no data set, no songs with the target, songs that cannot be read, a folder that cannot be written
    """
    index, target, folder = _index(cfg), cfg.train_dataset.target, Path(cfg.train_dataset.txt_dir)
    missing = [split for split in SPLITS if index.split(split) and not list_path(folder, target, split).is_file()]
    if missing:
        log(f"listening where the {target} sound, for lists in {folder}")
        activity = Activity.from_config({**plain(cfg.sad), "sr": int(cfg.model.sr)})
        report = write_lists(index, folder, target, missing, activity, processes)
        for written in report.lists:
            log(f"{written.path}: {written.lines} stretches of {written.songs} songs")
    if cfg.data.source == "cache":
        spec = waveform_spec(cfg, index)
        cache.fill(index, spec, cfg.data.cache, _songs(index, spec), processes)
    return index


def _index(cfg: Any) -> Index:
    """The index of a run; that of a folder without one lies beside the lists, and is brought up to date."""
    folder, dataset = Path(cfg.train_dataset.txt_dir), Path(cfg.data.dataset)
    known = Path(cfg.data.index)
    if known == folder / INDEX_NAME and (dataset.is_dir() or not known.is_file()):
        return open_index(dataset, folder, [cfg.train_dataset.target])
    return read_index(known)


def waveform_spec(cfg: Any, index: Index) -> CacheSpec:
    """What is read of the songs: the target and the sources that may be mixed with it, which all songs have."""
    target = cfg.train_dataset.target
    songs = [song for split in SPLITS for song in index.split(split) if song.has(target)]
    if not songs:
        raise UserError(f"{index.path}: no song for training or validation has {target} (train_dataset.target)")
    others = [stem for stem in SOURCES if stem != target and all(song.has(stem) for song in songs)]
    return CacheSpec(
        kind="waveform",
        stems=(target, *others),
        sample_rate=int(cfg.model.sr),
        channels=1 if cfg.model.is_mono else 2,
        chunk_seconds=cfg.data.chunk_seconds,
        payload=cfg.data.payload,
    )


def _songs(index: Index, spec: CacheSpec) -> list[Song]:
    return [song for split in SPLITS for song in index.split(split) if all(song.has(track) for track in spec.tracks)]


def salient_segments(cfg: Any, index: Index) -> tuple[SalientSegments, SalientSegments | None]:
    """Training and validation examples (None without validation songs).

    Raises:
        UserError: lists that are missing or of other songs, songs that are not cached, examples longer than a stretch
    """
    if cfg.data.source not in ("cache", "decode"):
        raise UserError(f"data.source={cfg.data.source}: choose cache or decode")
    spec, dataset, train = waveform_spec(cfg, index), cfg.train_dataset, cfg.train
    songs = _songs(index, spec)
    samples = describe(cfg.network, **plain(cfg.model)).segment
    first_chunk = bool(cfg.augmentations.first_chunk)
    remix = Remix(dataset.silent_prob, dataset.mix_prob, bool(dataset.mix_tgt_too), first_chunk)
    batches = cfg.data.batches_per_epoch
    learnt = SalientSegments(
        _tracks(cfg, index, spec, songs, "train"),
        list_path(dataset.txt_dir, dataset.target, "train"),
        dataset.target,
        samples,
        remix,
        seed=train.seed,
        samples_per_epoch=batches and batches * train.batch_size * train.processes * train.accumulate,
    )
    judging = _tracks(cfg, index, spec, songs, "valid") if index.split("valid") else []
    path = list_path(dataset.txt_dir, dataset.target, "valid")
    if not judging or not path.stat().st_size:
        return learnt, None
    return learnt, SalientSegments(
        judging, path, dataset.target, samples, training=False, step=int(cfg.data.valid_step)
    )


def _tracks(cfg: Any, index: Index, spec: CacheSpec, songs: Sequence[Song], split: str) -> list[Track]:
    cached = cfg.data.source == "cache"
    tracks = [
        Track(index, spec, song, 0.0, 1.0, cache.open_song(cfg.data.cache, song, spec) if cached else None)
        for song in songs
        if song.split == split
    ]
    if not tracks:
        raise UserError(f"{index.path}: the split {split!r} has no song with {', '.join(spec.stems)}")
    return tracks


class Finish:
    """Changes every training batch as the group ``augmentations`` of a configuration says.

    Args:
        cfg: the whole configuration
        rank, processes: which share of a global batch this process has
    """

    def __init__(self, cfg: Any, rank: int, processes: int):
        changes = {name: change for name, change in plain(cfg.augmentations).items() if name != "first_chunk"}
        self.options, self.seed = BatchAugmentation.from_config(changes), cfg.train.seed
        self.share = {"rank": rank, "processes": processes}

    def __call__(self, batch: Batch, epoch: int, position: int) -> Batch:
        """``mixture`` and ``target [B, C, N]`` of the batch with this number in its epoch."""
        return augment(batch, self.options, batch_generator(self.seed, epoch, position), **self.share)
