"""The documented training commands, as a user runs them, on tiny synthetic songs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from run_scripts import run_spleeter
from runtime import checkpoint
from runtime.errors import UserError
from tests.end_to_end.inside import inside

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "run_scripts/run_spleeter.py"


def python(*arguments, status: int = 0, **environment) -> subprocess.CompletedProcess:
    """Runs ``python arguments…`` in the repository and checks its exit status."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done


def started(*arguments) -> subprocess.Popen:
    """``python arguments…`` while it runs; what it says can be read."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True
    )


def settings(folder: Path, model: str = "model") -> list[str]:
    data = ["--dataset", f"{folder}/dataset", f"data.cache={folder}/cache"]
    return ["-c", "spleeter/tiny", "--device", "cpu", *data, "--model-dir", f"{folder}/{model}"]


def checkpoint_of(folder: Path, model: str = "model") -> tuple[dict, dict]:
    """Arrays and numbers of the only run below a model folder."""
    (run,) = (path.parent for path in (folder / model).rglob("history.jsonl"))
    return checkpoint.load(checkpoint.latest(run))


def spleeter(*arguments, **how) -> subprocess.CompletedProcess:
    """The command in this process."""
    return inside(run_spleeter.main, ROOT, *arguments, **how)


def test_help_needs_no_paddle(tmp_path):
    (tmp_path / "paddle.py").write_text("raise ImportError('paddle was imported')")
    said = python(SCRIPT, "--help", PYTHONPATH=str(tmp_path)).stdout
    for flag in (
        "-m",
        "-npn",
        "-bs",
        "-lm",
        "-seed",
        "-amp",
        "--device",
        "--dataset",
        "--epochs",
        "--steps",
        "--restart",
    ):
        assert f" {flag}" in said
    assert "per process" in said


def test_a_second_process_data_keeps_what_is_there(place):
    said = spleeter("-m", "process_data", *settings(place)).stdout
    assert "0 of 5 songs to do" in said and "5 were there" in said


def test_stop_and_go_on(place):
    """SIGTERM gives 75, the same command goes on, and the result is that of a run that nobody stopped."""
    command = ["-m", "fast_train", "-lm", "False", "-seed", "7", "train.save_every=1000"]
    said = spleeter(*command, "--steps", 60, *settings(place, "whole")).stdout
    for part in (
        "device: cpu",
        "config: spleeter/tiny",
        "from scratch, seed 7",
        "train: 4 songs",
        "2 a process",
        "wrote",
    ):
        assert part in said
    assert "segments/s" in said and "validation loss" in said and "finished at step 60" in said

    words = [*command, "--steps", 60, *settings(place, "stopped")]
    with started(SCRIPT, *words) as running:
        for line in running.stdout:
            if line.startswith("step  3/"):
                running.send_signal(signal.SIGTERM)
                break
        said = running.stdout.read()
    assert running.returncode == 75 and "status 75" in said
    assert 3 <= checkpoint_of(place, "stopped")[1]["step"] < 60
    assert "resumed from" in spleeter(*words).stdout

    (one, numbers), (other, others) = checkpoint_of(place, "whole"), checkpoint_of(place, "stopped")
    assert numbers["step"] == others["step"] == 60
    for group, arrays in one.items():
        for name, array in arrays.items():
            assert array.tobytes() == other[group][name].tobytes(), name
    histories = [[{**line, "seconds": 0} for line in each["history"]] for each in (numbers, others)]
    assert histories[0] == histories[1] and len(histories[0]) == 6


def test_two_processes_are_one_with_the_joined_batch(place):
    """Gloo: same losses and weights, validation shared between the processes, SIGTERM and a dying worker told."""
    common = ["-m", "fast_train", "--steps", 6, "train.valid_every=3", "train.clip=0.5", "train.ema=0.9"]
    shared_out = ["-bs", 1, "-npn", 2, "train.accumulate=2"]
    spleeter(*common, "-bs", 4, *settings(place, "one"))
    said = python(SCRIPT, *common, *shared_out, *settings(place, "two")).stdout
    assert "1 a process × 2 processes × 2 accumulated = 4 segments" in said and "finished at step 6" in said
    (one, numbers), (two, others) = checkpoint_of(place, "one"), checkpoint_of(place, "two")
    for group in ("model", "ema"):
        assert max(float(np.abs(one[group][name] - two[group][name]).max()) for name in one[group]) <= 1e-6
    assert len(numbers["history"]) == len(others["history"]) == 2
    for mine, theirs in zip(numbers["history"], others["history"], strict=True):
        for kind in ("train", "valid"):
            assert mine[kind] == pytest.approx(theirs[kind], rel=1e-6)


def test_two_processes_stop_together(place):
    words = [SCRIPT, "-m", "fast_train", "--steps", "100000", "-npn", "2", *settings(place, "long")]
    with started(*words) as running:
        for line in running.stdout:
            if line.startswith("step"):
                running.send_signal(signal.SIGTERM)
                break
        said = running.stdout.read()
    assert running.returncode == 75 and "status 75" in said
    step = checkpoint_of(place, "long")[1]["step"]
    assert step and f"saved at step {step} " in said


def test_decoding_on_the_fly_is_a_run_of_its_own(place):
    spleeter("-m", "train", "--epochs", 1, "train.valid_every=0", *settings(place, "decoded"))
    numbers = checkpoint_of(place, "decoded")[1]
    assert (numbers["epoch"], numbers["position"]) == (1, 0) and len(numbers["history"]) == 1
    assert numbers["config"]["data"]["source"] == "decode"
    run = next((place / "decoded").rglob("history.jsonl"))
    assert json.loads(run.read_text())["valid"] == numbers["history"][0]["valid"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["-m", "fast_train", "--dataset", "/nowhere"], 1, "/nowhere"),
        (["-m", "process_data", "--dataset", "/nowhere"], 1, "preprocess.py"),
        (["-m", "fast_train", "train.lrr=1"], 1, "train.lr"),
        (["-m", "fast_train", "train.lr=high"], 1, "train.lr"),
        (["-m", "fast_train", "-c", "spleeter/3stems"], 1, "did you mean spleeter/"),
        (["-m", "fast_train", "--bs", "3"], 2, "-bs"),
        (["-m", "fast_train", "-bs", "0"], 2, "-bs"),
        (["-m", "fast_train", "-lm", "perhaps"], 2, "True nor False"),
        (["-m", "quick_train"], 2, "fast_train"),
        ([], 2, "-m"),
        (["-m", "fast_train", "--device", "sdaa"], 1, "sdaa"),
        (["-m", "fast_train", "-npn", "2", "--device", "gpu"], 1, "gpu"),
    ],
)
def test_bad_input_gives_one_sentence(arguments, status, says):
    done = spleeter(*arguments, status=status, CUSTOM_DEVICE_ROOT="")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and says in done.stderr


def test_what_is_missing_is_said_with_the_remedy(place, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "published"))
    data = settings(place)[2:]
    with pytest.raises(UserError, match=r"-lm True.*-lm False"):
        run_spleeter.main(["-m", "fast_train", "--offline", *data])
    with pytest.raises(UserError, match=r"not in the cache.*-m process_data"):
        run_spleeter.main(["-m", "fast_train", *settings(place), f"data.cache={tmp_path}", f"model_dir={tmp_path}"])
    with pytest.raises(UserError, match="512 frames"):
        run_spleeter.main(
            ["-m", "process_data", *settings(place), "model.segment_frames=512", f"data.cache={tmp_path}"]
        )


def test_a_worker_that_fails(place):
    """The command ends with the error of the process that failed, not with a hanging one."""
    began = time.monotonic()
    words = [SCRIPT, "-m", "fast_train", "-npn", 2, *settings(place, "failed"), "train.loss=L3"]
    assert "train.loss=L3" in python(*words, status=1).stderr
    assert time.monotonic() - began < 300
