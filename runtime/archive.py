"""Unpacking archives of strangers: nothing outside the folder, no links, no devices, all or nothing."""

from __future__ import annotations

import errno
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runtime.atomic import atomic_folder
from runtime.disk import require_space
from runtime.errors import UserError

_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, UnicodeError)
_UNUSABLE_NAMES = (errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR)


@dataclass(frozen=True)
class _Member:
    name: str
    size: int  # bytes
    kind: str  # "file", "folder", or what makes it unwelcome
    key: object  # how the archive knows it


def unpack(archive: str | os.PathLike, folder: str | os.PathLike) -> Path:
    """Unpack a zip or (compressed) tar file into ``folder``, which must not exist or be empty, and return it.

    All members are looked at before the first byte is written: a name that leaves the folder, a link, a device or an
    encrypted entry refuses the whole archive. ``folder`` appears when everything is unpacked. Permissions and dates in
    the archive are ignored. Raises `UserError` for all of this, for damage, and for lack of space.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with _opened(archive) as (members, open_member):
            for member in members:
                _check(member, archive)
            require_space(folder, sum(member.size for member in members), f"unpacking {archive.name}")
            with atomic_folder(folder) as temporary:
                for member in members:
                    _extract(member, open_member, temporary)
    except FileNotFoundError as error:
        raise UserError(f"{archive} is missing") from error
    except NotImplementedError as error:
        raise UserError(f"cannot unpack {archive} to {folder}: {error}") from error
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno in _UNUSABLE_NAMES:
            raise UserError(f"cannot unpack {archive} to {folder}: {error}") from error
        if error.errno in (None, errno.EINVAL):  # not of the disk: gzip and bzip2 complain so, zip seeks to nowhere
            raise _damaged(archive, error) from error
        raise
    return folder


def _damaged(archive: Path, error: Exception) -> UserError:
    return UserError(f"{archive} is damaged ({error}): delete it and download it again")


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[list[_Member], object]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as handle:
            yield [_zip_member(info) for info in handle.infolist()], handle.open
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as handle:
            members = [_tar_member(info) for info in handle.getmembers()]
            while handle.fileobj.read(1 << 20):  # gzip compares its checksum only at the end
                pass
            yield members, handle.extractfile
    else:
        raise UserError(f"{archive} is neither a zip nor a tar file, or it is cut short: download it again")


def _zip_member(info: zipfile.ZipInfo) -> _Member:
    mode = info.external_attr >> 16
    kind = "folder" if info.is_dir() else "file"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind = "link" if stat.S_ISLNK(mode) else "device"
    elif info.flag_bits & 1:
        kind = "encrypted entry"
    return _Member(info.filename, info.file_size, kind, info)


def _tar_member(info: tarfile.TarInfo) -> _Member:
    kind = (
        "file" if info.isreg() else "folder" if info.isdir() else "link" if info.issym() or info.islnk() else "device"
    )
    return _Member(info.name, info.size, kind, info)


def _check(member: _Member, archive: Path) -> None:
    if member.kind not in ("file", "folder"):
        raise UserError(f"{archive} holds a {member.kind} ({member.name!r}) and is refused: get it from its publisher")
    parts = re.split(r"[/\\]", member.name)
    if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", member.name) or "\0" in member.name:
        raise UserError(f"{archive} would write outside its folder ({member.name!r}) and is refused")


def _extract(member: _Member, open_member, folder: Path) -> None:
    path = folder / member.name
    if member.kind == "folder":
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source: IO[bytes]
    with open_member(member.key) as source, open(path, "xb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
