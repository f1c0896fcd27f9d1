"""The evaluator: which songs, which share, what is kept and what is said."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.index import Index, Song, read_index
from data.scan import build_index
from data.synthetic import write_songs
from inference import scoring, summary
from inference.evaluation import check_songs, draw
from inference.planning import Plan
from inference.scoring import Job
from inference.separator import Separator
from metrics.bss_eval import bss_eval_v4
from metrics.report import COLUMNS, SongScore
from metrics.sdr import nsdr
from runtime.errors import UserError


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    """Three songs of three seconds at 8 kHz, two of them for testing."""
    folder = tmp_path_factory.mktemp("songs")
    write_songs(folder, 3, 3.0, seed=0, sample_rate=8000, splits={"test": 2})
    build_index(folder, jobs=1)
    return read_index(folder)


def song(name: str, frames: int = 8000) -> Song:
    return Song(name, "test", f"test/{name}", {"mixture": "m", "vocals": "v"}, frames, 8000, 2, "0", {})


def job(index: Index, folder: Path, **changes) -> Job:
    names = tuple(song.name for song in index.split("test"))
    return replace(Job(Plan("spleeter_2stems", Path("w"), "label"), str(index.path), names, folder), **changes)


def test_drawing_depends_on_names_fraction_and_seed_alone():
    songs = [song(f"song {number:02d}") for number in range(30)]
    drawn = draw(songs, 0.1, 123456)
    assert len(drawn) == 3
    assert draw(songs[::-1], 0.1, 123456) == drawn
    assert [song.name for song in drawn] == sorted(song.name for song in drawn)
    assert any(draw(songs, 0.1, seed) != drawn for seed in range(5))
    assert draw(songs, 1.0, 0) == songs
    assert len(draw(songs[:3], 0.1, 0)) == 1


def test_a_song_without_a_reference_is_named():
    index = Index(Path("nowhere"), (song("half"),))
    with pytest.raises(UserError, match=r"test/half has no accompaniment.*there: mixture, vocals"):
        check_songs(index, index.songs, ("vocals", "accompaniment"))


def test_a_song_that_changed_is_named(index):
    first = replace(index.songs[0], stat=dict.fromkeys(index.songs[0].stat, (1, 1)))
    with pytest.raises(UserError, match=r"changed since .*preprocess.py"):
        check_songs(index, [first], ("vocals",))
    check_songs(index, index.songs, ("vocals", "accompaniment", "drums"))


def test_a_job_is_read_as_it_was_written(index, tmp_path):
    written = job(index, tmp_path, separation={"mwf": True}, processes=3, hop=0.5, bss="museval")
    assert Job.read(written.write(tmp_path / "there" / "job.json")) == written


def test_long_names_of_songs_have_files_of_their_own(index, tmp_path):
    files = [job(index, tmp_path).file(song(name)) for name in ("曲" * 84 + "一", "曲" * 84 + "二", "short")]
    assert len(set(files)) == 3
    assert max(len(file.name.encode()) for file in files) < 255
    assert files[2] == tmp_path / "test" / "short.json"


def test_scores_are_those_of_the_metric(index, tmp_path, small_model):
    from data.index import load_stem

    separator = Separator.from_model(small_model)
    played = index.split("test")[0]
    score = scoring.score_song(job(index, tmp_path), index, played, separator)
    mixture = load_stem(index, played, "mixture")
    references = np.stack([load_stem(index, played, stem).T for stem in separator.sources])
    estimates = separator.separate(mixture, 8000)
    expected = bss_eval_v4(references, np.stack([estimates[stem].T for stem in separator.sources]), 8000, 8000)
    baseline = bss_eval_v4(references, np.stack([mixture.T] * 2), 8000, 8000)
    for number, stem in enumerate(separator.sources):
        for name in COLUMNS:
            np.testing.assert_array_equal(score.estimates[stem][name], expected[name][number])
            np.testing.assert_array_equal(score.mixture[stem][name], baseline[name][number])
    for stem, reference in zip(separator.sources, references, strict=True):
        assert score.details["nsdr"]["estimate"][stem] == pytest.approx(nsdr(reference.T, estimates[stem]), abs=1e-4)
        assert score.details["nsdr"]["mixture"][stem] == pytest.approx(nsdr(reference.T, mixture), abs=1e-4)
    assert score.details["seconds"] == 3.0
    assert score.details["peak_memory_mib"] > 10


def test_a_window_without_samples(index, tmp_path, small_model):
    separator = Separator.from_model(small_model)
    with pytest.raises(UserError, match="has no samples at 8000 Hz"):
        scoring.score_song(job(index, tmp_path, hop=1e-6), index, index.split("test")[0], separator)


def test_other_weights_options_or_songs_are_other_scores(index, tmp_path, small_model):
    played = index.split("test")[0]
    plain = Separator.from_model(small_model)
    wanted = scoring.identity(job(index, tmp_path), played, plain)
    assert wanted == json.loads(json.dumps(wanted))
    others = [
        scoring.identity(job(index, tmp_path, window=2.0), played, plain),
        scoring.identity(job(index, tmp_path, bss="museval"), played, plain),
        scoring.identity(job(index, tmp_path), index.split("test")[1], plain),
        scoring.identity(job(index, tmp_path), played, Separator.from_model(small_model, mask_extension="average")),
    ]
    plain.weights_hash = "0123456789ab"
    others.append(scoring.identity(job(index, tmp_path), played, plain))
    assert wanted not in others
    assert scoring.identity(job(index, tmp_path, processes=4, device="cpu"), played, plain) == others[-1]


def scored(name: str, value: float, weights: str = "0123456789ab", seconds: float = 60.0) -> SongScore:
    frames = {metric: np.array([value, np.nan]) for metric in COLUMNS}
    details = {"seconds": seconds, "separation_seconds": 3.0, "scoring_seconds": 1.0, "peak_memory_mib": 100.0}
    details["identity"] = {"weights": weights}
    details["nsdr"] = {"estimate": {"vocals": value / 2 if np.isfinite(value) else -1.0}, "mixture": {"vocals": 0.0}}
    return SongScore(name, 1.0, 1.0, {"vocals": frames}, {"vocals": frames}, details)


DRAWN = {"split": "test", "fraction": 0.5, "seed": 9}


def test_the_result_is_a_median_of_medians_with_its_protocol(index, tmp_path, capsys):
    scores = [scored("a", 1.0), scored("b", 2.0), scored("c", 9.0)]
    result = summary.conclude(job(index, tmp_path), scores, DRAWN, 12.0)
    assert result["estimate"]["vocals"]["SDR"] == 2.0
    assert result["songs"]["c"]["vocals"]["SIR"] == 9.0
    assert result["nsdr"] == {"estimate": {"vocals": 2.0}, "mixture": {"vocals": 0.0}}
    assert result["real_time_factor"] == pytest.approx(0.05)
    assert result["seconds_per_song"] == 4.0
    said = capsys.readouterr().out
    assert "split test, fraction 0.5, seed 9, 3 songs; weights label 0123456789ab" in said
    assert "peak memory of a process 100 MiB" in said


def test_songs_without_a_scored_window_are_named_and_are_null(index, tmp_path, capsys):
    result = summary.conclude(job(index, tmp_path), [scored("quiet", np.nan)], DRAWN, 1.0)
    assert result["estimate"]["vocals"]["SDR"] is None
    json.dumps(result, allow_nan=False)
    assert "do not count: quiet" in capsys.readouterr().err


def test_scores_of_different_weights_are_not_mixed(index, tmp_path):
    with pytest.raises(UserError, match="different weights"):
        summary.conclude(job(index, tmp_path), [scored("a", 1.0), scored("b", 1.0, "ba9876543210")], DRAWN, 1.0)
