"""The scores of restored music by their names."""

import math

import numpy as np
import pytest

from metrics.restoration import UNITS, restoration_scores

PERFECT = {"log_wmse": 73.68, "sdr": 60, "si_sdr": 60}
ORIGINALS = [name for name in UNITS if not name.startswith("lsd")]


@pytest.fixture
def music():
    return (0.1 * np.random.default_rng(0).standard_normal((2, 30000))).astype(np.float32)


def test_names_and_order_are_those_that_were_asked_for(music):
    noisy = music[:, :20000] * np.float32(0.9)
    every = restoration_scores(UNITS, music, noisy, noisy)
    assert list(every) == list(UNITS) and all(type(value) is float for value in every.values())
    some = restoration_scores(["fullness", "sdr", "fullness"], music, noisy, noisy)
    assert list(some) == ["fullness", "sdr"] and some == {name: every[name] for name in some}
    assert math.isnan(every["lsd_high"]) and every["lsd"] == pytest.approx(-20 * math.log10(0.9), abs=0.01)
    assert every["sdr"] == pytest.approx(20, abs=0.01) and every["si_sdr"] > 60


def test_perfect_is_the_best(music):
    assert restoration_scores(["lsd_high", "lsd"], music, music, music, 0.1) == {"lsd_high": 0, "lsd": 0}
    for name, value in restoration_scores(ORIGINALS, music, music, music * 0.5).items():
        assert value > PERFECT.get(name, 99.99) - 0.01


def test_scores_are_those_of_the_golden_case(shared_parity):
    """Within a hundredth of the unit that is printed."""
    from tests.parity import golden

    case = golden.load(shared_parity / "metric_sdr_family.npz")
    mixture = case.inputs["mixture"]
    for number, pair in enumerate(zip(case.inputs["reference"], case.inputs["estimate"], strict=True)):
        for name, value in restoration_scores(ORIGINALS, *pair, mixture).items():
            assert value == pytest.approx(case.outputs[f"msst_{name}"][number], abs=0.01), name
