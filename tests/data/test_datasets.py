"""Segments for training and validation, cached and decoded."""

from dataclasses import replace

import numpy as np
import pytest

from data import cache
from data.augment import Augment
from data.chunks import CacheSpec, plan_chunks
from data.datasets import CachedMagnitudes, DecodedMagnitudes
from data.index import Index
from data.loader import BatchLoader
from data.sampler import EpochPlan
from data.scan import build_index
from data.synthetic import write_songs
from runtime.errors import UserError

SPEC = CacheSpec(
    stems=("vocals", "drums", "bass"),
    frame_length=256,
    frame_step=64,
    bins=64,
    sample_rate=8000,
    chunk_seconds=1.0,
    payload="float32",
)
T = 64


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    folder = tmp_path_factory.mktemp("songs")
    write_songs(folder, 4, 2.5, seed=1, sample_rate=8000, splits={"valid": 1})
    return build_index(folder).index


@pytest.fixture(scope="module")
def root(index, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    for payload in ("float32", "float16", "uint8"):
        cache.build(index, replace(SPEC, payload=payload), folder, processes=1)
    return folder


def same(one: dict, other: dict) -> bool:
    return (one["song"], one["start"]) == (other["song"], other["start"]) and all(
        np.array_equal(one[name], other[name]) for name in ("mixture", "targets")
    )


@pytest.mark.parametrize("augment", [None, Augment(3.0, 0.5, 0.1, 1.0)])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_cached_and_decoded_segments_are_the_same(index, root, augment, split):
    cached = CachedMagnitudes(index, SPEC, root, split, T, seed=4, augment=augment)
    decoded = DecodedMagnitudes(index, SPEC, split, T, seed=4, augment=augment)
    assert len(cached) == len(decoded) > 0 and cached.shapes == decoded.shapes
    for k in range(len(cached)):
        one, other = cached.item(2, k), decoded.item(2, k)
        assert (one["song"], one["start"]) == (other["song"], other["start"])
        assert np.abs(one["mixture"] - other["mixture"]).max() <= 1e-6 * one["mixture"].max()
        assert np.abs(one["targets"] - other["targets"]).max() <= 1e-6 * one["targets"].max()


@pytest.mark.parametrize(("payload", "tolerance"), [("float16", 2.0**-11), ("uint8", 0.045)])
def test_payloads_round_as_they_promise(index, root, payload, tolerance):
    exact = CachedMagnitudes(index, SPEC, root, "train", T)
    rounded = CachedMagnitudes(index, replace(SPEC, payload=payload), root, "train", T)
    for k in range(len(exact)):
        x, y = exact.item(0, k)["targets"], rounded.item(0, k)["targets"]
        loud = x > 1e-3 * x.max()
        assert np.all(np.abs(y - x)[loud] <= tolerance * x[loud])


def test_shapes_and_the_order_of_the_stems(index, root):
    item = CachedMagnitudes(index, SPEC, root, "train", T).item(0, 0)
    assert item["mixture"].shape == (2, T, 64) and item["targets"].shape == (3, 2, T, 64)
    reordered = CachedMagnitudes(index, SPEC, root, "train", T)
    assert reordered.shapes == {"mixture": (2, T, 64), "targets": (3, 2, T, 64)}
    spec = replace(SPEC, stems=("bass", "vocals", "drums"))
    other = DecodedMagnitudes(index, spec, "train", T).item(0, 0)
    assert np.allclose(other["targets"], item["targets"][[2, 0, 1]], atol=1e-5)


def test_an_item_depends_on_seed_epoch_and_index_only(index, root):
    dataset = CachedMagnitudes(index, SPEC, root, "train", T, seed=7, augment=Augment(time_stretch=0.1))
    first = dataset.item(3, 5)
    for k in (0, 8, 2):
        dataset.item(1, k)
    again = CachedMagnitudes(index, SPEC, root, "train", T, seed=7, augment=Augment(time_stretch=0.1))
    again.set_epoch(3)
    assert same(first, again[5])
    starts = {dataset.item(epoch, 5)["start"] for epoch in range(20)}
    assert len(starts) > 5
    other = CachedMagnitudes(index, SPEC, root, "train", T, seed=8)
    assert any(other.item(e, 5)["start"] != dataset.item(e, 5)["start"] for e in range(5))


def test_training_segments_start_at_every_frame_of_a_chunk(index, root):
    dataset = CachedMagnitudes(index, SPEC, root, "train", T)
    starts = {dataset.item(epoch, 0)["start"] // SPEC.frame_step for epoch in range(600)}
    assert starts == set(range(SPEC.frames_in(SPEC.chunk_samples) - T + 1))


def test_validation_takes_the_middle_and_is_never_augmented(index, root):
    dataset = CachedMagnitudes(index, SPEC, root, "valid", T, augment=Augment(6.0, 1.0, 0.1, 1.0))
    chunk = SPEC.frames_in(SPEC.chunk_samples)
    assert dataset.item(0, 0)["start"] == (chunk - T) // 2 * SPEC.frame_step
    assert same(dataset.item(0, 0), dataset.item(9, 0))
    assert same(dataset.item(0, 0), CachedMagnitudes(index, SPEC, root, "valid", T).item(0, 0))


def test_an_epoch_has_every_chunk_once(index, root):
    dataset = CachedMagnitudes(index, SPEC, root, "train", T)
    assert len(dataset) == 3 * 3
    names = [dataset.song_of(0, k) for k in range(len(dataset))]
    assert sorted(names) == sorted([song.name for song in index.split("train")] * 3)


def test_epochs_of_another_length_take_turns(index, root):
    dataset = CachedMagnitudes(index, SPEC, root, "train", T, samples_per_epoch=6)
    chunks = [(item["song"], item["start"] // 64) for e in range(3) for item in (dataset.item(e, k) for k in range(6))]
    assert len(dataset) == 6 and len(chunks) == 18
    longer = CachedMagnitudes(index, SPEC, root, "train", T, samples_per_epoch=27)
    songs = [longer.song_of(0, k) for k in range(27)]
    assert all(songs.count(song.name) == 9 for song in index.split("train"))
    with pytest.raises(IndexError):
        longer.item(0, 27)


def test_augmentation_is_the_same_for_mixture_and_stems(index, root):
    plain = CachedMagnitudes(index, SPEC, root, "train", T, seed=1)
    swapped = CachedMagnitudes(index, SPEC, root, "train", T, seed=1, augment=Augment(swap_channels=1.0))
    louder = CachedMagnitudes(index, SPEC, root, "train", T, seed=1, augment=Augment(gain=6.0))
    one, two, three = (dataset.item(0, 3) for dataset in (plain, swapped, louder))
    assert one["start"] == two["start"] == three["start"]
    assert np.array_equal(two["mixture"], one["mixture"][::-1])
    assert np.array_equal(two["targets"], one["targets"][:, ::-1])
    factor = three["mixture"].max() / one["mixture"].max()
    assert factor != 1 and 0.5 <= factor <= 2
    assert np.allclose(three["targets"], one["targets"] * factor, rtol=1e-5)


def test_stretching_a_segment_that_fills_its_chunk(index, root):
    whole = SPEC.frames_in(SPEC.chunk_samples)
    dataset = CachedMagnitudes(index, SPEC, root, "train", whole, augment=Augment(time_stretch=0.1))
    for epoch in range(4):
        assert np.isfinite(dataset.item(epoch, 0)["targets"]).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_through_the_loader(index, root, workers):
    dataset = CachedMagnitudes(index, replace(SPEC, payload="float16"), root, "train", T, seed=2)
    plan = EpochPlan(len(dataset), 2, 1, batch_size=4)
    for indices, batch in zip(plan, BatchLoader(dataset, plan, workers=workers), strict=True):
        items = [dataset.item(1, k) for k in indices]
        assert np.array_equal(batch["mixture"], np.stack([item["mixture"] for item in items]))
        assert np.array_equal(batch["targets"], np.stack([item["targets"] for item in items]))
        assert batch["songs"] == [item["song"] for item in items]
        assert batch["starts"] == [item["start"] for item in items]


def test_songs_instead_of_a_split(index, root):
    dataset = CachedMagnitudes(index, SPEC, root, index.split("train")[1:], T)
    assert {song.name for song in dataset.songs} == {song.name for song in index.split("train")[1:]}
    assert dataset.training


def test_short_and_lacking_songs_are_left_out_and_counted(index, root):
    short, lacking, good = index.split("train")
    short = replace(short, frames=SPEC.samples_of(T) - 1)
    lacking = replace(lacking, sources={"mixture": lacking.sources["mixture"]})
    spoilt = Index(index.root, (short, lacking, good))
    dataset = CachedMagnitudes(spoilt, SPEC, root, "train", T)
    assert dataset.too_short == [short.name] and dataset.lacking == [lacking.name]
    assert "1 songs under 64 frames left out" in dataset.summary()


def test_no_segment_at_all(index, root):
    with pytest.raises(UserError, match=r"'train' has no segment of 640 frames"):
        CachedMagnitudes(index, SPEC, root, "train", 640)
    with pytest.raises(UserError, match="no songs"):
        DecodedMagnitudes(index, SPEC, "test", T)


def test_songs_that_are_not_cached(index, tmp_path):
    with pytest.raises(UserError, match=r"3 of 3 songs are not in the cache.*process_data"):
        CachedMagnitudes(index, SPEC, tmp_path, "train", T)


def test_damage_is_found_when_the_chunk_is_read(index, tmp_path):
    cache.build(index, SPEC, tmp_path, processes=1)
    dataset = CachedMagnitudes(index, SPEC, tmp_path, "train", T)
    path = cache.path_of(tmp_path, dataset.songs[1], SPEC)
    with open(path, "r+b") as handle:
        handle.seek(500)
        handle.write(b"\xff\xff\xff\xff")
    with pytest.raises(UserError, match=f"{path.name}.*process_data"):
        list(BatchLoader(dataset, EpochPlan(len(dataset), 0, 0, batch_size=3), workers=2))


def test_validation_covers_every_chunk(index, root):
    short = 20  # frames; a chunk has more than a hundred
    dataset = CachedMagnitudes(index, SPEC, root, "valid", short)
    starts = [dataset.item(0, k)["start"] for k in range(len(dataset))]
    (song,) = index.split("valid")
    for chunk in plan_chunks(song, SPEC):
        inside = [start for start in starts if chunk.start <= start < chunk.start + chunk.frames * SPEC.frame_step]
        assert len(inside) >= chunk.frames // short
    assert len(set(starts)) == len(starts)
