"""Downloads that survive cut connections and do not believe servers."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import http.client
import json
import os
import re
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runtime import console
from runtime.atomic import atomic_write, sync
from runtime.disk import checksum, readable, require_space, require_writable
from runtime.errors import UserError

_BLOCK = 1 << 18  # bytes read at a time
_SCHEMES = ("http", "https", "file")


class DownloadError(UserError):
    """No address delivered the file."""


class _Unusable(Exception):
    """This address will not do, however often it is asked."""


class _Interrupted(Exception):
    """The transfer stopped early: worth another try from where it stopped."""


@dataclass(frozen=True)
class _Wanted:
    """What is known of the file before it is there."""

    algorithm: str | None
    digest: str | None
    size: int | None  # bytes

    def fault(self, path: Path) -> str | None:
        """What is wrong with the file at ``path``, or ``None``."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"{size} bytes instead of {self.size}"
        if self.algorithm and not checksum(path, self.algorithm).startswith(self.digest or ""):
            return f"wrong {self.algorithm} checksum"
        return None


def download(
    urls: str | Sequence[str],
    target: str | os.PathLike,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    progress: bool = True,
    timeout: float = 30.0,
    retries: int = 4,
    pause: float = 1.0,
) -> Path:
    """Fetch the first of ``urls`` (mirrors of one file: http, https, file) that delivers, to ``target``; return it.

    An existing target that has the checksum and size is kept. The transfer goes to ``<target>.part`` and resumes there
    by Range requests, also in a later run: with a checksum from any mirror, without one only if the server says that
    its file is unchanged. Each address is tried ``retries`` times without progress, with doubling pauses (``pause``
    seconds first), but a host that cannot be reached at all is left for the next address at once. ``timeout`` seconds
    of silence count as a cut connection. The file gets its name only with the right length and checksum, of which the
    leading digits are enough. Proxies come from the environment. Raises `DownloadError` that lists what each address
    did, `UserError` for a lack of space.
    """
    urls = [urls] if isinstance(urls, str) else list(urls)
    target = Path(target)
    algorithm = "sha256" if sha256 else "md5" if md5 else None
    wanted = _Wanted(algorithm, (sha256 or md5 or "").lower(), size)
    require_writable(target.parent)
    part = target.with_name(target.name + ".part")
    with open(part, "ab") as lock:
        _wait_for(lock)
        if target.exists() and wanted.fault(target) is None:
            _discard(part)
            return target
        failures = []
        for number, url in enumerate(urls, 1):
            try:
                _Transfer(url, part, wanted, timeout, progress).run(retries, pause)
            except _Unusable as error:
                failures.append(f"{url}: {error}")
                if number < len(urls):
                    console.warn(f"{failures[-1]}; going on with the next address")
                continue
            sync(part)
            os.replace(part, target)
            _discard(part)
            return target
    remedy = f"Try again later (the transfer resumes) or place the file at {target}"
    if not part.stat().st_size:
        _discard(part)
        remedy = f"Try again later or place the file at {target}"
    raise DownloadError(f"cannot download {target.name}: {'; '.join(failures) or 'no address is known'}. {remedy}")


def _wait_for(lock: IO) -> None:
    """A second process waits here and then finds the finished file; some cluster file systems have no locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)


def _note(part: Path) -> Path:
    """Where it is written which version of the file the ``.part`` belongs to."""
    return part.with_name(part.name + ".json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


class _Transfer:
    """One address, one ``.part`` file."""

    def __init__(self, url: str, part: Path, wanted: _Wanted, timeout: float, progress: bool):
        self.url, self.part, self.wanted, self.timeout, self.progress = url, part, wanted, timeout, progress
        self.answered = False

    def run(self, retries: int, pause: float) -> None:
        """Bring ``.part`` to completion and prove it, or raise `_Unusable`."""
        if self.url.partition(":")[0].lower() not in _SCHEMES:
            raise _Unusable("only http, https and file addresses are understood")
        failures, restarted, furthest = 0, False, self._have()
        while True:
            before = self._have()
            try:
                self._fetch()
                fault = self.wanted.fault(self.part)
                if fault is None:
                    return
                _empty(self.part)
                if not before or restarted:
                    raise _Unusable(fault)
                restarted = True  # an old beginning and a new end do not fit together: once more from the start
            except _Interrupted as error:
                failures = 1 if self._have() > furthest else failures + 1
                furthest = max(furthest, self._have())
                if failures >= retries:
                    raise _Unusable(f"{error} (tried {retries} times)") from error
                wait = pause * 2 ** (failures - 1)
                console.log(f"{self.part.stem}: {error}; trying again in {wait:g} s")
                time.sleep(wait)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _fetch(self) -> None:
        """One request: append what is missing; returns when the server has sent all that it announced."""
        import urllib.error
        import urllib.request

        try:
            request = urllib.request.Request(self.url, headers=self._headers())
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                self.answered = True
                self._receive(response)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing follows what is here
                if error.headers.get("Content-Range") == f"bytes */{self._have()}":
                    return
                _empty(self.part)
                raise _Interrupted("the server has less than was already here") from error
            if error.code < 500 and error.code not in (408, 425, 429):
                raise _Unusable(f"HTTP {error.code} {error.reason}") from error
            raise _Interrupted(f"HTTP {error.code} {error.reason}") from error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            cause = getattr(error, "reason", error)
            said = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
            if isinstance(cause, FileNotFoundError):
                raise _Unusable("no such file") from error
            if not self.answered and _is_unreachable(cause):
                raise _Unusable(f"the host cannot be reached ({said})") from error
            raise _Interrupted(said) from error
        except ValueError as error:
            raise _Unusable(f"not a valid address ({error})") from error

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": "PaddleStems", "Accept-Encoding": "identity"}
        have = self._have()
        if have and self.wanted.digest:
            headers["Range"] = f"bytes={have}-"
        elif have and (validator := self._validator()):
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        return headers

    def _validator(self) -> str | None:
        note = _note(self.part)
        known = json.loads(note.read_text("utf-8")) if note.exists() else {}
        return known.get("validator") if known.get("url") == self.url else None

    def _receive(self, response: http.client.HTTPResponse) -> None:
        start, total = self._announced(response)
        if self.wanted.size is not None and total is not None and total != self.wanted.size:
            raise _Unusable(f"the server's file has {total} bytes instead of {self.wanted.size}")
        if start == 0:
            _empty(self.part)
            etag = response.headers.get("ETag", "")
            validator = etag if etag.startswith('"') else response.headers.get("Last-Modified")
            with atomic_write(_note(self.part), "w") as note:
                json.dump({"url": self.url, "validator": validator}, note)
        if total is not None:
            require_space(self.part.parent, total - start, f"downloading {self.part.stem}")
        have = self._append(response, start, total)
        if total is not None and have < total:
            raise _Interrupted(f"the connection ended after {readable(have)} of {readable(total)}")

    def _announced(self, response: http.client.HTTPResponse) -> tuple[int, int | None]:
        """First byte that this response brings, and the length of the whole file if it is told."""
        if getattr(response, "status", None) == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
            if not found or int(found[1]) != self._have():
                _empty(self.part)
                raise _Interrupted("the server sent another range than it was asked for")
            return int(found[1]), None if found[2] == "*" else int(found[2])
        length = response.headers.get("Content-Length")
        return 0, int(length) if length and length.isdigit() else None

    def _append(self, response: http.client.HTTPResponse, have: int, total: int | None) -> int:
        with (
            console.progress(total, self.part.stem, "B", initial=have, show=self.progress) as bar,
            open(self.part, "ab") as handle,
        ):
            while block := response.read(_BLOCK):
                handle.write(block)
                bar.update(len(block))
                have += len(block)
        return have


def _is_unreachable(cause: object) -> bool:
    """Whether asking the same host again is a waste of time: no name, no way, nobody there, or not who it should be.

    Of a host that has answered before, the same may be a passing trouble of the network.
    """
    hopeless = (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH)
    return isinstance(cause, socket.gaierror | ssl.SSLCertVerificationError) or (
        isinstance(cause, OSError) and cause.errno in hopeless
    )


def _empty(part: Path) -> None:
    with open(part, "wb"):
        pass
