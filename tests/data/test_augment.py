"""Changes of magnitude segments."""

import numpy as np
import pytest

from data.augment import Augment, Change, shift_pitch, stretch
from runtime.errors import UserError


def draws(augment: Augment, count: int = 500) -> list[Change]:
    rng = np.random.default_rng(0)
    return [augment.draw(rng) for _ in range(count)]


def test_nothing_changes_by_default():
    assert set(draws(Augment())) == {Change()}


def test_draws_fill_their_ranges():
    changes = draws(Augment(gain=6, swap_channels=0.25, time_stretch=0.1, pitch_shift=1))
    for values, low, high in (
        ([20 * np.log10(c.gain) for c in changes], -6, 6),
        ([c.speed for c in changes], 0.9, 1.1),
        ([12 * np.log2(c.pitch) for c in changes], -1, 1),
    ):
        margin = 0.02 * (high - low)
        assert low <= min(values) < low + margin and high - margin < max(values) <= high
    assert 0.15 < np.mean([c.swap for c in changes]) < 0.35


def test_one_option_does_not_change_the_draws_of_another():
    alone, both = draws(Augment(pitch_shift=1)), draws(Augment(pitch_shift=1, gain=3, time_stretch=0.1))
    assert [c.pitch for c in alone] == [c.pitch for c in both]


@pytest.mark.parametrize("bad", [{"gain": -1}, {"swap_channels": 1.5}, {"time_stretch": 1.0}, {"pitch_shift": 13}])
def test_impossible_ranges(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        Augment(**bad)


@pytest.mark.parametrize("source", [90, 100, 110])
def test_stretch_keeps_straight_lines_and_their_ends(source):
    x = np.linspace(0, 1, source, dtype=np.float32)[None, :, None] * np.ones((2, 1, 3), np.float32)
    y = stretch(x, 100)
    assert y.shape == (2, 100, 3) and y.dtype == np.float32
    slopes = np.diff(y[0, :-2, 0])
    assert y[0, 0, 0] == 0 and np.allclose(slopes, slopes[0], rtol=1e-3)
    assert np.array_equal(y[0], y[1])


def test_stretch_to_the_same_length_changes_nothing():
    x = np.random.default_rng(0).random((2, 64, 5)).astype(np.float32)
    assert np.array_equal(stretch(x, 64), x)


@pytest.mark.parametrize("semitones", [-1.0, -0.4, 0.7, 1.0])
def test_shift_moves_a_partial_to_its_new_frequency(semitones):
    ratio, bins = 2 ** (semitones / 12), np.arange(512)
    x = np.exp(-0.5 * ((bins - 200) / 6) ** 2).astype(np.float32)[None, None]
    y = shift_pitch(x, ratio)
    assert y.shape == x.shape and y.dtype == np.float32
    centre = (y[0, 0] * bins).sum() / y[0, 0].sum()
    assert centre == pytest.approx(200 * ratio, abs=0.2)


def test_shift_down_fills_the_top_with_silence():
    y = shift_pitch(np.ones((1, 4, 100), np.float32), 0.5)
    assert np.all(y[..., :50] == 1) and np.all(y[..., 50:] == 0)
