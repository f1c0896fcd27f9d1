"""The front of everything about files: atomic writes, JSON, checks of the disk, verified downloads, safe unpacking."""

from __future__ import annotations

import json
import os

from runtime.archive import unpack
from runtime.atomic import atomic_folder, atomic_path, atomic_write, remove_folder, remove_leftovers
from runtime.disk import cache_folder, checksum, readable, require_space, require_writable, sha256
from runtime.download import DownloadError, download
from runtime.errors import UserError
from runtime.lock import alone

__all__ = [
    "DownloadError",
    "alone",
    "atomic_folder",
    "atomic_path",
    "atomic_write",
    "cache_folder",
    "checksum",
    "download",
    "read_json",
    "readable",
    "remove_folder",
    "remove_leftovers",
    "require_space",
    "require_writable",
    "sha256",
    "unpack",
    "write_json",
]


def write_json(path: str | os.PathLike, value: object) -> None:
    """Write ``value`` atomically as indented UTF-8 JSON; numpy scalars and arrays become numbers and lists."""
    text = json.dumps(value, indent=1, ensure_ascii=False, default=_plain)
    with atomic_write(path, "w") as handle:
        handle.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")  # names that are not UTF-8


def read_json(path: str | os.PathLike) -> object:
    """Read a JSON file; `UserError` naming the file if it is missing or is not JSON."""
    try:
        with open(path, encoding="utf-8") as handle:
            return json.load(handle)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): it was cut short or changed by hand") from error


def _plain(value: object) -> object:
    """What `json` cannot write itself; `tolist` is how numpy scalars and arrays become Python's own."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
