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

from eval import main as evaluate
from run_scripts import run_spleeter
from runtime import checkpoint
from sdaa_emulator import environment
from tests.end_to_end.inside import inside
from tests.sdaa.cards import needs_compiler

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "run_scripts/run_spleeter.py"
STEPS = 30

pytestmark = needs_compiler


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


def finished(process: subprocess.Popen) -> str:
    """What a command said that ended well."""
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    return said


def settings(folder: Path, device: str = "sdaa", model: str = "model") -> list[str]:
    data = ["--dataset", f"{folder}/dataset", f"data.cache={folder}/cache"]
    return ["--device", device, "-c", "spleeter/tiny", *data, "--model-dir", f"{folder}/{model}"]


def training(*arguments) -> list:
    return [SCRIPT, "-m", "fast_train", "-lm", "False", "-seed", 7, *arguments]


def weights(folder: Path, model: str, step: int) -> dict[str, np.ndarray]:
    (file,) = (folder / model).rglob(f"checkpoints/step-{step:08}")
    return checkpoint.load(file)[0]["model"]


@pytest.fixture(scope="module")
def trained(place) -> Path:
    """A run on two cards; the host has begun it with the joined batch."""
    inside(run_spleeter.main, ROOT, *training("-bs", 4, "--steps", 10)[1:], *settings(place, "cpu", "host"))
    said = python(*on_two_cards(), *settings(place)).stdout
    assert "device: sdaa:0" in said and "2 a process × 2 processes" in said and f"finished at step {STEPS}" in said
    return place / "model"


def on_two_cards() -> list:
    return training("-npn", 2, "-bs", 2, "--steps", STEPS, "train.keep=9")


def test_nothing_of_a_training_run_falls_back_to_the_host(place):
    found = python(*training("--steps", 2), *settings(place, model="native"), GLOG_v="3", GLOG_minloglevel="0")
    assert "finished at step 2" in found.stdout
    assert re.findall(r"missing sdaa kernel: (\w+)", found.stderr) == []


def test_training_on_two_cards_equals_one_processor_with_the_joined_batch(place, trained):
    cards, host = weights(place, "model", 10), weights(place, "host", 10)
    assert cards.keys() == host.keys()
    for name, array in host.items():
        assert np.abs(cards[name] - array).max() <= 1e-5 * max(1.0, np.abs(array).max()), name


def test_evaluation_on_two_cards(place, trained):
    common = ["-c", "spleeter/tiny", "--dataset", place / "dataset", "--model-dir", trained, "--fraction", 1]
    inside(evaluate, ROOT, "-seed", 1, "--device", "cpu", *common, "-o", place / "others")
    said = python("eval.py", "-npn", 2, "-seed", 1, "--device", "sdaa", *common, "-o", place / "scores").stdout
    assert "sdaa:0" in said and "2 songs" in said
    pairs = (sorted((place / name).glob("*.json")) for name in ("scores", "others"))
    for mine, theirs in zip(*pairs, strict=True):
        numbers = [re.findall(r'"(?:SDR|SIR|SAR|ISR)": (-?[\d.]+)', path.read_text()) for path in (mine, theirs)]
        assert len(numbers[0]) == len(numbers[1])
        np.testing.assert_allclose(np.float64(numbers[0]), np.float64(numbers[1]), atol=0.01)


def test_separation_on_a_card_equals_that_on_the_host(place, trained):
    song, devices = next((place / "dataset" / "test").glob("*/mixture.wav")), ("sdaa", "cpu")
    options = ["-n", trained, "--format", "float32"]
    runs = [started("separator.py", song, *options, "--device", each, "-o", place / each) for each in devices]
    for device, run in zip(devices, runs, strict=True):
        assert f"device: {device}" in finished(run)
    files = sorted((place / "sdaa").rglob("*.wav"))
    assert {path.stem for path in files} == {"vocals", "accompaniment"}
    for path in files:
        inside = path.relative_to(place / "sdaa")
        mine, theirs = (soundfile.read(place / device / inside)[0] for device in devices)
        assert np.abs(mine - theirs).max() <= 1e-5


def test_stop_and_go_on_are_exact(place, trained):
    command = [*on_two_cards(), *settings(place, model="stopped")]
    with started(*command) as running:
        for line in running.stdout:
            if line.startswith("step  3/"):
                running.send_signal(signal.SIGTERM)
                break
        said = running.stdout.read()
    assert running.returncode == 75 and "status 75" in said
    assert "resumed from" in python(*command).stdout
    whole, stopped = weights(place, "model", STEPS), weights(place, "stopped", STEPS)
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


def test_more_cards_than_there_are(place):
    cases = {
        ("-npn", 3): "error: 3 processes need 3 cards, but 2 are visible: choose -npn 2",
        ("--device", "sdaa:2"): "error: --device sdaa:2: 2 cards are visible",
    }
    runs = [started(*training(*settings(place, model="none"), *arguments)) for arguments in cases]
    for run, sentence in zip(runs, cases.values(), strict=True):
        assert run.communicate(timeout=300)[0].startswith(sentence) and run.returncode == 1


def test_a_full_card_is_a_sentence(place):
    done = python(*training("-bs", 12, "--steps", 1), *settings(place, model="full"), status=1, memory=1)
    assert "out of memory" in done.stderr and "-bs" in done.stderr and "Traceback" not in done.stderr
