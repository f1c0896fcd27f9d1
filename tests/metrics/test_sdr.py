"""The scalar SDR family."""

import numpy as np
import pytest

from metrics import sdr


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((3, 2, 4000)) * [[[0.1]], [[0.5]], [[1.0]]]
    return reference, 0.9 * reference + 0.05 * rng.standard_normal(reference.shape)


def test_golden(shared_parity):
    from tests.parity import golden
    from tests.parity.cases_metrics import CASES

    case = golden.load(shared_parity / "metric_sdr_family.npz")
    outputs = CASES[case.arch, case.op](case)
    assert set(outputs) == set(case.outputs)
    for name, value in outputs.items():
        assert case.compare(name, value).ok, name


def test_nsdr_by_hand():
    reference, estimate = np.full((1, 4), 1.0), np.full((1, 4), 0.9)
    assert sdr.nsdr(reference, estimate) == pytest.approx(20, abs=1e-4)
    assert sdr.usdr(reference, estimate) == sdr.nsdr(reference, estimate)


def test_silence_is_finite():
    silence = np.zeros((2, 100))
    for function in (sdr.nsdr, sdr.msst_sdr, sdr.msst_si_sdr, sdr.snr, sdr.si_sdr, sdr.sd_sdr):
        assert np.isfinite(function(silence, silence))
        assert np.isfinite(function(silence, silence + 0.1))
        assert np.isfinite(function(silence + 0.1, silence))


def test_scale_invariance(pair):
    reference, estimate = pair
    np.testing.assert_allclose(sdr.si_sdr(reference, 3 * estimate), sdr.si_sdr(reference, estimate), atol=1e-5)
    np.testing.assert_allclose(sdr.si_sdr(reference, estimate + 0.3), sdr.si_sdr(reference, estimate), atol=1e-5)
    for function in (sdr.sd_sdr, sdr.snr):
        assert (function(reference, 3 * estimate) < function(reference, estimate) - 3).all()


def test_msst_si_sdr_takes_one_scale_for_all_channels(pair):
    reference, estimate = pair
    lopsided = estimate * np.array([[1.0], [0.1]])
    assert (sdr.msst_si_sdr(reference, lopsided) < sdr.si_sdr(reference, lopsided) - 3).all()


def test_leading_axes(pair):
    reference, estimate = pair
    for function in (sdr.nsdr, sdr.msst_si_sdr, sdr.si_sdr):
        one_by_one = [function(r, e) for r, e in zip(reference, estimate, strict=True)]
        np.testing.assert_allclose(function(reference, estimate), one_by_one)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        sdr.nsdr(np.zeros((2, 5)), np.zeros((2, 6)))
    with pytest.raises(ValueError, match="one shape"):
        sdr.nsdr(np.zeros(5), np.zeros(5))
