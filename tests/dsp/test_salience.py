"""Pitches out of saliences: averages and thresholds by their definition, paths against a plain Viterbi."""

import numpy as np
import pytest

from dsp.salience import (
    BINS,
    bin_to_cents,
    cents_to_bin,
    cents_to_hz,
    hz_to_cents,
    to_cents,
    to_f0,
    viterbi_path,
)

CENTS = 20 * np.arange(BINS) + 1997.3794084376191


def voice(frames, seed=0):
    """A voice that wanders and leaps, pauses, and has something beside it."""
    generator = np.random.default_rng(seed)
    bins = 180 + np.cumsum(generator.normal(0, 6, frames))
    bins = (bins + 90 * (generator.random(frames) < 0.1)).clip(-3, 362)
    peak = np.exp(-((np.arange(BINS) - bins[:, None]) ** 2) / 8) * generator.random((frames, 1))
    return (peak + 0.1 * generator.random((frames, BINS)) ** 8).clip(0, 1).astype(np.float32)


def averaged(row, centre):
    """Weighted cents of the nine bins around a centre, and the highest salience among them."""
    part = slice(max(0, centre - 4), min(BINS, centre + 5))
    return np.sum(row[part].astype(np.float64) * CENTS[part]) / row[part].sum(dtype=np.float64), row[part].max()


def plain_viterbi(salience):
    """One state after the other, with the whole matrix of transitions."""
    tiny = np.finfo(np.float32).tiny
    transition = np.maximum(30 - np.abs(np.subtract.outer(np.arange(BINS), np.arange(BINS))), 0)
    transition = np.log(transition / transition.sum(axis=1, keepdims=True) + tiny)
    observed = np.log(salience / salience.sum(axis=1, keepdims=True) + tiny)
    value, origins = observed[0] + np.log(1 / BINS + tiny), []
    for row in observed[1:]:
        scores = value[:, None] + transition  # [from, to]
        origins.append(scores.argmax(axis=0))
        value = row + scores.max(axis=0)
    path = [int(value.argmax())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return np.array(path[::-1])


def test_units():
    assert cents_to_hz(bin_to_cents([0, 359])) == pytest.approx([31.70, 2005.5], abs=0.05)
    assert cents_to_hz([0.0, 1200.0]) == pytest.approx([0, 20]) and hz_to_cents([0.0, 440]) == pytest.approx(
        [0, 6551.318]
    )
    frequency = np.array([0, 35.5, 440, 1999.0])
    np.testing.assert_allclose(cents_to_hz(hz_to_cents(frequency)), frequency)
    np.testing.assert_allclose(cents_to_bin(bin_to_cents(np.arange(360))), np.arange(360), atol=1e-9)


@pytest.mark.parametrize("viterbi", [False, True])
def test_averages_and_both_thresholds(viterbi):
    salience = voice(200)
    centres = plain_viterbi(salience) if viterbi else salience.argmax(axis=1)
    cents, highest = np.transpose([averaged(*pair) for pair in zip(salience, centres, strict=True)])
    threshold = float(np.sort(salience.max(axis=1))[100])  # that of a frame
    voiced = salience.max(axis=1) >= threshold
    f0 = to_f0(salience, threshold, viterbi)
    assert np.array_equal(f0 > 0, voiced) and 0 < voiced.sum() < 200
    np.testing.assert_allclose(f0[voiced], 10 * 2 ** (cents[voiced] / 1200), rtol=1e-9)
    found = to_cents(salience, threshold, viterbi)
    assert np.array_equal(found > 0, highest > threshold)
    np.testing.assert_allclose(found[found > 0], cents[highest > threshold], rtol=1e-9)
    assert (to_f0(salience, threshold) > 0).sum() == (to_cents(salience, threshold) > 0).sum() + 1


@pytest.mark.parametrize("centre", [0, 2, 357, 359])
def test_averages_end_with_the_bins(centre):
    row = np.random.default_rng(0).random(BINS, np.float32) * 0.1
    row[centre] = 1
    assert to_cents(row[None])[0] == pytest.approx(averaged(row, centre)[0])


@pytest.mark.parametrize("frames", [1, 2, 3, 150])
def test_the_path_is_a_plain_viterbis(frames):
    salience = voice(frames, seed=frames)
    assert np.array_equal(viterbi_path(salience), plain_viterbi(salience))


def test_the_path_is_librosas():
    librosa = pytest.importorskip("librosa")
    salience = voice(60, seed=3)
    transition = np.maximum(30 - np.abs(np.subtract.outer(np.arange(BINS), np.arange(BINS))), 0)
    transition = transition / transition.sum(axis=1, keepdims=True)
    share = salience.T / salience.T.sum(axis=0)
    assert np.array_equal(viterbi_path(salience), librosa.sequence.viterbi(share, transition))


def test_the_path_leaps_where_it_must():
    salience = np.zeros((20, BINS), np.float32)
    salience[:10, 50] = salience[10:, 300] = 1
    assert np.array_equal(viterbi_path(salience), plain_viterbi(salience))
    assert viterbi_path(salience)[[9, 10]].tolist() == [50, 300]


def test_the_path_smooths_over_a_frame_that_says_something_else():
    salience = voice(9) * 0 + 0.01
    salience[:, 100] = 0.5
    salience[4, 250] = 0.6
    assert np.array_equal(viterbi_path(salience), np.full(9, 100))
    assert to_f0(salience)[4] > 2 * to_f0(salience, viterbi=True)[4]


def test_silence_is_unvoiced_and_does_not_break_the_path():
    salience = voice(12)
    salience[5:8] = 0
    for viterbi in (False, True):
        for threshold in (0.0, 0.03):
            assert not to_f0(salience, threshold, viterbi)[5:8].any()
            assert not to_cents(salience, threshold, viterbi)[5:8].any()
    salience[:] = 0
    assert viterbi_path(salience).shape == (12,)


def test_no_frames():
    empty = np.zeros((0, BINS), np.float32)
    assert to_f0(empty).shape == to_f0(empty, viterbi=True).shape == to_cents(empty).shape == (0,)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\[frames, 360\], not \[1, 5, 360\]"):
        to_f0(np.zeros((1, 5, BINS), np.float32))
