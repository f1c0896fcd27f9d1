"""``python eval.py`` as people run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.scan import build_index
from data.synthetic import write_songs
from eval import main as evaluate
from metrics.report import COLUMNS, SongScore
from runtime import checkpoint
from tests.end_to_end.inside import inside
from tests.end_to_end.side_by_side import side_by_side
from tests.end_to_end.small_spleeter import SMALL_SPLEETER

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with an indexed data set of four songs to test on and a trained run of a tiny network."""
    import models

    folder = tmp_path_factory.mktemp("evaluation")
    write_songs(folder / "dataset", 5, 3.0, seed=0, sample_rate=8000, splits={"test": 4})
    build_index(folder / "dataset", jobs=1)
    save(folder / "model" / "tiny" / "0a1b2c3d" / "best", models.create("spleeter_2stems", **SMALL_SPLEETER), 3)
    return folder


def save(folder, model, step):
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    config = {"network": "spleeter_2stems", "model": SMALL_SPLEETER, "separation": {"exponent": 2.0}}
    checkpoint.save(folder, {"model": arrays}, {"step": step, "network": "spleeter_2stems", "config": config})


def process(place, *arguments, status=0):
    """Run the command in ``place``, in a process of its own; returns stdout and stderr."""
    environment = {**os.environ, "PADDLESTEMS_CACHE": str(place / "programs"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "eval.py"), *map(str, arguments)]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout, done.stderr


def run(place, *arguments, status=0):
    """Run the command in ``place``, in this process; returns stdout and stderr."""
    done = inside(evaluate, place, *arguments, status=status, PADDLESTEMS_CACHE=str(place / "programs"))
    return done.stdout, done.stderr


def scores(folder):
    return {path.stem: SongScore.from_json(json.loads(path.read_text())) for path in (folder / "test").glob("*.json")}


def test_newest_weights_table_protocol_and_resume(place):
    out, _ = process(place, "--fraction", 0.5, "-seed", 123456, "--json", "result.json")
    lines = out.splitlines()
    assert lines[0].startswith("songs: 2 of test in dataset/index.jsonl")
    assert lines[1].startswith("device: ")
    assert lines[2].startswith("weights: spleeter_2stems, model/tiny/0a1b2c3d/best/step-00000003 (")
    result = json.loads((place / "result.json").read_text())
    table = [line.split() for line in lines if line.startswith(("stem ", "vocals ", "accompaniment "))]
    assert table[0] == ["stem", "signal", "SDR", "SIR", "SAR", "ISR"]
    assert [row[:2] for row in table[1:3]] == [["vocals", "estimate"], ["vocals", "mixture"]]
    assert float(table[1][2]) == pytest.approx(result["estimate"]["vocals"]["SDR"], abs=1e-3)
    kept = scores(place / "evaluation" / "tiny-0a1b2c3d")
    medians = [np.nanmedian(score.estimates["vocals"]["SDR"]) for score in kept.values()]
    assert result["estimate"]["vocals"]["SDR"] == pytest.approx(np.median(medians), abs=1e-4)
    assert any(
        line.startswith("protocol: BSS Eval v4 (fast), window 1 s, median over songs of median") for line in lines
    )
    assert "split test, fraction 0.5, seed 123456, 2 songs; weights tiny-0a1b2c3d" in out
    for part in ("s per song", "real-time factor", "peak memory"):
        assert part in out

    again, _ = run(place, "--fraction", 0.5, "-seed", 123456)
    assert again.count("scored already") == 2
    damaged = place / "evaluation" / "tiny-0a1b2c3d" / "test" / f"{min(kept)}.json"
    damaged.write_text(damaged.read_text()[:100])
    again, err = run(place, "--fraction", 0.5, "-seed", 123456, "--json", "again.json")
    assert again.count("scored already") == 1
    assert "scored again" in err
    assert json.loads((place / "again.json").read_text())["estimate"] == result["estimate"]
    assert run(place, "--fraction", 0.5, "-seed", 123456, "--restart")[0].count("scored already") == 0


def test_two_processes_give_what_one_gives(place):
    common = ("--fraction", 1, "--json")
    said = side_by_side(lambda n: process(place, *common, f"{n}.json", "-o", f"by-{n}", "-npn", n)[0], (1, 2))
    assert "[1/2]" in said[2]
    one, two = (json.loads((place / f"{n}.json").read_text()) for n in (1, 2))
    assert len(one["songs"]) == 4
    for part in ("estimate", "mixture", "songs"):
        assert one[part] == two[part]


def test_more_processes_than_songs(place):
    out, _ = process(place, "--fraction", 0.25, "-o", "few", "-npn", 4)
    assert out.startswith("songs: 1 of test")
    assert len(scores(place / "few")) == 1


def test_museval_gives_the_same_numbers(place):
    run(place, "--fraction", 0.25, "-o", "fast", "--bss", "fast")
    assert "BSS Eval v4 (museval)" in run(place, "--fraction", 0.25, "-o", "museval", "--bss", "museval")[0]
    ((name, mine),) = scores(place / "fast").items()
    theirs = scores(place / "museval")[name]
    for stem in ("vocals", "accompaniment"):
        for metric in COLUMNS:
            np.testing.assert_allclose(mine.estimates[stem][metric], theirs.estimates[stem][metric], atol=1e-3)


def test_options_of_the_separation_are_another_evaluation(place):
    common = ("--fraction", 0.25, "-o", "options", "--weights", "model/tiny/0a1b2c3d")
    run(place, *common)
    out, _ = run(place, *common, "separation.exponent=1")
    assert "scored already" not in out
    assert scores(place / "options").popitem()[1].details["identity"]["separation"]["exponent"] == 1
    assert run(place, *common, "separation.exponent=1", "--window", 0.5, "--hop", 0.25)[0].count("hop 0.25 s") == 1


WRONG = [
    (("--dataset", "nowhere"), 1, "nowhere/index.jsonl: "),
    (("--split", "holdout"), 1, "the split 'holdout' has no songs"),
    (("--model-dir", "empty"), 1, "there is no checkpoint below empty"),
    (("-c", "spleeter/5stems"), 1, "there is no checkpoint of spleeter_5stems below model"),
    (("--weights", "dataset/index.jsonl"), 1, "holds no weights"),
    (("--weights", "model/tiny/0a1b2c3d", "-n", "spleeter_4stems"), 1, "not of spleeter_4stems"),
    (("-n", "spleeter_4stems", "--offline"), 1, "downloading is off"),
    (("--fraction", "1.5"), 2, "1.5 is not more than 0 and at most 1"),
    (("--fracton", "1"), 2, "did you mean --fraction"),
    (("train.lr=3",), 2, "does not concern an evaluation"),
    (("separation.exponnt=1",), 1, "exponent"),
    (("--bss", "v3"), 2, "invalid choice"),
    (("-o", "dataset/index.jsonl/x"), 1, "cannot write to"),
    (("-npn", "0"), 2, "whole number from 1 on"),
    (("-seed", "-1"), 2, "whole number from 0 on"),
    (("--weights", ""), 2, "the name is empty"),
    (("--json", "dataset"), 1, "is a folder: name a file"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: " ".join(map(str, case[0])))
def test_one_sentence_for_what_is_wrong(place, case):
    arguments, status, sentence = case
    _, err = run(place, *arguments, status=status)
    assert err.startswith("error: ") and sentence in err and "Traceback" not in err


def test_a_song_without_a_reference_and_a_changed_one(place, tmp_path):
    write_songs(tmp_path / "dataset", 2, 1.0, seed=1, sample_rate=8000, splits={"test": 1})
    build_index(tmp_path / "dataset", jobs=1)
    index = tmp_path / "dataset" / "index.jsonl"
    common = ("--dataset", tmp_path / "dataset", "--weights", "model/tiny/0a1b2c3d", "-o", tmp_path / "scores")
    (tmp_path / "dataset" / "test" / "Synthetic 001" / "vocal.wav").touch()
    assert "changed since the data set was indexed" in run(place, *common, status=1)[1]
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    for row in rows[1:]:
        del row["sources"]["vocals"]
        row["stat"] = {}
    index.write_text("\n".join(map(json.dumps, rows)))
    assert "test/Synthetic 001 has no vocals" in run(place, *common, status=1)[1]


def test_a_failing_process_fails_the_command(place, tmp_path):
    write_songs(tmp_path / "dataset", 2, 1.0, seed=1, sample_rate=8000, splits={"test": 2})
    build_index(tmp_path / "dataset", jobs=1)
    index = tmp_path / "dataset" / "index.jsonl"
    broken = tmp_path / "dataset" / "test" / "Synthetic 001" / "mixture.wav"
    broken.write_bytes(b"no sound")
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    rows = [{**row, "stat": {}} if "stat" in row else row for row in rows]
    index.write_text("\n".join(map(json.dumps, rows)))
    common = ("--dataset", tmp_path / "dataset", "--weights", "model/tiny/0a1b2c3d", "-o", tmp_path / "scores")
    _, err = process(place, *common, "--fraction", 1, "-npn", 2, status=1)
    assert "mixture.wav" in err


def test_help_is_fast_and_needs_no_paddle():
    blocker = "import sys; sys.modules['paddle'] = None; sys.argv = ['eval.py', '--help']; "
    code = blocker + f"import runpy; runpy.run_path({str(ROOT / 'eval.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--fraction" in done.stdout
