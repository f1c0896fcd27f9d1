"""Questions to ask of a disk before hours of work: is there room, may one write, is the file what it should be.

And the one folder for what can be made again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from runtime.errors import UserError


def cache_folder(default: str = "") -> Path:
    """Where exported programs and the built emulator are kept: the folder that ``PADDLESTEMS_CACHE`` names.

    Where the variable is not set, ``default`` below ``~/.cache/paddlestems``. The folder need not exist.
    """
    return Path(os.environ.get("PADDLESTEMS_CACHE") or Path.home() / ".cache" / "paddlestems" / default)


def require_space(folder: str | os.PathLike, size: int, what: str) -> None:
    """Raise `UserError` unless ``size`` bytes are free where ``folder`` is or will be; ``what`` names their use."""
    place = _existing(Path(folder))
    free = shutil.disk_usage(place).free
    if size > free:
        raise UserError(
            f"{what} needs {readable(size)} in {folder}, but only {readable(free)} are free: "
            "free some space or choose another folder"
        )


def require_writable(folder: str | os.PathLike) -> Path:
    """Make ``folder`` if need be and prove that files can be written there; `UserError` if not."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}): choose another folder") from error


def sha256(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file."""
    return checksum(path, "sha256")


def checksum(path: str | os.PathLike, algorithm: str) -> str:
    """Hexadecimal checksum of a file by any algorithm of `hashlib`."""
    digest = hashlib.new(algorithm)
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def readable(size: float) -> str:
    """A number of bytes as people write it: ``3.4 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
