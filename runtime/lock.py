"""One process at a time in a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.errors import UserError


@contextmanager
def in_turn(file: str | os.PathLike) -> Iterator[None]:
    """Wait until no other process (or thread) is in a block of this ``file``, which is made in a folder that is there.

    Where the file system has no locks, nobody waits.
    """
    with open(file, "w") as handle:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def alone(folder: str | os.PathLike, complaint: str) -> Iterator[bool]:
    """Claim ``folder``, which is made if need be; the claim ends with the process, however it ends.

    Yields False where the file system has no locks (some cluster file systems): then others may be there, too. Raises
    `UserError` with ``complaint`` if another process has the claim.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as handle:
        locked = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(complaint) from error
        except OSError:
            locked = False
        yield locked
