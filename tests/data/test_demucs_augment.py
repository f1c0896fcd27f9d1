"""Shift, flip, scale, remix and repitch: what they do to a batch, how often, and that processes change nothing."""

import numpy as np
import pytest
from omegaconf import OmegaConf

from data.demucs_augment import Augmentation, Repitch, augment, batch_generator
from runtime.errors import UserError

OFF = Augmentation(flip=False, scale_proba=0, remix_proba=0)
B, S, N = 8, 4, 60


def batch(channels: int = 2, songs: int = B) -> np.ndarray:
    """Every sample says where it comes from: song, source, channel and time can be read from its value."""
    song, source, channel, time = np.ogrid[:songs, :S, :channels, :N]
    return (1 + song * 1000 + source * 200 + channel * 100 + time).astype(np.float32)


def origin(x: np.ndarray) -> tuple[int, int, int, int]:
    """Song, source, channel and time of the first sample ``x[..., 0]`` of an unscaled row."""
    value = round(abs(float(x[0]))) - 1
    return value // 1000, value % 1000 // 200, value % 200 // 100, value % 100


def run(options, epoch=0, position=0, shift=20, songs=B, **kwargs):
    return augment(batch(songs=songs), options, batch_generator(3, epoch, position), shift, **kwargs)


def test_without_training_only_the_end_is_cut_off():
    x = batch()
    assert np.array_equal(augment(x, Augmentation(), batch_generator(0, 0, 0), 20, training=False), x[..., :40])


@pytest.mark.parametrize("same", [False, True])
def test_shift_is_uniform_and_per_source_unless_they_stay_together(same):
    options = Augmentation(shift_same=same, flip=False, scale_proba=0, remix_proba=0)
    first = np.array([[[origin(x)[3] for x in song[:, 0]] for song in run(options, k)] for k in range(100)])
    assert first.min() == 0 and first.max() == 19 and abs(first.mean() - 9.5) < 0.5
    assert (np.ptp(first, axis=-1) == 0).all() == same
    out = run(options)
    assert np.array_equal(np.diff(out, axis=-1), np.ones((B, S, 2, 39)))
    assert np.array_equal(out[:, :, 1], out[:, :, 0] + 100)


def test_flips_exchange_channels_and_signs_half_of_the_time():
    options = Augmentation(scale_proba=0, remix_proba=0)
    outs = np.stack([run(options, k) for k in range(60)])
    left = (np.abs(outs[..., 0, 0]) - 1) % 200 >= 100
    assert abs(left.mean() - 0.5) < 0.05 and abs((outs[..., 0, 0] < 0).mean() - 0.5) < 0.05
    assert abs(np.corrcoef(left.ravel(), (outs[..., 0, 0] < 0).ravel())[0, 1]) < 0.07
    assert np.array_equal(np.sign(outs[..., 0, :]), np.sign(outs[..., 1, :]))
    mono = augment(batch(1), options, batch_generator(0, 0, 0), 0)
    assert np.array_equal(np.abs(mono), batch(1))


def test_gains_are_uniform_per_source_and_the_probability_is_per_batch():
    always = Augmentation(flip=False, scale_min=0.25, scale_max=1.25, remix_proba=0)
    gains = np.stack([run(always, k, shift=0) / batch() for k in range(60)])
    assert np.ptp(gains, axis=(-1, -2)).max() < 1e-6
    gains = gains[..., 0, 0]
    assert 0.25 <= gains.min() < 0.28 and 1.22 < gains.max() <= 1.25 and abs(gains.mean() - 0.75) < 0.02
    half = Augmentation(flip=False, scale_proba=0.5, remix_proba=0)
    touched = [not np.array_equal(run(half, k, shift=0), batch()) for k in range(200)]
    assert 0.4 < np.mean(touched) < 0.6


def test_remix_permutes_each_source_inside_of_its_group():
    options = Augmentation(flip=False, scale_proba=0, group_size=4)
    together = []
    for k in range(80):
        songs = np.array([[origin(x)[0] for x in song[:, 0]] for song in run(options, k)])
        assert [origin(x)[1] for x in run(options, k)[0, :, 0]] == [0, 1, 2, 3]
        for group in (songs[:4], songs[4:]):
            assert np.array_equal(np.sort(group, axis=0), np.repeat(np.unique(group)[:, None], S, axis=1))
        assert songs[:4].max() < 4 <= songs[4:].min()
        together.append((songs[:, 0] == songs[:, 1]).mean())
    assert abs(np.mean(together) - 0.25) < 0.05  # of four songs
    with pytest.raises(UserError, match="groups of 3"):
        run(Augmentation(group_size=3))
    assert run(Augmentation(group_size=0), songs=3).shape == (3, S, 2, 40)
    with pytest.raises(UserError, match="cannot be shifted by 60"):
        run(OFF, shift=60)


def test_processes_see_together_what_one_sees():
    options = Augmentation(group_size=2)
    whole = run(options, 2, 7)
    parts = [
        augment(part, options, batch_generator(3, 2, 7), 20, rank=rank, processes=2)
        for rank, part in enumerate(np.split(batch(), 2))
    ]
    assert np.array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole, run(options, 2, 8)) and np.array_equal(whole, run(options, 2, 7))


def test_options_of_a_configuration():
    text = "{shift_same: true, flip: false, scale: {proba: 0, min: 0.5, max: 1}, remix: {proba: 1, group_size: 2}}"
    options = Augmentation.from_config(OmegaConf.create(text))
    assert options == Augmentation(True, False, 0, 0.5, 1, 1, 2)
    for wrong in ({"scale_proba": 2}, {"scale_min": 2.0}, {"group_size": -1}):
        with pytest.raises(UserError, match="augment"):
            Augmentation(**wrong)
    with pytest.raises(UserError, match=r"repitch\.proba"):
        Repitch(proba=-1)


# -------------------------------------------------------------------------------------------------------------- repitch


def test_repitch_cuts_all_and_changes_its_share():
    stems = np.random.default_rng(0).standard_normal((2, 2, 4000)).astype(np.float32)
    change = Repitch(proba=0.5, max_tempo=12)
    outs = [change(stems, np.random.default_rng(k), 44100) for k in range(40)]
    assert {out.shape for out in outs} == {(2, 2, 3520)}
    kept = [np.array_equal(out, stems[..., :3520]) for out in outs]
    assert 10 <= sum(kept) <= 30
    assert Repitch(max_tempo=15).length(1000) == 850


def test_repitch_moves_all_stems_alike_or_each_on_its_own(monkeypatch):
    calls = []

    def moved(stem, pitch, tempo, voice, rate):
        calls.append((pitch, tempo, voice))
        return np.pad(stem, ((0, 0), (0, 100)))

    monkeypatch.setattr("data.demucs_augment.repitch", moved)
    stems = np.zeros((4, 2, 1000), np.float32)
    for k in range(300):
        Repitch(proba=1, vocals=(3,))(stems, np.random.default_rng(k), 44100)
    assert all(len(set(calls[k : k + 3])) == 1 and calls[k + 3][:2] == calls[k][:2] for k in range(0, 1200, 4))
    assert [voice for *_, voice in calls[:4]] == [False, False, False, True]
    pitches, tempos = np.array([call[:2] for call in calls[::4]]).T
    assert set(pitches) == {-2, -1, 0, 1, 2} and np.abs(tempos).max() <= 12
    assert 4 < tempos.std() < 6 and abs(tempos.mean()) < 1
    calls.clear()
    Repitch(proba=1, same=False)(stems, np.random.default_rng(0), 44100)
    assert len({call[1] for call in calls}) == 4
