"""Melody metrics."""

import json

import numpy as np
import pytest

from metrics.pitch import pitch_scores

TIMES = np.arange(100) * 0.01


def track(voiced=80, frequency=220.0):
    return np.where(np.arange(100) < voiced, frequency, 0.0)


def test_golden(shared_parity):
    from tests.parity import golden
    from tests.parity.cases_metrics import CASES

    case = golden.load(shared_parity / "metric_pitch.npz")
    for name, value in CASES[case.arch, case.op](case).items():
        assert case.compare(name, value).ok, name


@pytest.mark.parametrize("number", range(10))
def test_real_pairs(shared_audio, number):
    folder = shared_audio / "metrics/mir_eval_melody"
    tracks = [np.loadtxt(folder / f"{kind}{number:02d}.txt").T for kind in ("ref", "est")]
    published = json.loads((folder / f"output{number:02d}.json").read_text())
    names = ["Raw Pitch", "Raw Chroma", "Overall"]
    scores = pitch_scores(*tracks[0], *tracks[1])
    expected = [published[f"{name} Accuracy"] for name in names]
    np.testing.assert_allclose(scores.as_array()[:3], expected, atol=1e-6)
    assert scores.vr == pytest.approx(published["Voicing Recall"], abs=1e-6)
    assert scores.vfa == pytest.approx(published["Voicing False Alarm"], abs=1e-6)


def test_octave_errors_count_for_pitch_only():
    scores = pitch_scores(TIMES, track(), TIMES, track(frequency=440.0))
    assert (scores.rpa, scores.rca, scores.vr, scores.vfa) == (0, 1, 1, 0)
    assert scores.oa == pytest.approx(0.2)


def test_unvoiced_tracks():
    scores = pitch_scores(TIMES, track(0), TIMES, track(50))
    assert (scores.rpa, scores.rca, scores.oa, scores.vr, scores.vfa) == (0, 0, 0.5, 1, 0.5)
    scores = pitch_scores(TIMES, track(100), TIMES, track(0))
    assert (scores.rpa, scores.rca, scores.oa, scores.vr, scores.vfa) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("times", [TIMES[:50], TIMES[:0]])
def test_arrays_must_agree(times):
    with pytest.raises(ValueError, match="as many times"):
        pitch_scores(times, track()[: len(times) // 2], TIMES, track())
