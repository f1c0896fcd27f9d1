"""One function for many songs, in several processes, of which one may fail or be killed without the others noticing."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC, EROFS
from typing import Any

from data.index import Song
from runtime.errors import UserError

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
HOPELESS = (ENOSPC, EDQUOT, EROFS)  # errors of the disk that the next song would meet too


@dataclass(frozen=True)
class Failure:
    """Why a song could not be done; ``trace`` is for the eyes of developers, empty for a `UserError`."""

    reason: str
    trace: str = ""


def run_songs(work: Callable[[Song], Any], songs: Sequence[Song], processes: int) -> Iterator[tuple[Song, Any]]:
    """Yield ``(song, work(song))`` as they get done; in place of the result a `Failure` for a song that raised.

    With several processes ``work`` and its result must be picklable. When a process is killed (by the system, for lack
    of memory, say), the songs that were under way are tried again one at a time: the one that ends a process again is
    the one that failed. A full or read-only disk ends the whole run with its OSError.
    """
    if processes <= 1 or len(songs) <= 1:
        for song in songs:
            yield song, _guarded(work, song)
        return
    waiting, suspects = deque(songs), deque()
    with _environment(ONE_THREAD):
        while waiting or suspects:
            if suspects:
                alone = deque([suspects.popleft()])
                for song in (yield from _in_pool(work, alone, 1)):
                    yield song, Failure("the process that worked on it was killed (out of memory?)")
            else:
                suspects.extend((yield from _in_pool(work, waiting, min(processes, len(waiting)))))


def _in_pool(work: Callable, waiting: deque, processes: int):
    """Work through ``waiting`` in a fresh pool until it is empty or a process dies; returns the songs lost with it."""
    pool = open_pool(processes)
    running: dict[Future, Song] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running[pool.submit(_guarded, work, waiting[0])] = waiting[0]
                waiting.popleft()  # only now: a broken pool does not take the song
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result()
                yield running.pop(future), result
    except BrokenProcessPool:
        return list(running.values())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return []


def _guarded(work: Callable, song: Song) -> Any:
    try:
        return work(song)
    except UserError as error:
        return Failure(str(error))
    except OSError as error:
        if error.errno in HOPELESS:
            raise
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())


def open_pool(processes: int) -> ProcessPoolExecutor:
    """Processes that leave Ctrl-C to this one, and end with it even if it is killed.

    They are spawned: a fork may inherit locks that another thread holds.
    """
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


@contextmanager
def _environment(values: dict[str, str]):
    """Set variables for the processes started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
