"""The way of BandSplitRNN by its one command: prepare, cache, train, stop, resume, score, separate."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.synthetic import write_songs
from run_scripts import run_bsrnn
from runtime import checkpoint
from runtime.errors import UserError
from tests.end_to_end.inside import inside
from tests.end_to_end.test_train import ROOT, checkpoint_of, python, started

SCRIPT = "run_scripts/run_bsrnn.py"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with ``songs`` (four, one of them for validation and one to test on; no index) and ``lists``."""
    folder = tmp_path_factory.mktemp("bsrnn")
    write_songs(folder / "songs", songs=4, seconds=2.5, seed=3, sample_rate=8000, splits={"valid": 1, "test": 1})
    (folder / "sad.yaml").write_text("sr: 8000\nwindow_size_in_sec: 1.0\noverlap_ratio: 1.0\n")
    before = tree(folder / "songs")
    sad = ["--sad-cfg", folder / "sad.yaml", "-j", 1]
    said = bsrnn("-m", "prepare", "-i", folder / "songs", "-o", folder / "lists", *sad, "-t", "vocals").stdout
    assert "vocals_train.txt" in said and "vocals_test.txt" in said
    said = bsrnn("-m", "process_data", "-npn", 1, *settings(folder)[4:]).stdout
    assert "3 songs cached" in said and "train: 2 songs" in said and "valid: 1 songs" in said
    assert tree(folder / "songs") == before  # the songs' folder has no index, and gets none
    return folder


def bsrnn(*arguments, **how):
    """The command in this process."""
    return inside(run_bsrnn.main, ROOT, *arguments, **how)


def tree(folder: Path) -> list[tuple[Path, int]]:
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))


def settings(folder: Path, model: str = "model") -> list[str]:
    run = ["--model-dir", f"{folder}/{model}", "--device", "cpu"]
    places = [f"train_dataset.txt_dir={folder}/lists", f"data.cache={folder}/cache"]
    return [*run, "-c", "bsrnn/tiny", "--dataset", f"{folder}/songs", *places]


def test_help_needs_no_paddle(tmp_path):
    (tmp_path / "paddle.py").write_text("raise ImportError('paddle was imported')")
    said = python(SCRIPT, "--help", PYTHONPATH=str(tmp_path)).stdout
    for mode in ("prepare", "process_data", "fast_train", "train", "infer", "evaluate"):
        assert f"\n  {mode}" in said
        of_mode = python(SCRIPT, "-m", mode, "--help", PYTHONPATH=str(tmp_path)).stdout
        assert f"run_bsrnn.py -m {mode}" in of_mode
    said = bsrnn("-m", "train", "--help").stdout
    for flag in ("-npn", "-bs", "-lm", "-seed", "-amp", "--steps", "--epochs", "--restart"):
        assert f" {flag}" in said


def test_train_score_and_separate(place):
    said = bsrnn("-m", "fast_train", "--steps", 10, *settings(place)).stdout
    for part in ("network: bsrnn_vocals, 6 bands", "from scratch, seed 42", "usdr", "csdr", "finished at step 10"):
        assert part in said
    (run,) = (path.parent for path in (place / "model").rglob("history.jsonl"))
    assert {"config.yaml", "history.jsonl", "train.log", "checkpoints", "best"} <= {path.name for path in run.iterdir()}
    assert "finished at step 10" in (run / "train.log").read_text()
    assert (run / "config.yaml").read_text().count("bsrnn_vocals") == 1
    best, _ = checkpoint.load(checkpoint.best(run))
    assert best.keys() == {"ema", "model"}

    scored = ["-m", "evaluate", "-d", run, "--dataset", place / "songs", "--device", "cpu"]
    assert "uSDR" in bsrnn(*scored).stdout and "cSDR" in (run / "test.log").read_text()
    song = next((place / "songs" / "test").glob("*/mixture.wav"))
    bsrnn("-m", "infer", "-i", song, "-o", place / "out", "-c", run, "-d", "cpu")
    assert soundfile.info(place / "out" / "mixture_vocals.wav").frames == soundfile.info(song).frames


def test_stop_and_go_on(place):
    """SIGTERM gives 75, the same command goes on, and the result is that of a run that nobody stopped."""
    command = ["-m", "train", "-seed", "7", "--steps", "24", "train.valid_every=8", "augmentations=cropgainmix"]
    bsrnn(*command, *settings(place, "whole"))
    words = [*command, *settings(place, "stopped")]
    with started(SCRIPT, *words) as running:
        for line in running.stdout:
            if line.startswith("step  3/"):
                running.send_signal(signal.SIGTERM)
                break
        running.stdout.read()
    assert running.returncode == 75 and 3 <= checkpoint_of(place, "stopped")[1]["step"] < 24
    assert "resumed from" in bsrnn(*words).stdout
    (one, numbers), (other, others) = checkpoint_of(place, "whole"), checkpoint_of(place, "stopped")
    for group, arrays in one.items():
        for name, array in arrays.items():
            assert array.tobytes() == other[group][name].tobytes(), name
    histories = [[{**line, "seconds": 0} for line in each["history"]] for each in (numbers, others)]
    assert histories[0] == histories[1] and len(histories[0]) == 3


def test_two_processes_are_one_with_the_joined_batch(place):
    common = ["-m", "fast_train", "--steps", 4, "train.valid_every=2", "train.clip=0.1", "train_dataset.mix_prob=0.5"]
    common += ["augmentations.gainscale.p=1.0"]
    said = python(SCRIPT, *common, "-bs", 1, "-npn", 2, *settings(place, "two")).stdout
    assert "1 a process × 2 processes × 1 accumulated = 2 segments" in said and "finished at step 4" in said
    bsrnn(*common, "-bs", 2, *settings(place, "one"))
    (one, numbers), (two, others) = checkpoint_of(place, "one"), checkpoint_of(place, "two")
    for group in ("model", "ema"):
        assert max(float(np.abs(one[group][name] - two[group][name]).max()) for name in one[group]) <= 1e-5
    for mine, theirs in zip(numbers["history"], others["history"], strict=True):
        for kind in ("train", "valid"):
            assert mine[kind] == pytest.approx(theirs[kind], rel=1e-4)


def test_another_target_and_its_bands(place, tmp_path):
    """Lists that are not there are made, in the words of the original's manual."""
    lists = [f"train_dataset.txt_dir={tmp_path}", f"data.cache={tmp_path}/cache", f"model_dir={tmp_path}/model"]
    words = ["train_dataset.target=bass", "model=bandsplitrnnbass", "schedule=paper", "data.batches_per_epoch=2"]
    words.append("train.valid_every=0")
    # at 8 kHz the usual bands have no bins above 4 kHz: only those that there are
    words += ["model.bandsplits=[[500,125],[2000,500]]"]
    said = bsrnn("-m", "fast_train", "--epochs", 1, *settings(place), *words, *lists).stdout
    assert "network: bsrnn_bass, 8 bands" in said and f"{tmp_path}/bass_train.txt" in said
    numbers = checkpoint_of(tmp_path)[1]
    assert (numbers["step"], numbers["epoch"], numbers["network"]) == (2, 1, "bsrnn_bass")
    assert numbers["config"]["train_dataset"]["target"] == "bass"
    run = next((tmp_path / "model").rglob("history.jsonl"))
    assert [json.loads(line)["epoch"] for line in run.read_text().splitlines()] == [1]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "say with -m what to do"),
        (["-m", "predict"], 2, "there is no such mode"),
        (["-m", "train", "--bs", "3"], 2, "-bs"),
        (["-m", "train", "--dataset", "/nowhere"], 1, "/nowhere"),
        (["-m", "train", "model=bandsplitrnnV8"], 1, "did you mean bandsplitrnnV"),
        (["-m", "train", "train_dataset.targett=bass"], 1, "did you mean train_dataset.target"),
        (["-m", "process_data", "--nnodes", "2", "--master", "localhost:29511"], 2, "one node"),
    ],
)
def test_bad_input_gives_one_sentence(arguments, status, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        run_bsrnn.main(arguments)
    assert caught.value.status == status and says in str(caught.value) and "\n" not in str(caught.value)
