"""The multichannel Wiener filter: against open-unmix, and in passes over blocks."""

import numpy as np
import pytest

from inference.wiener import WienerFilter, wiener
from tests.parity import golden
from tests.parity.cases_inference import CASES


@pytest.fixture
def song():
    rng = np.random.default_rng(1)
    magnitudes = rng.random((3, 2, 40, 9), dtype=np.float32) * 30
    mixture = (rng.standard_normal((2, 40, 9)) + 1j * rng.standard_normal((2, 40, 9))).astype(np.complex64) * 20
    return magnitudes, mixture


def test_equals_open_unmix(shared_parity):
    case = golden.load(shared_parity / "dsp_wiener.npz")
    results = CASES[None, "wiener"](case)
    assert set(results) == set(case.outputs)
    assert all(case.compare(name, value).ok for name, value in results.items())


@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_blocks_equal_the_whole_song(song, iterations):
    magnitudes, mixture = song
    blockwise = WienerFilter(iterations)
    cuts = [slice(0, 1), slice(1, 17), slice(17, 40)]
    while blockwise.passes_left:
        for cut in cuts:
            blockwise.observe(magnitudes[:, :, cut], mixture[:, cut])
        blockwise.advance()
    parts = [blockwise.apply(magnitudes[:, :, cut], mixture[:, cut]) for cut in cuts]
    np.testing.assert_allclose(
        np.concatenate(parts, axis=2), wiener(magnitudes, mixture, iterations), rtol=0, atol=2e-5
    )


def test_estimates_sum_to_the_mixture(song):
    magnitudes, mixture = song
    for iterations in (0, 1):
        estimates = wiener(magnitudes, mixture, iterations)
        # the regularisation takes a little away
        np.testing.assert_allclose(estimates.sum(axis=0), mixture, atol=0.05 if iterations else 1e-4)


def test_residual_is_what_the_sources_leave(song):
    magnitudes, mixture = song
    estimates = wiener(magnitudes, mixture, 0, softmask=False, residual=True)
    assert estimates.shape[0] == 4
    np.testing.assert_allclose(estimates.sum(axis=0), mixture, atol=1e-4)


def test_bins_without_estimates_count_for_the_level_only(song):
    magnitudes, mixture = song
    plain, loud = WienerFilter(), WienerFilter()
    above = np.concatenate([mixture, np.full((2, 40, 3), 1000, np.complex64)], axis=-1)
    plain.observe(magnitudes, mixture)
    loud.observe(magnitudes, above)
    plain.advance()
    loud.advance()
    difference = np.abs(plain.apply(magnitudes, mixture) - loud.apply(magnitudes, mixture)).max()
    assert 0 < difference < 5


def test_one_channel(song):
    magnitudes, mixture = song
    estimates = wiener(magnitudes[:, :1], mixture[:1], 2)
    assert estimates.shape == (3, 1, 40, 9)
    np.testing.assert_allclose(estimates.sum(axis=0), mixture[:1], atol=0.05)


def test_silence_stays_silent():
    zeros = np.zeros((2, 2, 5, 4), np.float32)
    for softmask in (True, False):
        assert not wiener(zeros, np.zeros((2, 5, 4), np.complex64), 1, softmask=softmask).any()


def test_refuses_three_channels(song):
    magnitudes, mixture = song
    with pytest.raises(ValueError, match="one or two channels"):
        wiener(np.repeat(magnitudes[:, :1], 3, axis=1), np.repeat(mixture[:1], 3, axis=0))


def test_refuses_magnitudes_of_other_channels_than_the_mixture(song):
    magnitudes, mixture = song
    with pytest.raises(ValueError, match="the magnitudes have the shape"):
        wiener(magnitudes, mixture[:1])
