"""What several of these tests begin with, made once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from preprocess import main as preprocess
from tests.end_to_end.inside import inside

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """A folder with ``dataset`` (seven songs of 4.5 s, two of them to test on) and ``cache`` for ``spleeter/tiny``,
    made by the commands."""
    folder = tmp_path_factory.mktemp("prepared")
    dataset = ["--dataset", folder / "dataset"]
    _python("-m", "data.synthetic", folder / "dataset", "--songs", 7, "--test", 2, "--seconds", 4.5)
    inside(preprocess, ROOT, *dataset, "-j", 1)
    command = ["run_scripts/run_spleeter.py", "-m", "process_data", "-c", "spleeter/tiny", "-npn", 1, *dataset]
    said = _python(*command, f"data.cache={folder}/cache")
    assert "train: 4 songs" in said and "valid: 1 songs" in said
    return folder


@pytest.fixture(scope="module")
def place(prepared, tmp_path_factory) -> Path:
    """A module's own folder for its runs, in which ``dataset`` and ``cache`` are those of all."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("dataset", "cache"):
        (folder / name).symlink_to(prepared / name)
    return folder


def _python(*arguments) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout
