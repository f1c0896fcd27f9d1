"""Waveforms in the cache: the same samples as on the disk, cut, shuffled and loaded like magnitudes."""

from dataclasses import replace

import numpy as np
import pytest

from data import cache
from data.augment import Augment
from data.chunks import CacheSpec, plan_chunks
from data.datasets import CachedMagnitudes, CachedWaveforms, DecodedWaveforms
from data.index import Index, load_stem
from data.loader import BatchLoader
from data.sampler import EpochPlan
from data.scan import build_index
from data.synthetic import write_songs
from runtime.errors import UserError

RATE, N = 8000, 5000
SPEC = CacheSpec(stems=("vocals", "accompaniment"), kind="waveform", sample_rate=RATE, chunk_seconds=1.0)


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    folder = tmp_path_factory.mktemp("songs")
    write_songs(folder, 4, 2.5, seed=1, sample_rate=RATE, splits={"valid": 1})
    return build_index(folder).index


@pytest.fixture(scope="module")
def root(index, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    for payload in ("int16", "float32"):
        cache.build(index, replace(SPEC, payload=payload), folder, processes=1)
    return folder


def test_the_default_is_16_bit_and_the_stft_does_not_matter():
    assert SPEC.payload == "int16" and replace(SPEC, frame_length=512, frame_step=64, bins=100) == SPEC
    assert SPEC.shape(N) == (2, N)
    with pytest.raises(UserError, match="payload 'float16' is unknown; choose one of int16, float32"):
        replace(SPEC, payload="float16")


def test_chunks_cover_every_sample(index):
    chunks = plan_chunks(index.songs[0], SPEC)
    assert [(chunk.start, chunk.frames) for chunk in chunks] == [(0, 8000), (8000, 8000), (12000, 8000)]


@pytest.mark.parametrize("payload", ["int16", "float32"])
def test_the_cache_holds_the_samples_of_the_files(index, root, payload):
    dataset = CachedWaveforms(index, replace(SPEC, payload=payload), root, "train", N, seed=3)
    assert dataset.shapes == {"mixture": (2, N), "targets": (2, 2, N)}
    for k in range(len(dataset)):
        item = dataset.item(1, k)
        song = index.song(item["song"])
        for array, stem in ((item["mixture"], "mixture"), *zip(item["targets"], SPEC.stems, strict=True)):
            assert np.array_equal(array, load_stem(index, song, stem, item["start"], N))


@pytest.mark.parametrize("split", ["train", "valid"])
def test_cached_and_decoded_segments_are_the_same(index, root, split):
    augment = Augment(gain=6.0, swap_channels=0.5)
    cached = CachedWaveforms(index, SPEC, root, split, N, seed=4, augment=augment)
    decoded = DecodedWaveforms(index, SPEC, split, N, seed=4, augment=augment)
    for k in range(len(cached)):
        one, other = cached.item(2, k), decoded.item(2, k)
        assert (one["song"], one["start"]) == (other["song"], other["start"])
        assert np.array_equal(one["mixture"], other["mixture"]) and np.array_equal(one["targets"], other["targets"])


def test_batches(index, root):
    dataset = CachedWaveforms(index, SPEC, root, "train", N)
    (batch, *_) = BatchLoader(dataset, EpochPlan(len(dataset), seed=1, epoch=0, batch_size=2), workers=2)
    assert batch["mixture"].shape == (2, 2, N) and batch["targets"].shape == (2, 2, 2, N)
    np.testing.assert_allclose(batch["targets"].sum(axis=1), batch["mixture"], atol=1e-6)


def test_kinds_lie_apart_and_the_estimate_is_no_less_than_the_size(index, root, tmp_path):
    assert cache.folder_of(root, SPEC).name.startswith("waveform-")
    for song in index.songs:
        size = cache.path_of(root, song, SPEC).stat().st_size
        assert size <= cache.estimate(song, SPEC) < size + 10_000
    with pytest.raises(ValueError, match="kind magnitude, not waveform"):
        CachedMagnitudes(index, SPEC, root, "train", N)
    with pytest.raises(UserError, match="time_stretch is for magnitudes"):
        DecodedWaveforms(index, SPEC, "train", N, augment=Augment(time_stretch=0.1))
    with pytest.raises(UserError, match=r"no segment of 9000 samples \(1\.1 s\)"):
        DecodedWaveforms(index, SPEC, "train", 9000)


def test_another_rate_and_mono(index, tmp_path):
    spec = replace(SPEC, sample_rate=4000, channels=1, payload="float32")
    cache.build(index, spec, tmp_path, processes=1)
    cached = CachedWaveforms(index, spec, tmp_path, "valid", 4000)
    decoded = DecodedWaveforms(index, spec, "valid", 4000)
    assert cached.item(0, 0)["mixture"].shape == (1, 4000)
    assert np.abs(cached.item(0, 0)["mixture"] - decoded.item(0, 0)["mixture"]).max() < 1e-5
