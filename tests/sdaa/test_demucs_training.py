"""Training the Demucs family on emulated cards."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.synthetic import write_songs
from sdaa_emulator import environment
from tests.sdaa.cards import LOGGED, ROOT, needs_compiler
from tests.training.demucs_runs import EVERYTHING, TINY, experiment, outcome

pytestmark = needs_compiler


def train(folder: Path, out: str, *options: str) -> subprocess.CompletedProcess:
    places = ["--dataset", folder / "songs", "--metadata", folder / out, f"dora.dir={folder / out}"]
    done = subprocess.run(
        [sys.executable, "run_scripts/run_demucs.py", "run", *map(str, places), *TINY, *EVERYTHING, *options],
        cwd=ROOT,
        env=environment(cards=2, given=os.environ | {"OMP_NUM_THREADS": "1"} | LOGGED),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demucs")
    write_songs(folder / "songs", songs=4, seconds=1.5, seed=3, sample_rate=8000, splits={"valid": 1, "test": 1})
    return folder


def test_nothing_of_the_recipe_falls_back_to_the_host(place):
    done = train(place, "one", "--device", "sdaa", "epochs=1", "max_batches=1", "svd.proba=1")
    assert "finished at epoch 1" in done.stdout
    assert re.findall(r"missing sdaa kernel: (\w+)", done.stderr) == []


def test_two_cards_train_what_two_processors_train(place):
    options = ("epochs=1", "max_batches=1", "batch_size=8")
    records = []
    for device in ("cpu", "sdaa"):
        train(place, device, "--device", device, "-npn", "2", *options)
        records.append(outcome(experiment(place / "songs", place / device, *EVERYTHING, *options)))
    (one, numbers), (other, others) = records
    assert numbers["step"] == others["step"] == 1
    for name, array in one["model"].items():
        assert np.abs(other["model"][name] - array).mean() <= 2e-5, name
    for kind in ("train", "valid"):
        ours, theirs = numbers["history"][0][kind], others["history"][0][kind]
        assert ours.keys() == theirs.keys()
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)
