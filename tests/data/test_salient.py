"""Pairs cut from where the target sounds: which samples, what is drawn how often, and what befalls a batch."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from data import cache
from data.activity import Activity
from data.activity_index import SOURCES, open_index
from data.activity_lists import Stretch, list_path, read_list, write_lists
from data.chunks import CacheSpec
from data.index import load_stem
from data.loader import BatchLoader
from data.salient import Geometry, Remix, SalientSegments, geometry
from data.salient_augment import BatchAugmentation, Change, augment, batch_generator
from data.sampler import EpochPlan, ValidationPlan
from data.wave_tracks import Track
from runtime.errors import UserError

RATE, LENGTH, N = 8000, 12000, 3000
SPEC = CacheSpec(kind="waveform", stems=SOURCES, sample_rate=RATE, chunk_seconds=0.5, payload="float32")
STRETCHES = [Stretch("A", 0, 8000), Stretch("A", 4000, 12000), Stretch("B", 4000, 12000)]
SILENT = Stretch("C", 0, 8000)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Songs of noise, each source of each song at a level of its own; C is silent."""
    root = tmp_path_factory.mktemp("songs")
    for number, song in enumerate("ABC"):
        folder = root / "train" / song
        folder.mkdir(parents=True)
        rng = np.random.default_rng(number)
        tracks = {name: 0.02 * (k + 1) * rng.uniform(-1, 1, (LENGTH, 2)) for k, name in enumerate(SOURCES)}
        if song == "C":
            tracks = {name: 0 * x for name, x in tracks.items()}
        for name, x in {**tracks, "mixture": sum(tracks.values())}.items():
            soundfile.write(folder / f"{name}.wav", x, RATE, subtype="FLOAT")
    return open_index(root, tmp_path_factory.mktemp("lists"), [])


@pytest.fixture(scope="module")
def tracks(index):
    return [Track(index, SPEC, song, 0.0, 1.0) for song in index.songs]


@pytest.fixture
def listed(tmp_path):
    return lambda *stretches: write(list_path(tmp_path, "vocals", "train"), stretches or STRETCHES)


def write(path, stretches):
    path.write_text("".join(f"{song}\t{start}\t{stop}\n" for song, start, stop in stretches))
    return path


def stem(index, name, song, start, count=N):
    return load_stem(index, index.song(song), name, start, count)


def peak(index, stretch):
    song, start, stop = stretch
    return max(np.abs(stem(index, name, song, start, stop - start)).max() for name in ("mixture", "vocals"))


def place(index, item, name="mixture", key="mixture"):
    """Where in its song a piece of an unchanged pair begins, judged by how well it fits."""
    whole = stem(index, name, item["song"], 0, LENGTH)[0]
    fit = np.correlate(whole, item[key][0] - item[key][0].mean(), "valid")
    return int(fit.argmax())


# ----------------------------------------------------------------------------------------------------------- the pieces


def test_the_lengths_of_the_original():
    assert geometry() == Geometry(134144, 45944)
    assert geometry(2.0, 0.5) == Geometry(88200 + 1912, 22050 + 1912)


def test_a_training_piece_is_cut_anywhere_and_divided_by_the_peak_of_its_stretch(index, tracks, listed):
    segments = SalientSegments(tracks, listed(), "vocals", N, seed=3)
    assert len(segments) == 3 and segments.shapes == {"mixture": (2, N), "target": (2, N)}
    assert [song.name for song in segments.songs] == ["A", "B"]
    starts = {k: [] for k in range(3)}
    for epoch in range(40):
        for k, stretch in enumerate(STRETCHES):
            item = segments.item(epoch, k)
            assert item["song"] == stretch.song == segments.song_of(epoch, k)
            start = place(index, item)
            for key, name in (("mixture", "mixture"), ("target", "vocals")):
                wanted = stem(index, name, stretch.song, start) / peak(index, stretch)
                np.testing.assert_array_equal(item[key], wanted)
            starts[k].append(start - stretch.start)
    drawn = np.array(list(starts.values()))
    assert drawn.min() >= 0 and drawn.max() < 5000 and abs(drawn.mean() - 2500) < 400
    assert len(np.unique(drawn)) > 110


def test_a_piece_depends_on_seed_epoch_and_index_alone(tracks, listed):
    remix = Remix(0.5, 0.5, mix_tgt_too=True)
    one, other = (SalientSegments(tracks, listed(), "vocals", N, remix, seed=3) for _ in range(2))
    for epoch, k in ((1, 2), (0, 0), (5, 1)):
        one.item(epoch + 9, k)  # what was asked for before does not matter
        a, b = one.item(epoch, k), other.item(epoch, k)
        assert np.array_equal(a["mixture"], b["mixture"]) and np.array_equal(a["target"], b["target"])
    seeds = [SalientSegments(tracks, listed(), "vocals", N, seed=s).item(0, 0)["mixture"] for s in (3, 4)]
    assert not np.array_equal(*seeds)


def test_validation_takes_all_pieces_as_they_are(index, tracks, listed):
    segments = SalientSegments(tracks, listed(), "vocals", N, Remix(1, 1), training=False, step=2000)
    assert len(segments) == 9
    for k in range(9):
        stretch = STRETCHES[k // 3]
        item, start = segments.item(0, k), stretch.start + 2000 * (k % 3)
        for key, name in (("mixture", "mixture"), ("target", "vocals")):
            wanted = stem(index, name, stretch.song, start) / peak(index, stretch)
            np.testing.assert_array_equal(item[key], wanted)
    assert "2 songs, 3 stretches with vocals, 9 pieces of 0.375 s" in segments.summary()


def test_silence_stays_silence(tracks, listed):
    segments = SalientSegments(tracks, listed(SILENT), "vocals", N)
    item = segments.item(0, 0)
    assert not item["mixture"].any() and not item["target"].any()


def test_an_epoch_of_another_length_takes_all_stretches_in_turn(tracks, listed):
    segments = SalientSegments(tracks, listed(), "vocals", N, samples_per_epoch=2)
    assert len(segments) == 2 and segments.summary().endswith("2 pieces of 0.375 s an epoch")
    songs = [segments.song_of(*divmod(k, 2)) for k in range(6)]
    assert sorted(songs[:3]) == sorted(songs[3:]) == ["A", "A", "B"]
    valid = SalientSegments(tracks, listed(), "vocals", N, training=False, samples_per_epoch=2)
    assert len(valid) == 6


def test_batches_from_the_cache_are_those_from_the_files(index, tracks, listed, tmp_path):
    cache.build(index, SPEC, tmp_path, processes=1)
    cached = [replace(track, cached=cache.open_song(tmp_path, track.song, SPEC)) for track in tracks]
    remix = Remix(0.3, 0.7)
    batches = [
        list(BatchLoader(SalientSegments(songs, listed(), "bass", N, remix, 1), EpochPlan(3, 1, 4, batch_size=3)))
        for songs in (tracks, cached)
    ]
    (one,), (other,) = batches
    assert one["mixture"].shape == one["target"].shape == (3, 2, N) and one["songs"] == other["songs"]
    assert np.array_equal(one["mixture"], other["mixture"]) and np.array_equal(one["target"], other["target"])
    valid = SalientSegments(cached, listed(), "bass", N, training=False)
    assert [len(b["songs"]) for b in BatchLoader(valid, ValidationPlan(6, batch_size=4), workers=2)] == [4, 2]


@pytest.mark.parametrize(
    ("stretches", "samples", "complaint"),
    [
        ([Stretch("D", 0, 8000)], N, "the song 'D' is not in this split"),
        ([Stretch("A", 8000, 16000)], N, "up to sample 16000, but has only 12000"),
        (STRETCHES, 9000, "stretches of 8000 samples are shorter than the 9000"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(tracks, listed, stretches, samples, complaint):
    with pytest.raises(UserError, match=complaint):
        SalientSegments(tracks, listed(*stretches), "vocals", samples)


def test_a_list_of_another_rate_is_refused(index, tracks, tmp_path):
    write_lists(index, tmp_path, "vocals", ["train"], Activity(sr=2 * RATE, window_size_in_sec=1.0), processes=1)
    with pytest.raises(UserError, match=f"counts samples at {2 * RATE} Hz, but they are read at {RATE} Hz"):
        SalientSegments(tracks, list_path(tmp_path, "vocals", "train"), "vocals", N)


def test_an_empty_list_and_an_unknown_target_are_refused(tracks, listed, tmp_path):
    with pytest.raises(UserError, match=r"train_dataset\.target=guitar: choose one of vocals, drums, bass, other"):
        SalientSegments(tracks, listed(), "guitar", N)
    (tmp_path / "none.txt").touch()
    with pytest.raises(UserError, match="lists nothing: no song has a stretch with bass"):
        SalientSegments(tracks, tmp_path / "none.txt", "bass", N)
    assert read_list(tmp_path / "none.txt") == []


# --------------------------------------------------------------------------------------------------------- augmentation


def pairs(segments, epochs=60):
    return [segments.item(epoch, k) for epoch in range(epochs) for k in range(len(segments))]


def test_a_share_of_the_targets_is_taken_out_of_the_mixture(index, tracks, listed):
    segments = SalientSegments(tracks, listed(), "vocals", N, Remix(0.3, 0.0), seed=1)
    items = pairs(segments)
    silent = [item for item in items if not item["target"].any()]
    assert 0.2 < len(silent) / len(items) < 0.4
    plain = SalientSegments(tracks, listed(), "vocals", N, seed=1)
    for item, other in zip(items, pairs(plain), strict=True):  # the same pieces, whatever the probabilities
        if item["target"].any():
            assert np.array_equal(item["mixture"], other["mixture"])
        else:
            assert np.array_equal(item["mixture"], other["mixture"] - other["target"])


def parts(index, residual):
    """The sources that a mixture of noises consists of beside its target: those that fit a stretch of the list."""
    found = set()
    for name in SOURCES:
        for song in "AB":
            whole = stem(index, name, song, 0, LENGTH)[0]
            fit = np.correlate(whole, residual[0], "valid").max() / np.square(whole[:N]).sum()
            if fit > 0.5:
                found.add((name, song))
    return found


@pytest.mark.parametrize("too", [False, True])
def test_new_mixtures_are_the_target_and_other_sources_at_their_own_level(index, tracks, listed, too):
    segments = SalientSegments(tracks, listed(), "vocals", N, Remix(0.0, 1.0, mix_tgt_too=too), seed=2)
    plain = SalientSegments(tracks, listed(), "vocals", N, seed=2)
    sources, counts, songs = set(), [], set()
    for item, other in zip(pairs(segments, 20), pairs(plain, 20), strict=True):
        found = parts(index, item["mixture"] - other["target"])
        counts.append(len(found))
        sources |= {name for name, _ in found}
        songs |= {(item["song"], song) for _, song in found}
        added = item["target"] - other["target"]
        assert bool(np.abs(added).max() > 1e-3) == ("vocals" in {name for name, _ in found})
    assert sources == set(SOURCES if too else SOURCES[1:])
    assert set(counts) == set(range(1, 5 if too else 4))
    assert songs == {("A", "A"), ("A", "B"), ("B", "A"), ("B", "B")}


def test_a_silent_target_gets_a_new_mixture_without_it(index, tracks, listed):
    segments = SalientSegments(tracks, listed(), "vocals", N, Remix(1.0, 1.0, first_chunk=True))
    for item in pairs(segments, 5):
        assert not item["target"].any() and item["mixture"].any()
        assert "vocals" not in {name for name, _ in parts(index, item["mixture"])}


def test_where_there_is_no_other_source_mixtures_stay(index, listed):
    alone = [Track(index, replace(SPEC, stems=("vocals",)), song, 0.0, 1.0) for song in index.songs]
    one, other = (SalientSegments(alone, listed(), "vocals", N, Remix(0.0, share)).item(0, 0) for share in (0.0, 1.0))
    assert np.array_equal(one["mixture"], other["mixture"])


def test_the_first_chunk_begins_with_the_stretch(index, tracks, listed):
    segments = SalientSegments(tracks, listed(), "vocals", N, Remix(0, 0, first_chunk=True))
    assert [place(index, segments.item(epoch, 1)) for epoch in range(4)] == [4000] * 4


def test_probabilities_are_checked():
    with pytest.raises(UserError, match=r"train_dataset\.mix_prob is 2; a probability"):
        Remix(mix_prob=2)
    with pytest.raises(UserError, match=r"p=-1; a probability"):
        Change(p=-1)
    with pytest.raises(UserError, match=r"min_db=3 is above max_db=2"):
        Change(1, 3, 2)


# -------------------------------------------------------------------------------------------------------- whole batches


def batch(rows=4):
    rng = np.random.default_rng(0)
    levels = 10 ** rng.uniform(-2, 0, (2, rows, 2, 1))
    mixture, target = (levels * rng.standard_normal((2, rows, 2, 400))).astype(np.float32)
    return {"mixture": mixture, "target": target, "songs": ["a"] * rows}


def run(options, position=0, rows=4, **kwargs):
    return augment(batch(rows), options, batch_generator(5, 1, position), **kwargs)


def test_options_come_from_the_configuration():
    groups = OmegaConf.create({"first_chunk": False, "gainscale": {"p": 0.5, "min_db": -10, "max_db": 10}})
    assert BatchAugmentation.from_config(groups) == BatchAugmentation(gainscale=Change(0.5, -10, 10))
    same = run(BatchAugmentation())
    assert all(np.array_equal(same[name], batch()[name]) for name in ("mixture", "target"))


def test_gains_are_drawn_for_each_pair_of_a_share_of_the_batches():
    options = BatchAugmentation(gainscale=Change(0.5, -10, 10))
    gains = []
    for position in range(200):
        out = run(options, position)
        ratio = np.concatenate([out[name] / batch()[name] for name in ("mixture", "target")], axis=1)
        assert np.ptp(ratio, axis=(1, 2)).max() < 1e-5 * ratio.max()
        gains.append(20 * np.log10(ratio[:, 0, 0]))
    changed = [gain for gain in gains if np.abs(gain).max() > 1e-3]
    assert 0.4 < len(changed) / len(gains) < 0.6
    changed = np.concatenate(changed)
    assert -10 <= changed.min() < -9.5 and 9.5 < changed.max() <= 10 and abs(changed.mean()) < 1
    assert len(np.unique(changed.round(4))) > 0.95 * len(changed)


def test_mix_adds_a_target_of_the_batch_some_decibels_below_each_sound():
    options, x = BatchAugmentation(mix=Change(1.0, 0, 5)), batch()
    distances = []
    for position in range(40):
        out = run(options, position)
        for row in range(4):
            levels = []
            for name in ("mixture", "target"):
                added = (out[name][row] - x[name][row]).astype(np.float64)
                fits = [abs(np.corrcoef(added[0], voice[0])[0, 1]) for voice in x["target"]]
                assert max(fits) > 0.999
                levels.append(20 * np.log10(rms(x[name][row]) / rms(added)))
                levels.append(int(np.argmax(fits)))
            assert levels[1] == levels[3] and np.ptp([*levels[0], *levels[2]]) < 1e-3
            distances += list(levels[0])
    assert -1e-3 <= min(distances) < 0.5 and 4.5 < max(distances) <= 5.001


def rms(x):
    return np.sqrt(np.mean(np.square(x, dtype=np.float64), axis=-1))


def test_silence_survives_a_mix():
    x = {name: np.zeros((2, 2, 50), np.float32) for name in ("mixture", "target")}
    out = augment(x, BatchAugmentation(Change(1, -10, 10), Change(1, 0, 5)), batch_generator(0, 0, 0))
    assert not out["mixture"].any() and not out["target"].any()


def test_the_gains_of_several_processes_are_those_of_one():
    options, whole = BatchAugmentation(gainscale=Change(1.0, -10, 10)), batch(6)
    shares = [{name: x[2 * rank : 2 * rank + 2] for name, x in batch(6).items()} for rank in range(3)]
    one = augment(whole, options, batch_generator(5, 1, 0))
    for rank, share in enumerate(shares):
        out = augment(share, options, batch_generator(5, 1, 0), rank, 3)
        assert np.array_equal(out["mixture"], one["mixture"][2 * rank : 2 * rank + 2])
