"""Two nodes on this machine: two launchers that train one run, by hand, on emulated cards, and as a batch job."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from run_scripts import run_spleeter
from runtime import checkpoint
from tests.end_to_end.inside import inside
from tests.sdaa.cards import needs_compiler

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "run_scripts/run_spleeter.py"
SUBMIT = "run_scripts/cluster/submit.py"
STEPS = 60


def started(*arguments, environment: dict[str, str] | None = None) -> subprocess.Popen:
    variables = (environment or dict(os.environ)) | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *map(str, arguments)], cwd=ROOT, env=variables, **pipes)


def together() -> list:
    """Flags of two nodes that meet at an address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return ["--nnodes", 2, "--master", f"localhost:{probe.getsockname()[1]}"]


def said(process: subprocess.Popen, status: int = 0) -> str:
    text = process.communicate(timeout=200)[0]
    assert process.returncode == status, text
    return text


def training(folder: Path, model: str, *more, device: str = "cpu", steps: int = STEPS) -> list:
    data = ["--dataset", f"{folder}/dataset", f"data.cache={folder}/cache", "--model-dir", f"{folder}/{model}"]
    every = ["train.valid_every=100000", "train.save_every=100000", "train.log_every=1"]
    return [
        SCRIPT,
        "-m",
        "fast_train",
        "-c",
        "spleeter/tiny",
        "--device",
        device,
        "--steps",
        steps,
        *data,
        *every,
        *more,
    ]


def weights(folder: Path, model: str) -> dict[str, np.ndarray]:
    (run,) = (path.parent for path in (folder / model).rglob("config.yaml"))
    return checkpoint.load(checkpoint.latest(run))[0]["model"]


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    assert not [name for name, array in one.items() if array.tobytes() != other[name].tobytes()]


@pytest.fixture(scope="module")
def nodes_said(place) -> list[str]:
    """What two nodes said that trained the run ``two``; meanwhile two processes of one node trained ``one``."""
    one = started(*training(place, "one", "-npn", 2))
    command = training(place, "two", *together())
    nodes = [started(*command) for _ in range(2)]
    said(one)
    return sorted(map(said, nodes), key=len, reverse=True)  # whoever listens first is first


def test_two_nodes_train_the_run_that_two_processes_train(place, nodes_said):
    assert "2 a process × 2 processes" in nodes_said[0] and f"finished at step {STEPS}" in nodes_said[0]
    assert "processes 1 to 1 run here" in nodes_said[1] and "step" not in nodes_said[1]
    assert_same(weights(place, "one"), weights(place, "two"))
    (run,) = (path.parent.name for path in (place / "two").rglob("config.yaml"))
    assert (place / "one" / "spleeter" / "tiny" / run).is_dir()  # the same run, however it is spread


def test_a_batch_job_on_two_nodes_is_preempted_and_goes_on(place, nodes_said):
    jobs = place / "jobs"
    command = ["--", "python", *training(place, "job")]
    job = started(SUBMIT, "--local", "--nodes", 2, "--folder", jobs, *command)
    number = int(job.stdout.readline().split()[1].rstrip(":"))
    log = jobs / f"{number}_0_log.out"
    deadline = time.monotonic() + 100
    while not (log.exists() and "step  3/" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(number, signal.SIGTERM)
    assert f"job {number}: status 0" in said(job)
    text = log.read_text()
    assert text.index("status 75") < text.index("Requeued job") < text.index("resumed from") < text.index("finished at")
    assert_same(weights(place, "one"), weights(place, "job"))


@needs_compiler
def test_two_nodes_with_a_card_each(place):
    """They train what two cards of one node train."""
    from sdaa_emulator import environment

    short, cards, meeting = {"device": "sdaa", "steps": 8}, environment(cards=2), together()
    runs = [started(*training(place, "cards", "-npn", 2, **short), environment=cards)]
    for card in (0, 1):
        command = training(place, "card each", *meeting, "--node-rank", card, **short)
        runs.append(started(*command, environment=cards | {"SDAA_VISIBLE_DEVICES": str(card)}))
    assert "device: sdaa:0" in [said(run) for run in runs][1]
    assert_same(weights(place, "cards"), weights(place, "card each"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--nnodes", 2], "--nnodes 2 needs --master HOST:PORT"),
        (["--master", "localhost:24003"], "--master is for several nodes: say how many with --nnodes"),
        (["--nnodes", 2, "--master", "no.such.host.invalid:1"], "no.such.host.invalid is no known host"),
        (["--nnodes", 2, "train.processes=3"], "train.processes=3 cannot be shared out to 2 nodes"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(place, monkeypatch, arguments, sentence):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    done = inside(run_spleeter.main, ROOT, *training(place, "none", *arguments)[1:], status=None)
    assert done.returncode in (1, 2) and sentence in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and not done.stdout
