"""Paths of the shared material that tests use where it is there, and skip without."""

import os
import signal
from pathlib import Path

import pytest

# The networks of the tests are too small to share out, several processes run side by side, and no result may depend on
# how many cores there are. Before anything imports numpy or paddle.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts background jobs with Ctrl-C ignored, and their children inherit that; the tests of Ctrl-C need it back.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the folder shared/{name} beside the repository")
    return folder


@pytest.fixture(scope="session")
def shared_parity() -> Path:
    """Golden outputs of the reference implementations, one ``.npz`` a case."""
    return _shared("parity")


@pytest.fixture(scope="session")
def shared_audio() -> Path:
    """Real music with stems, whole songs, codec pairs; read only."""
    return _shared("audio")
