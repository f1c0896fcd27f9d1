"""Two processes train an experiment of the Demucs family: stopped and started again, and compared with one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.synthetic import write_songs
from runtime.launch import requeue_status
from tests.training.demucs_runs import EVERYTHING, TINY, experiment, outcome
from tests.training.runs import assert_equal

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demucs") / "songs"
    write_songs(folder, songs=7, seconds=2.0, seed=3, sample_rate=8000, splits={"valid": 3, "test": 1})
    return folder


def begin(songs: Path, out: Path, processes: int, *options: str) -> subprocess.Popen:
    """The command that trains an experiment."""
    places = ["--dataset", str(songs), "--metadata", str(songs.parent / out.name), f"dora.dir={out}"]
    command = [sys.executable, "run_scripts/run_demucs.py", "run", "--device", "cpu", "-npn", str(processes)]
    return subprocess.Popen(
        [*command, *places, *TINY, *options],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen, status: int = 0) -> None:
    said = process.communicate(timeout=300)[0]
    assert process.returncode == status, said


def test_stopped_and_started_again_two_processes_leave_the_same_bits(songs, tmp_path):
    options = (*EVERYTHING, "epochs=2", "misc.num_prints=100", "batch_size=8", "max_batches=2")
    whole = begin(songs, tmp_path / "whole", 2, *options)
    stopped = begin(songs, tmp_path / "stopped", 2, *options)
    for line in stopped.stdout:
        if line.startswith("step 1/"):
            stopped.send_signal(signal.SIGTERM)
            break
    ended(stopped, requeue_status())
    ended(begin(songs, tmp_path / "stopped", 2, *options))
    ended(whole)
    one, other = (outcome(experiment(songs, tmp_path / name, *options)) for name in ("whole", "stopped"))
    assert one[1]["step"] == 4
    assert_equal(one, other)


def test_two_processes_learn_and_are_judged_as_one(songs, tmp_path):
    """Rounding apart: the augmentation, the batches and the songs are those of the whole batch."""
    options = ("epochs=1", "batch_size=8", "max_batches=2", "optim.optim=adamw", "ema.batch=[0.9]", "test.every=1")
    runs = [begin(songs, tmp_path / str(processes), processes, *options) for processes in (1, 2)]
    for run in runs:
        ended(run)
    (one, numbers), (two, others) = (outcome(experiment(songs, tmp_path / name, *options)) for name in "12")
    for group in ("model", "ema_batch_0"):
        for name, array in one[group].items():
            assert np.abs(two[group][name] - array).mean() <= 2e-5, name
    for kind in ("train", "valid", "test"):
        line, other = numbers["history"][0][kind], others["history"][0][kind]
        for name, value in line.items():
            if isinstance(value, float):
                assert other[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
