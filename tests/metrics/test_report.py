"""Scores as JSON, aggregation and table."""

import json

import numpy as np
import pytest

from metrics.report import COLUMNS, Protocol, SongScore, aggregate, over_frames, scores_table


def frames(*values):
    return {name: np.array(values, np.float64) + index for index, name in enumerate(COLUMNS)}


def test_json_is_valid_and_comes_back():
    score = SongScore(
        "a", 1.0, 1.0, {"vocals": frames(1.23456789, np.nan, np.inf)}, {"vocals": frames(0, 1, 2)}, {"n": 1}
    )
    text = json.dumps(score.to_json(), allow_nan=False)
    content = json.loads(text)
    assert content["targets"][0]["frames"][0] == {
        "time": 0.0,
        "duration": 1.0,
        "metrics": {"SDR": 1.23457, "SIR": 2.23457, "SAR": 3.23457, "ISR": 4.23457},
    }
    assert content["targets"][0]["frames"][2]["metrics"]["SDR"] is None
    back = SongScore.from_json(content)
    assert (back.song, back.window, back.hop, back.details) == ("a", 1.0, 1.0, {"n": 1})
    np.testing.assert_array_equal(back.estimates["vocals"]["SIR"], [2.23457, np.nan, np.nan])
    np.testing.assert_array_equal(back.mixture["vocals"]["SDR"], [0, 1, 2])


def test_reads_files_of_museval(shared_audio):
    path = shared_audio / "metrics/museval/Music Delta - 80s Rock.json"
    score = SongScore.from_json(json.loads(path.read_text()), song=path.stem)
    assert score.song == path.stem
    assert {"vocals", "accompaniment"} <= set(score.estimates)
    assert score.estimates["vocals"]["SDR"][0] == -16.89156


@pytest.mark.parametrize("content", [{}, {"targets": 3}, {"targets": [{"name": "x"}]}, []])
def test_other_json_is_refused(content):
    with pytest.raises(ValueError, match="not the scores"):
        SongScore.from_json(content)


def test_frames_that_are_not_finite_do_not_count():
    assert over_frames(np.array([1, np.nan, 3, np.inf, 8])) == 3
    assert over_frames(np.array([1, np.nan, 3, np.inf, 8]), "mean") == 4
    assert np.isnan(over_frames(np.array([np.nan])))


def test_median_and_mean_over_songs():
    songs = [{"vocals": frames(0, 2, 100)}, {"vocals": frames(3)}, {"vocals": frames(10)}, {"vocals": frames(np.nan)}]
    assert aggregate(songs)["vocals"] == {"SDR": 3, "SIR": 4, "SAR": 5, "ISR": 6}
    assert aggregate(songs, songs="mean")["vocals"]["SDR"] == 5
    with pytest.raises(ValueError, match="median"):
        aggregate(songs, songs="mode")


def test_table():
    estimate, mixture = aggregate([{"vocals": frames(5.0)}]), aggregate([{"vocals": frames(np.nan)}])
    lines = scores_table({"estimate": estimate, "mixture": mixture}).splitlines()
    assert lines[0].split() == ["stem", "signal", *COLUMNS]
    assert lines[2].split() == ["vocals", "estimate", "5.000", "6.000", "7.000", "8.000"]
    assert lines[3].split() == ["vocals", "mixture", "n/a", "n/a", "n/a", "n/a"]


def test_protocol_line_says_all():
    line = Protocol(1.0, 1.0, "median", "median", "test", 0.1, 7, 5, "model x, 0123456789ab", "fast").line()
    for part in ("window 1 s", "median over songs", "split test", "fraction 0.1", "seed 7", "5 songs", "0123456789ab"):
        assert part in line
