"""Runs a piece of Python on emulated cards, in processes of its own: the plug-in settles a process for good."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from runtime.compiler import cxx_compiler
from sdaa_emulator import environment

ROOT = Path(__file__).parents[2]

needs_compiler = pytest.mark.skipif(cxx_compiler() is None, reason="the SDAA emulator needs a C++ compiler")

LOGGED = {"GLOG_v": "3", "GLOG_minloglevel": "0"}  # variables with which Paddle says what it leaves to the host

_PROLOGUE = """
import numpy as np, os, sys
import paddle
import paddle.nn.functional as F
paddle.set_device("sdaa:0")
"""


def on_card(body: str, status: int = 0, **settings) -> subprocess.CompletedProcess:
    """Run ``body`` after importing paddle with the card as its device; ``settings`` are those of `environment`."""
    return _run([sys.executable, "-c", _PROLOGUE + textwrap.dedent(body)], status, settings)


def on_cards(
    body: str, processes: int, folder: Path, status: int | None = 0, **settings
) -> subprocess.CompletedProcess:
    """Run ``body`` in ``processes`` processes of paddle's launcher, one a card; the first one's output is
    returned. ``status`` None allows any."""
    script = folder / f"body_of_{processes}.py"
    script.write_text(textwrap.dedent(body))
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--log_dir", str(folder / "log")]
    devices = ",".join(map(str, range(processes)))
    return _run([*launcher, "--devices", devices, str(script)], status, settings)


def on_host(log: str) -> list[str]:
    """What a `LOGGED` run left to the host, each with what the last line ``now: …`` before it says."""
    found, part = [], ""
    for line in log.splitlines():
        if line.startswith("now: "):
            part = line[5:]
        elif missing := re.search(r"missing sdaa kernel: (\w+)", line):
            found.append(f"{part}: {missing[1]}")
    return found


def _run(command: list[str], status: int | None, settings: dict) -> subprocess.CompletedProcess:
    variables = {"FLAGS_use_stride_kernel": "0", "PADDLE_XCCL_BACKEND": "sdaa", "OMP_NUM_THREADS": "1"}
    given = os.environ | {"PYTHONPATH": str(ROOT)} | variables | settings.pop("variables", {})
    done = subprocess.run(
        command, env=environment(given=given, **settings), capture_output=True, text=True, timeout=240, check=False
    )
    assert status is None or done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
