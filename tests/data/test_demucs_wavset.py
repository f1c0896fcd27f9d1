"""Segments and whole songs of `dset.*`: where they lie, how they are normalised, and what a rescan notices."""

import json
import multiprocessing
import os

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from data import wavset
from data.loader import BatchLoader
from data.sampler import EpochPlan
from data.scan import build_index
from runtime.errors import UserError

RATE = 8000
SOURCES = ["drums", "bass", "other", "vocals"]


def song(folder, seconds=3.5, seed=0, sources=SOURCES, mixture=True, names=None, rate=RATE, suffix="wav"):
    """Write a song of noise; its stems ``[S, 2, N]`` in the order of ``sources``."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    shape = (len(sources), 2, round(seconds * rate))
    stems = (rng.integers(-3000, 3000, shape) + 500).astype(np.int16)
    for name, stem in zip(names or sources, stems, strict=True):
        soundfile.write(folder / f"{name}.{suffix}", stem.T, rate)
    if mixture:
        soundfile.write(folder / f"mixture.{suffix}", stems.sum(axis=0, dtype=np.int16).T, rate)
    return stems / np.float32(32768)


def config(tmp_path, **dset):
    keys = {
        "musdb": None, "use_musdb": True, "wav": None, "wav2": None, "segment": 2, "shift": 1, "train_valid": False,
        "full_cv": True, "samplerate": RATE, "channels": 2, "normalize": True, "metadata": str(tmp_path / "metadata"),
        "sources": SOURCES, "valid_samples": None, "wav2_weight": None, "wav2_valid": False,
    }  # fmt: skip
    augment = {"repitch": {"proba": 0, "max_tempo": 12}}
    return OmegaConf.create({"dset": {**keys, **dset}, "augment": augment, "seed": 3, "test": {"nonhq": None}})


@pytest.fixture
def musdb(tmp_path):
    """Two training songs, one of the validation songs of MUSDB18 and a test song; their stems by name."""
    root = tmp_path / "musdb"
    stems = {"A": song(root / "train" / "A", 3.5, 1), "B": song(root / "train" / "B", 1.5, 2)}
    stems["valid"] = song(root / "train" / "Leaf - Summerghost", 2.5, 3)
    stems["test"] = song(root / "test" / "T", 1.0, 4)
    (root / "train" / ".hidden").mkdir()
    return root, stems


def level(stems):
    mono = stems.sum(axis=0).mean(axis=0, dtype=np.float64)
    return mono.mean(), mono.std(ddof=1)


@pytest.mark.parametrize("cached", [False, True])
def test_segments_lie_where_the_original_has_them(tmp_path, musdb, cached):
    root, stems = musdb
    cache = tmp_path / "cache" if cached else None
    train, valid = wavset.build(config(tmp_path, musdb=str(root)), cache)
    assert len(train) == 3 + 1  # ceil((3.5 - 2) / 1) + 1 segments, and one of a song that is shorter than a segment
    assert train.shapes == {"stems": (4, 2, 2 * RATE)} and "2 songs, 4 segments of 2 s" in train.summary()
    mean, std = level(stems["A"])
    for k in range(3):
        item = train.item(0, k)
        piece = (stems["A"][..., k * RATE : (k + 2) * RATE] - mean) / std
        assert item["song"] == "A"
        np.testing.assert_allclose(item["stems"][..., : piece.shape[-1]], piece, atol=1e-5)
        assert not item["stems"][..., piece.shape[-1] :].any()
    (track,) = valid
    mean, std = level(stems["valid"])
    assert track.name == "Leaf - Summerghost" and track.normalised
    assert (track.mean, track.std) == (pytest.approx(mean, abs=1e-9), pytest.approx(std, rel=1e-6))
    np.testing.assert_allclose(track.stems, (stems["valid"] - mean) / std, atol=1e-5)
    np.testing.assert_allclose(track.mixture, (stems["valid"].sum(axis=0) - mean) / std, atol=1e-5)
    (test,) = wavset.test_tracks(config(tmp_path, musdb=str(root)), cache)
    assert np.array_equal(test.stems, stems["test"]) and not test.normalised
    assert test.std == pytest.approx(level(stems["test"])[1], rel=1e-6)


def test_silent_test_songs_stay_silent(tmp_path):
    for name, samples in (("rest", 3000), ("click", 1)):
        folder = tmp_path / "songs" / "test" / name
        folder.mkdir(parents=True)
        for stem in (*SOURCES, "mixture"):
            soundfile.write(folder / f"{stem}.wav", np.zeros((samples, 2)), RATE)
    for track in wavset.test_tracks(config(tmp_path, musdb=str(tmp_path / "songs"))):
        assert not ((track.mixture - track.mean) / track.std).any()


def test_cached_long_songs_are_read_across_their_chunks(tmp_path):
    stems = song(tmp_path / "set" / "train" / "long", 45, 1)
    song(tmp_path / "set" / "valid" / "v", 1, 2)
    cfg = config(tmp_path, wav=str(tmp_path / "set"), use_musdb=False, segment=11, normalize=False)
    wavset.prepare(cfg, tmp_path / "cache")
    train, _ = wavset.build(cfg, tmp_path / "cache")
    for k in (0, 12, 19, 30, 34):
        assert np.array_equal(train.item(0, k)["stems"], stems[..., k * RATE : (k + 11) * RATE])


def test_batches_for_the_loader(tmp_path, musdb):
    train, _ = wavset.build(config(tmp_path, musdb=str(musdb[0])))
    batches = list(BatchLoader(train, EpochPlan(len(train), seed=1, epoch=0, batch_size=2), workers=2))
    assert [batch["stems"].shape for batch in batches] == [(2, 4, 2, 2 * RATE)] * 2
    assert sorted(name for batch in batches for name in batch["songs"]) == ["A", "A", "A", "B"]


def test_changed_added_and_removed_songs_are_noticed(tmp_path, musdb, monkeypatch):
    root, _ = musdb
    cfg = config(tmp_path, musdb=str(root))
    measured = []
    original = wavset.collect.__globals__["_level"]
    monkeypatch.setitem(
        wavset.collect.__globals__, "_level", lambda *args: measured.append(args[1]["drums"]) or original(*args)
    )

    def look():
        measured.clear()
        train, valid = wavset.build(cfg)
        return sorted(measured), len(train), len(valid)

    assert len(look()[0]) == 3
    assert look() == ([], 4, 1)
    file = root / "train" / "B" / "mixture.wav"
    os.utime(file, ns=(1, 1))
    assert look()[0] == ["train/B/drums.wav"]
    song(root / "train" / "deep" / "C", 2.0, 9)
    assert look() == (["train/deep/C/drums.wav"], 5, 1)
    for path in (root / "train" / "A").iterdir():
        path.unlink()
    assert look() == ([], 2, 1)
    (record,) = (tmp_path / "metadata").iterdir()
    assert record.name.startswith("musdb_") and len(record.stem) == 14
    row = json.loads(record.read_text())["songs"]["train/B"]
    assert row["length"] == 1.5 * RATE and row["samplerate"] == RATE and row["std"] > 0
    record.write_text('{"A": {"length": 1}}')  # of another program
    assert len(look()[0]) == 3


def test_sets_are_joined_and_weighted(tmp_path, musdb):
    root, _ = musdb
    for number in range(3):
        song(tmp_path / "own" / "train" / f"own {number}", 2, number)
    song(tmp_path / "own" / "valid" / "own valid", 1, 7)
    own = str(tmp_path / "own")
    names = lambda data: [data.song_of(0, k) for k in range(len(data))]  # noqa: E731
    train, valid = wavset.build(config(tmp_path, musdb=str(root), wav=own))
    assert names(train) == ["A"] * 3 + ["B", "own 0", "own 1", "own 2"]
    assert [valid.song_of(k) for k in range(2)] == ["Leaf - Summerghost", "own valid"]
    train, valid = wavset.build(config(tmp_path, musdb=str(root), wav2=own, wav2_weight=0.2, wav2_valid=True))
    assert len(train) == 3 * 4 + 3 and names(train).count("own 1") == 1  # round(3 / 4 · (1 / 0.2 - 1)) = 3 times
    assert [track.name for track in valid] == ["Leaf - Summerghost"]  # round(0.2 · 1 / 0.8) = 0 of the other
    train, valid = wavset.build(config(tmp_path, musdb=str(root), wav2=own, train_valid=True))
    assert "Leaf - Summerghost" in names(train) and len(valid) == 1
    _, valid = wavset.build(config(tmp_path, musdb=str(root), wav=own, valid_samples=1))
    assert len(valid) == 1


def test_validation_in_pieces(tmp_path, musdb):
    root, stems = musdb
    _, valid = wavset.build(config(tmp_path, musdb=str(root), full_cv=False))
    assert [piece.stems.shape for piece in valid] == [(4, 2, 2 * RATE)] * 2
    mean, std = level(stems["valid"])
    np.testing.assert_allclose(
        valid[1].stems[..., : RATE * 3 // 2], (stems["valid"][..., RATE:] - mean) / std, atol=1e-5
    )
    assert not valid[1].mixture[..., RATE * 3 // 2 :].any()


def test_own_sources_without_mixtures_and_in_other_formats(tmp_path):
    sources = ["drums", "bass", "other", "vocals", "guitar"]
    root, options = tmp_path / "own", {"sources": sources, "mixture": False}
    stems = song(root / "train" / "X", 2, 1, suffix="flac", names=["drum", *sources[1:]], **options)
    song(root / "valid" / "Y", 1, 2, **options)
    song(tmp_path / "musdb" / "train" / "Z", 1)
    for cache in (None, tmp_path / "cache"):
        cfg = config(tmp_path, wav=str(root), musdb=str(tmp_path / "musdb"), sources=sources, channels=1)
        train, valid = wavset.build(cfg, cache)
        mean, std = level(stems)
        expected = (stems.mean(axis=1, keepdims=True) - mean) / std
        assert np.abs(train.item(0, 0)["stems"] - expected).max() < 3e-3  # half a step of 16 bits, where it is cached
        assert [track.name for track in valid] == ["Y"]  # more than four sources: MUSDB18 is left out
        assert np.abs(valid[0].mixture - valid[0].stems.sum(axis=0) - 4 * valid[0].mean / valid[0].std).max() < 0.02
    assert not (root / "train" / "X" / "mixture.wav").exists()


def test_an_indexed_data_set(tmp_path):
    root = tmp_path / "set"
    stems = {
        name: song(root / name, 2, k, names=["drums", "bass", "other", "vocal"]) for k, name in enumerate("ABCDEF")
    }
    build_index(root)
    cfg = config(tmp_path, musdb=str(root))
    train, valid = wavset.build(cfg)
    test = wavset.test_tracks(cfg)
    assert len(train.tracks) + len(valid) + len(test) == 6 and len(valid) == len(test) == 1
    item = train.item(0, 0)
    mean, std = level(stems[item["song"]])
    np.testing.assert_allclose(item["stems"], (stems[item["song"]] - mean) / std, atol=1e-5)
    os.utime(root / item["song"] / "bass.wav", ns=(1, 1))
    with pytest.raises(UserError, match="changed since the index was made"):
        wavset.build(cfg)


def test_other_rates(tmp_path):
    song(tmp_path / "set" / "train" / "A", 3, 1)
    song(tmp_path / "set" / "valid" / "B", 2, 2)
    cfg = config(tmp_path, wav=str(tmp_path / "set"), use_musdb=False, samplerate=4000)
    decoded, cached = wavset.build(cfg)[0], wavset.build(cfg, tmp_path / "cache")[0]
    assert decoded.shapes == {"stems": (4, 2, 8000)}
    assert np.abs(decoded.item(0, 1)["stems"] - cached.item(0, 1)["stems"]).max() < 1e-2


def test_repitched_segments_are_shorter_and_reproducible(tmp_path, musdb):
    cfg = config(tmp_path, musdb=str(musdb[0]))
    cfg.augment.repitch.proba = 0.5
    train, _ = wavset.build(cfg)
    assert train.repitch.vocals == (3,) and train.shapes == {"stems": (4, 2, 14080)}
    plain, _ = wavset.build(config(tmp_path, musdb=str(musdb[0])))
    same = [np.array_equal(train.item(e, 0)["stems"], plain.item(e, 0)["stems"][..., :14080]) for e in range(8)]
    assert 0 < sum(same) < 8
    changed = same.index(False)
    elsewhere, _ = wavset.build(cfg, processes=1)
    assert np.array_equal(elsewhere.item(changed, 0)["stems"], train.item(changed, 0)["stems"])
    (stretching,) = multiprocessing.active_children()
    stretching.kill()
    stretching.join()
    assert np.array_equal(elsewhere.item(changed, 0)["stems"], train.item(changed, 0)["stems"])
    elsewhere.close()
    assert not multiprocessing.active_children()


def test_what_is_wrong_with_a_data_set_is_said(tmp_path, musdb):
    root, _ = musdb
    for dset, words in (
        ({}, "nothing to train on"),
        ({"musdb": str(tmp_path / "none")}, "no folder `train`"),
        ({"musdb": str(root), "use_musdb": False}, "nothing to train on"),
    ):
        with pytest.raises(UserError, match=words):
            wavset.build(config(tmp_path, **dset))
    stems = tmp_path / "stems"
    (stems / "train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no songs; a song is a folder with drums\.wav, bass\.wav"):
        wavset.build(config(tmp_path, musdb=str(stems)))
    (stems / "train" / "A.stem.mp4").touch()
    (stems / "test").mkdir()
    (stems / "test" / "B.stem.mp4").touch()
    for use in (wavset.build, wavset.test_tracks):
        with pytest.raises(UserError, match=r"downloadMusdb\.py --from-archive"):
            use(config(tmp_path, musdb=str(stems)))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file"):
        wavset.build(config(tmp_path, musdb=str(root), metadata=str(tmp_path / "file" / "metadata")))
    (root / "train" / "A" / "bass.wav").unlink()
    with pytest.raises(UserError, match=r"A: there is no bass\.wav"):
        wavset.build(config(tmp_path, musdb=str(root)))
    soundfile.write(root / "train" / "A" / "bass.wav", np.zeros((100, 2)), RATE)
    with pytest.raises(UserError, match="has 100 samples"):
        wavset.build(config(tmp_path, musdb=str(root)))
    song(tmp_path / "own" / "train" / "X", 1)
    with pytest.raises(UserError, match="no validation songs"):
        wavset.build(config(tmp_path, wav=str(tmp_path / "own"), use_musdb=False))
