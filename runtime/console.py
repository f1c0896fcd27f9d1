"""What the command lines say, and the guard that turns every failure into one sentence and an exit status."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import sys
import time
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from runtime.errors import UserError, memory_sentence
from runtime.worker import worker_scope

if TYPE_CHECKING:
    from pathlib import Path

    from tqdm import tqdm

LINE_EVERY = 10.0  # seconds between the progress lines of a batch log

_REMEDIES = {
    errno.ENOSPC: "no space left on the disk: free some or choose another folder",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another folder",
    errno.EACCES: "permission denied: change the permissions or choose another folder",
    errno.EPERM: "the operation is not permitted: change the permissions or choose another folder",
    errno.EROFS: "the file system is read-only: choose another folder",
}


def run(main: Callable[[list[str]], int]) -> NoReturn:
    """Call ``main(argv)`` under the guard of all command lines and leave the process with its exit status.

    `UserError` and the usual complaints of a disk become ``error: …`` on stderr, Ctrl-C gives 130, SIGTERM and SIGHUP
    unwind the stack (so that temporary files go) and give 128 + signal, a reader that went away gives 141 without a
    word; anything else is a defect of ours and keeps its traceback, status 1. A worker leaves its status for the
    process that launched it.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _unwind)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # no name of a file may end a command because it cannot be shown
    with worker_scope() as leave:
        status, sentence = _guarded(main, sys.argv[1:])
        if leave:
            status = leave(status, sentence)
        elif sentence:
            complain(sentence, status)
    sys.exit(status)


def _unwind(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _guarded(main: Callable[[list[str]], int], argv: list[str]) -> tuple[int, str]:
    """Exit status and, where a sentence says it all, that sentence."""
    try:
        status = int(main(argv) or 0)
        sys.stdout.flush()
        return status, ""
    except UserError as error:
        return error.status, str(error)
    except KeyboardInterrupt:
        return 130, "interrupted"
    except SystemExit as leave:
        return (leave.code or 0, "") if isinstance(leave.code, int | None) else (1, str(leave.code))
    except BrokenPipeError:
        if not _stdout_is_open():
            return 128 + signal.SIGPIPE, ""
        traceback.print_exc()
    except OSError as error:
        if error.errno in _REMEDIES:
            place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            return 1, place + _REMEDIES[error.errno]
        return 1, _explained(error)
    except Exception as error:
        return 1, _explained(error)
    return 1, ""


def _explained(error: Exception) -> str:
    """The sentence for a failure that is no defect; a defect's traceback is printed instead."""
    sentence = memory_sentence(error)
    if sentence is None:
        traceback.print_exc()
    return sentence or ""


def complain(sentence: str, status: int) -> int:
    """Print ``error: …`` on stderr and return ``status``."""
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    return status


def _stdout_is_open() -> bool:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return True
    # the interpreter flushes once more when it ends: give it something that takes the rest
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return False


@contextmanager
def hushed() -> Iterator[None]:
    """Drop what a library prints to ``sys.stderr`` and warns of, unless it ends with an exception."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BaseException:
        sys.stderr.write(said.getvalue())
        raise


# ---------------------------------------------------------------------------------------------------- saying things

_state = {"verbosity": 0}
_logs: list[TextIO] = []  # files of `logged`, which get the warnings, too


def set_verbosity(level: int) -> None:
    """-1: only warnings and errors (``-q``); 0: the usual lines; 1: details too (``-v``)."""
    _state["verbosity"] = level


def log(message: str) -> None:
    """One line on stdout, at once, above a progress bar if one is there; silent under ``-q``."""
    if _state["verbosity"] >= 0:
        _print(message, sys.stdout)


def detail(message: str) -> None:
    """A line that only ``-v`` shows."""
    if _state["verbosity"] >= 1:
        _print(message, sys.stdout)


def warn(message: str) -> None:
    """``warning: …`` on stderr, whatever the verbosity."""
    _print(f"warning: {message}", sys.stderr)
    for file in _logs:
        print(f"warning: {message}", file=file, flush=True)


def _print(message: str, stream: TextIO) -> None:
    tqdm = sys.modules.get("tqdm")
    if tqdm is not None:
        tqdm.tqdm.write(message, file=stream)
    else:
        print(message, file=stream)
    stream.flush()


class _Both:
    """A stream that writes into a file, too."""

    def __init__(self, stream: TextIO, file: TextIO):
        self._stream, self._file = stream, file

    def write(self, text: str) -> int:
        self._file.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._file.flush()
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Within the block, what is said on stdout and what `warn` says is added to the end of a file, too."""
    with open(path, "a", encoding="utf-8") as file, contextlib.redirect_stdout(_Both(sys.stdout, file)):
        _logs.append(file)
        try:
            yield
        finally:
            _logs.remove(file)


# --------------------------------------------------------------------------------------------------------- progress


class ProgressLines:
    """The part of tqdm's interface that a batch log needs: a plain line now and then instead of a moving bar."""

    def __init__(self, items: Iterable | None, total: int | None, desc: str, unit: str, initial: int):
        self.items, self.total, self.desc, self.unit = items, total, desc, unit
        self.n = self.initial = initial
        self._start = self._said = time.monotonic()

    def __iter__(self) -> Iterator:
        with self:
            for item in self.items or ():
                yield item
                self.update()

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def update(self, count: int = 1) -> None:
        """Count ``count`` more units done."""
        self.n += count
        now = time.monotonic()
        if now - self._said >= LINE_EVERY:
            self._said = now
            self._say(now)

    def close(self) -> None:
        """Nothing to tidy up; here because a bar has it."""

    def _say(self, now: float) -> None:
        rate = (self.n - self.initial) / (now - self._start)
        scale, prefix = (2**20, "Mi") if self.unit == "B" else (1, " ")
        done = f"{self.n / scale:.0f}" + (f"/{self.total / scale:.0f}" if self.total else "")
        left = f", {(self.total - self.n) / rate:.0f} s left" if self.total and rate > 0 else ""
        _print(f"{self.desc}: {done}{prefix}{self.unit}{left}", sys.stderr)


def progress(
    items: Iterable | int | None, desc: str, unit: str = "it", initial: int = 0, show: bool = True
) -> ProgressLines | tqdm:
    """Show how far a loop is: a tqdm bar on a terminal, a line every ten seconds in a log, nothing under ``-q``.

    ``items`` is what to iterate over, or a total (``None``: unknown) for calling ``.update(n)`` inside a ``with``, of
    which ``initial`` are done already. ``unit`` is what one step is called; ``B`` counts bytes.
    """
    total = items if isinstance(items, int) else len(items) if hasattr(items, "__len__") else None
    items = None if isinstance(items, int) else items
    show = show and _state["verbosity"] >= 0
    if show and not sys.stderr.isatty():
        return ProgressLines(items, total, desc, unit, initial)
    from tqdm import tqdm

    settings = {"unit": unit, "unit_scale": unit == "B", "unit_divisor": 1024, "dynamic_ncols": True}
    return tqdm(items, total=total, desc=desc, initial=initial, disable=not show, **settings)


# ----------------------------------------------------------------------------------------------------------- tables


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Columns of text: numbers right-aligned (floats with two decimals), the rest left-aligned, ``None`` as ``-``."""
    lines = [[_cell(value) for value in row] for row in [header, *rows]]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    numeric = [_is_numeric([row[i] for row in rows]) for i in range(len(widths))]

    def text(cells: list[str]) -> str:
        padding = [" " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
        columns = [
            space + cell if right else cell + space for cell, space, right in zip(cells, padding, numeric, strict=True)
        ]
        return "  ".join(columns).rstrip()

    head, *body = lines
    return "\n".join([text(head), "  ".join("-" * width for width in widths), *map(text, body)])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _is_numeric(column: list[object]) -> bool:
    return any(column) and all(value is None or isinstance(value, int | float) for value in column)


def _width(text: str) -> int:
    """Terminal cells: Chinese, Japanese and Korean characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
