"""Doors inside the process of a test: they end as in one of their own, which takes seconds to start."""

import io
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import console


def inside(
    main: Callable[[list[str]], int], place: Path, *arguments, status: int | None = 0, **variables: str
) -> subprocess.CompletedProcess[str]:
    """What ``python door arguments…`` says in the folder ``place``, where ``main`` is what the door runs.

    ``status`` is how it has to end (None: in any way), ``variables`` are its environment's beside those that there are.
    """
    streams = {name: io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for name in ("stdout", "stderr")}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", [main.__module__, *map(str, arguments)])
        for name, stream in streams.items():
            patch.setattr(sys, name, stream)
        try:
            with pytest.raises(SystemExit) as ended:
                console.run(main)
        finally:
            console.set_verbosity(0)
            for number, handler in handlers.items():
                signal.signal(number, handler)
    said = {name: stream.buffer.getvalue().decode() for name, stream in streams.items()}
    assert status is None or ended.value.code == status, f"{arguments}\n{said['stdout']}\n{said['stderr']}"
    return subprocess.CompletedProcess(arguments, ended.value.code, **said)
