"""One process at a time in a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import UserError


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
