"""The training and validation sets of Demucs, as the keys ``dset.*`` of a configuration describe them."""

from pathlib import Path
from typing import Any

from data import cache as cache_store
from data.chunks import CacheSpec
from data.demucs_augment import Repitch
from data.wave_songs import Collection, MeasuredSong, collect, spelled, test_songs
from data.wave_tracks import Track, WaveSegments, WaveTracks, WholeTrack, segments_of, subset
from runtime.errors import UserError

__all__ = ["Track", "WaveSegments", "WaveTracks", "WholeTrack", "build", "prepare", "repitch_of", "test_tracks"]


def prepare(cfg: Any, cache: str | Path | None = None, processes: int | None = None) -> None:
    """Measure the songs of a configuration and fill the cache, so that `build` and `test_tracks` find all done.

    For the first of several processes, while the others wait. Raises as `build` does.
    """
    for collection in _collections(cfg.dset).values():
        if cache is not None:
            songs = [measured.song for measured in collection.songs]
            cache_store.fill(collection.index, _spec(cfg.dset), cache, songs, processes)
    if cache is not None:
        test_tracks(cfg, cache)


def build(cfg: Any, cache: str | Path | None = None, processes: int = 0) -> tuple[WaveSegments, WaveTracks]:
    """Training segments and validation songs of a whole configuration.

    ``dset.musdb`` (unless ``use_musdb=false``), ``dset.wav`` and ``dset.wav2`` are added up; with more than four
    sources ``dset.wav`` stands in for MUSDB18. The training songs of the first two are repeated so that ``dset.wav2``
    has about the share ``wav2_weight``; with ``wav2_valid`` as many of its validation songs join as give that share.
    ``train_valid`` trains on the validation songs of MUSDB18 as well.

    Args:
        cfg: with ``dset``, ``augment`` and ``seed``
        cache: folder for waveforms, for data sets whose files take long to decode; without it files are read each time
        processes: how many change pitch and tempo beside this one (see `WaveSegments.close`)

    Raises:
        UserError: no data set, no songs for training or validation, songs that cannot be used
    """
    dset = cfg.dset
    collections = _collections(dset)
    tracks = {key: _tracks(collection, dset, cache) for key, collection in collections.items()}
    train, valid = _joined(tracks, dset)
    roots = ", ".join(str(collection.index.root) for collection in collections.values())
    if not train:
        raise UserError(f"{roots}: there are no training songs; put some into the folder `train`")
    if not valid:
        raise UserError(
            f"{roots}: there are no validation songs; run `python preprocess.py` on the data set, which draws some, "
            "or put songs into the folder `valid`"
        )
    piece = {} if dset.full_cv else {"segment": dset.segment, "shift": dset.shift}
    return (
        WaveSegments(train, dset.segment, dset.shift, bool(dset.normalize), int(cfg.seed), repitch_of(cfg), processes),
        WaveTracks(valid, bool(dset.normalize), **piece, samples=dset.valid_samples),
    )


def test_tracks(cfg: Any, cache: str | Path | None = None) -> WaveTracks | None:
    """The test songs of ``test.nonhq`` or ``dset.musdb``, not normalised; None when there are none."""
    root = cfg.test.nonhq or cfg.dset.musdb
    if not root:
        return None
    index, songs = test_songs(root, list(cfg.dset.sources))
    measured = tuple(MeasuredSong(song, 0.0, 0.0) for song in songs)
    tracks = _tracks(Collection(index, measured), cfg.dset, cache)
    return WaveTracks(tracks["test"], normalize=False) if songs else None


def repitch_of(cfg: Any) -> Repitch | None:
    """What ``augment.repitch`` asks for, None with a probability of zero."""
    options = dict(cfg.augment.repitch)
    if not options.get("proba"):
        return None
    vocals = tuple(k for k, source in enumerate(cfg.dset.sources) if spelled(source) == "vocals")
    return Repitch(**options, vocals=vocals)


def _collections(dset: Any) -> dict[str, Collection]:
    """The data sets of a configuration by key, measured."""
    keys = [key for key in ("musdb", "wav", "wav2") if dset[key] and (key != "musdb" or dset.use_musdb)]
    if "wav" in keys and len(dset.sources) > 4 and "musdb" in keys:
        keys.remove("musdb")
    if not keys:
        raise UserError("there is nothing to train on: set dset.musdb or dset.wav")
    kinds = {"musdb": "musdb", "wav": "wav", "wav2": "wav"}
    return {key: collect(dset[key], kinds[key], list(dset.sources), dset.metadata) for key in keys}


def _spec(dset: Any) -> CacheSpec:
    return CacheSpec(
        kind="waveform", stems=tuple(dset.sources), sample_rate=int(dset.samplerate), channels=int(dset.channels)
    )


def _tracks(collection: Collection, dset: Any, cache: str | Path | None) -> dict[str, list[Track]]:
    """Tracks by split."""
    spec = _spec(dset)
    songs = [measured.song for measured in collection.songs]
    if cache is not None:
        cache_store.fill(collection.index, spec, cache, songs)
    tracks: dict[str, list[Track]] = {}
    for measured in collection.songs:
        song = measured.song
        file = None if cache is None else cache_store.open_song(cache, song, spec)
        track = Track(collection.index, spec, song, measured.mean, measured.std, file)
        tracks.setdefault(song.split, []).append(track)
    return tracks


def _joined(tracks: dict[str, dict[str, list[Track]]], dset: Any) -> tuple[list[Track], list[Track]]:
    """Training and validation songs of all data sets, weighted."""
    first = [tracks[key] for key in ("musdb", "wav") if key in tracks]
    train = [track for part in first for track in part.get("train", [])]
    if dset.train_valid and "musdb" in tracks:
        train += tracks["musdb"].get("valid", [])
    valid = [track for part in first for track in part.get("valid", [])]
    if "wav2" in tracks:
        extra, weight = tracks["wav2"], dset.wav2_weight
        own, others = _count(train, dset), _count(extra.get("train", []), dset)
        repeats = max(1, round(others / own * (1 / weight - 1))) if weight is not None and own else 1
        train = train * repeats + extra.get("train", [])
        if dset.wav2_valid:
            kept = extra.get("valid", [])
            valid = valid + (kept if weight is None else subset(kept, round(weight * len(valid) / (1 - weight))))
    return train, valid


def _count(tracks: list[Track], dset: Any) -> int:
    return sum(segments_of(track, dset.segment, dset.shift) for track in tracks)
