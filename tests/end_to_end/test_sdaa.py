"""The documented commands on two emulated SDAA cards: training, evaluation, separation, and how they end."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from runtime import checkpoint
from sdaa_emulator import environment

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "run_scripts/run_spleeter.py"


def variables(memory: int | None = None, **settings: str) -> dict[str, str]:
    return environment(cards=2, memory=memory, given=os.environ | {"OMP_NUM_THREADS": "1"} | settings)


def python(*arguments, status: int = 0, **settings) -> subprocess.CompletedProcess:
    """Runs ``python arguments…`` in the repository, where two emulated cards are."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=variables(**settings), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == status, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done


def started(*arguments) -> subprocess.Popen:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=variables(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Songs, index and cache, made by the commands."""
    folder = tmp_path_factory.mktemp("cards")
    python("-m", "data.synthetic", folder / "dataset", "--songs", 6, "--test", 2, "--seconds", 4.5)
    python("preprocess.py", "--dataset", folder / "dataset", "-j", 1)
    python(SCRIPT, "-m", "process_data", "-npn", 1, *settings(folder)[2:-2])
    return folder


def settings(folder: Path, device: str = "sdaa", model: str = "model") -> list[str]:
    data = ["--dataset", f"{folder}/dataset", f"data.cache={folder}/cache"]
    return ["--device", device, "-c", "spleeter/tiny", *data, "--model-dir", f"{folder}/{model}"]


def training(*arguments) -> list:
    return [SCRIPT, "-m", "fast_train", "-lm", "False", "-seed", 7, *arguments]


def weights(folder: Path, model: str) -> dict[str, np.ndarray]:
    (run,) = (path.parent for path in (folder / model).rglob("history.jsonl"))
    return checkpoint.load(checkpoint.latest(run))[0]["model"]


@pytest.fixture(scope="module")
def trained(place) -> Path:
    """A run of eight steps on two cards."""
    said = python(*training("-npn", 2, "-bs", 2, "--steps", 8), *settings(place)).stdout
    assert "device: sdaa:0" in said and "2 a process × 2 processes" in said and "finished at step 8" in said
    return place / "model"


def test_nothing_of_a_training_run_falls_back_to_the_host(place):
    found = python(*training("--steps", 2), *settings(place, model="native"), GLOG_v="3", GLOG_minloglevel="0")
    assert "finished at step 2" in found.stdout
    assert re.findall(r"missing sdaa kernel: (\w+)", found.stderr) == []


def test_training_on_two_cards_equals_one_processor_with_the_joined_batch(place, trained):
    python(*training("-bs", 4, "--steps", 8), *settings(place, "cpu", "host"))
    cards, host = weights(place, "model"), weights(place, "host")
    assert cards.keys() == host.keys()
    for name, array in host.items():
        assert np.abs(cards[name] - array).max() <= 1e-5 * max(1.0, np.abs(array).max()), name


def test_evaluation_on_two_cards(place, trained):
    common = ["-c", "spleeter/tiny", "--dataset", place / "dataset", "--model-dir", trained, "--fraction", 1]
    said = python("eval.py", "-npn", 2, "-seed", 1, "--device", "sdaa", *common, "-o", place / "scores").stdout
    assert "sdaa:0" in said and "2 songs" in said
    python("eval.py", "-seed", 1, "--device", "cpu", *common, "-o", place / "others")
    pairs = (sorted((place / name).glob("*.json")) for name in ("scores", "others"))
    for mine, theirs in zip(*pairs, strict=True):
        numbers = [re.findall(r'"(?:SDR|SIR|SAR|ISR)": (-?[\d.]+)', path.read_text()) for path in (mine, theirs)]
        assert len(numbers[0]) == len(numbers[1])
        np.testing.assert_allclose(np.float64(numbers[0]), np.float64(numbers[1]), atol=0.01)


def test_separation_on_a_card_equals_that_on_the_host(place, trained):
    song = next((place / "dataset" / "test").glob("*/mixture.wav"))
    for device in ("sdaa", "cpu"):
        options = ["-n", trained, "--device", device, "--format", "float32", "-o", place / device]
        assert f"device: {device}" in python("separator.py", song, *options).stdout
    files = sorted((place / "sdaa").rglob("*.wav"))
    assert {path.stem for path in files} == {"vocals", "accompaniment"}
    for path in files:
        inside = path.relative_to(place / "sdaa")
        mine, theirs = (soundfile.read(place / device / inside)[0] for device in ("sdaa", "cpu"))
        assert np.abs(mine - theirs).max() <= 1e-5


def test_stop_and_go_on_are_exact(place):
    python(*training("-npn", 2, "--steps", 30), *settings(place, model="whole"))
    command = [*training("-npn", 2, "--steps", 30), *settings(place, model="stopped")]
    with started(*command) as running:
        for line in running.stdout:
            if line.startswith("step  3/"):
                running.send_signal(signal.SIGTERM)
                break
        said = running.stdout.read()
    assert running.returncode == 75 and "status 75" in said
    assert "resumed from" in python(*command).stdout
    whole, stopped = weights(place, "whole"), weights(place, "stopped")
    assert all(array.tobytes() == stopped[name].tobytes() for name, array in whole.items())


def test_a_killed_process_ends_the_job_and_is_named(place):
    with started(*training("-npn", 2, "--steps", 100000), *settings(place, model="killed")) as running:
        for line in running.stdout:
            if line.startswith("step"):
                break
        search = ["pgrep", "-f", f"fast_train.*{place}/killed"]
        workers = subprocess.run(search, capture_output=True, text=True, check=True)
        second = [
            int(process)
            for process in workers.stdout.split()
            if b"PADDLE_TRAINER_ID=1\0" in Path(f"/proc/{process}/environ").read_bytes()
        ]
        os.kill(second[0], signal.SIGKILL)
        said = running.stdout.read()
    assert running.returncode == 137
    assert "process 1 of 2 was killed by SIGKILL" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-npn", 3], "3 processes need 3 cards, but 2 are visible: choose -npn 2"),
        (["--device", "sdaa:2"], "2 cards are visible"),
    ],
)
def test_more_cards_than_there_are(place, arguments, says):
    done = python(*training(*settings(place, model="none"), *arguments), status=1)
    assert says in done.stderr and done.stderr.startswith("error: ")


def test_a_full_card_is_a_sentence(place):
    done = python(*training("-bs", 12, "--steps", 1), *settings(place, model="full"), status=1, memory=1)
    assert "out of memory" in done.stderr and "-bs" in done.stderr and "Traceback" not in done.stderr
