"""Runs a piece of Python on emulated cards, in processes of its own: the plug-in settles a process for good."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from sdaa_emulator import environment

ROOT = Path(__file__).parents[2]

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
    script = folder / "body.py"
    script.write_text(textwrap.dedent(body))
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--log_dir", str(folder / "log")]
    devices = ",".join(map(str, range(processes)))
    return _run([*launcher, "--devices", devices, str(script)], status, settings)


def _run(command: list[str], status: int | None, settings: dict) -> subprocess.CompletedProcess:
    variables = {"FLAGS_use_stride_kernel": "0", "PADDLE_XCCL_BACKEND": "sdaa", "OMP_NUM_THREADS": "1"}
    given = os.environ | {"PYTHONPATH": str(ROOT)} | variables | settings.pop("variables", {})
    done = subprocess.run(
        command, env=environment(given=given, **settings), capture_output=True, text=True, timeout=240, check=False
    )
    assert status is None or done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
