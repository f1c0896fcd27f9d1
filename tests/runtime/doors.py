"""Command lines that launch workers which do not compute; tests say in Python what the workers do."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]

_SCRIPT = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from runtime import console, crew, device, launch
from runtime.errors import UserError

crew.GRACE_AFTER_FAILURE = 1.0
stop = []

def wait_for_stop(seconds=60):
    end = time.monotonic() + seconds
    while not stop and time.monotonic() < end:
        time.sleep(0.05)

def work(rank):
{work}

{main}
console.run(main)
"""


@contextmanager
def doors(folder: Path, main: str) -> Iterator[Callable[..., subprocess.Popen]]:
    """Yields ``start(work, *arguments)``: a script in ``folder`` whose workers do the body of ``work(rank)``.

    ``main`` is the source of the script's ``main(argv)``. What still runs at the end of the block is killed.
    """
    started: list[subprocess.Popen] = []

    def start(work: str, *arguments: object) -> subprocess.Popen:
        script = folder / f"door-{len(started)}.py"
        body = textwrap.indent(textwrap.dedent(work), "    ")
        script.write_text(_SCRIPT.format(root=str(ROOT), work=body, main=main))
        words = [sys.executable, str(script), *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        started.append(subprocess.Popen(words, cwd=folder, env=environment, **pipes))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.communicate()


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a process, when it has ended."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err
