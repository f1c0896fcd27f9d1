"""Spectral metrics and the filters below them."""

import numpy as np
import pytest
import scipy.signal

from metrics import spectral
from metrics.weighting import a_weighting, filtered, hearing_filter


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    reference = 0.1 * rng.standard_normal((2, 30000))
    return reference, reference + 0.01 * rng.standard_normal(reference.shape)


SCORES = {
    "l1_freq": spectral.l1_freq,
    "log_wmse": lambda r, e: spectral.log_wmse(r, r, e),
    "aura_stft": spectral.aura_stft,
    "aura_mrstft": spectral.aura_mrstft,
    "bleedless": lambda r, e: spectral.bleedless_fullness(r, e)[0],
    "fullness": lambda r, e: spectral.bleedless_fullness(r, e)[1],
}


@pytest.mark.parametrize("name", SCORES)
def test_perfect_is_the_best(pair, name):
    reference, estimate = pair
    best = {"log_wmse": 73.6827}.get(name, 100)
    assert SCORES[name](reference, reference) == pytest.approx(best, abs=1e-4)
    assert SCORES[name](reference, estimate) < best - 1


@pytest.mark.parametrize("name", SCORES)
def test_more_noise_is_worse(pair, name):
    reference, estimate = pair
    assert SCORES[name](reference, reference + 3 * (estimate - reference)) < SCORES[name](reference, estimate)


@pytest.mark.parametrize("name", SCORES)
def test_cut_to_the_shortest_and_blocks_do_not_show(pair, name, monkeypatch):
    reference, estimate = pair
    longer = np.concatenate([estimate, estimate], axis=1)
    expected = SCORES[name](reference, estimate)
    assert SCORES[name](reference, longer) == expected
    monkeypatch.setattr(spectral, "_BLOCK_FRAMES", 3)
    assert SCORES[name](reference, estimate) == pytest.approx(expected, rel=1e-10)


def test_quiet_copy_lacks_and_loud_copy_bleeds(pair):
    reference, _ = pair
    bleedless, fullness = spectral.bleedless_fullness(reference, 0.5 * reference)
    assert bleedless == 100
    assert fullness == pytest.approx(100 / (1 + 6.0206), abs=1e-3)
    assert spectral.bleedless_fullness(reference, 2 * reference)[0] == pytest.approx(fullness, abs=1e-9)


def test_log_wmse_does_not_mind_the_level(pair):
    reference, estimate = pair
    mixture = reference + estimate
    one = spectral.log_wmse(mixture, reference, estimate)
    assert spectral.log_wmse(0.1 * mixture, 0.1 * reference, 0.1 * estimate) == pytest.approx(one, abs=1e-4)


def test_too_short_or_unlike():
    with pytest.raises(ValueError, match="STFT of 2048"):
        spectral.l1_freq(np.zeros((2, 1024)), np.zeros((2, 1024)))
    with pytest.raises(ValueError, match="alike"):
        spectral.l1_freq(np.zeros((2, 5000)), np.zeros((1, 5000)))


def test_hearing_filter_is_the_published_one(shared_parity):
    from tests.parity import golden

    published = golden.load(shared_parity / "metric_sdr_family.npz").inputs["log_wmse_fir"]
    np.testing.assert_allclose(hearing_filter(), published, atol=2e-8)


def test_filters_have_no_delay(pair):
    signal = np.zeros((1, 9000))
    signal[0, 4500] = 1
    for taps, delay in ((hearing_filter(), 1999), (a_weighting(), 50)):
        response = filtered(signal, taps, delay)
        assert response.shape == signal.shape
        assert np.abs(response[0]).argmax() == 4500


def test_a_weighting_follows_the_curve():
    response = scipy.signal.freqz(a_weighting(), worN=[1000, 2500, 6000], fs=44100)[1]
    np.testing.assert_allclose(20 * np.log10(np.abs(response)), [0.0, 1.3, -0.1], atol=0.5)
