"""Files and folders that are there whole or not at all, also after a power cut or ``kill -9``."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LEFTOVER = ".tmp-"  # how the names of unfinished files begin: hidden, and plainly nobody's result


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield the name of a temporary file beside ``path`` for someone else to write; it becomes ``path`` on success.

    The temporary name keeps the suffix, because writers of audio choose the format by it. Without an exception the
    file is flushed to the disk and renamed, with one it is removed. Folders on the way are made.
    """
    target = Path(os.path.realpath(path))  # through a link: replace what it points at, not the link
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(target.parent)


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO]:
    """Open a handle (``wb``, or ``w`` in UTF-8) whose contents become ``path`` if the block ends without exception."""
    if mode not in ("wb", "w"):
        raise ValueError(f"atomic_write replaces a whole file: mode wb or w, not {mode}")
    text = {} if mode == "wb" else {"encoding": "utf-8", "newline": "\n"}
    with atomic_path(path) as temporary, open(temporary, mode, **text) as handle:
        yield handle


@contextmanager
def atomic_folder(path: str | os.PathLike, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that becomes ``path`` when the block ends without an exception.

    An existing ``path`` with something in it is a `FileExistsError` at the start unless ``replace``.
    """
    target = Path(os.path.realpath(path))
    if not replace and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} is there already")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target)
    temporary.mkdir()
    try:
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                sync(Path(folder, name))
            sync(Path(folder))
        _put_in_place(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _put_in_place(folder: Path, target: Path) -> None:
    """Rename ``folder`` to ``target``; a full folder cannot be renamed over, so an old one changes places with it."""
    if not target.exists():
        os.rename(folder, target)
    elif not _exchange(folder, target):
        old = _beside(target)
        os.rename(target, old)
        os.rename(folder, target)
        folder = old
    sync(target.parent)
    if folder.exists():
        shutil.rmtree(folder)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step (Linux ``renameat2``); False where the system or the file system cannot."""
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        swap = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    return swap(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def remove_folder(folder: str | os.PathLike) -> None:
    """Remove a folder so that it is never seen with half of its contents."""
    doomed = _beside(Path(folder))
    os.rename(folder, doomed)
    shutil.rmtree(doomed)


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Remove what killed writers left in ``folder``. Only for folders that nobody else writes to at the moment."""
    for path in Path(folder).glob(LEFTOVER + "*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Ask the disk to have the contents of a file or folder before anything that follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(target: Path) -> Path:
    return target.parent / f"{LEFTOVER}{secrets.token_hex(6)}{target.suffix[:16]}"
