"""Signals that ask to stop. Before the training loop they are obeyed at once; within it, after the running step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from runtime.console import log
from runtime.worker import requeue_status

REQUEUE = (signal.SIGTERM, signal.SIGUSR1)  # what batch systems send before they take the machine away


class Stopped(SystemExit):
    """A signal came while there was nothing to save; the code is the exit status."""

    def __init__(self, status: int, number: int):
        super().__init__(status)
        self.sentence = f"stopped by {signal.Signals(number).name}: status {status}, the same command goes on from here"


class StopRequests:
    """While the block runs, SIGTERM and SIGUSR1 end it with ``requeue_status()``, and Ctrl-C as it usually does.

    Within :meth:`deferred` they only leave a note for the training loop; a second Ctrl-C breaks off at once.

    Attributes:
        requeue: SIGTERM or SIGUSR1 came
        interrupt: SIGINT came
    """

    def __init__(self) -> None:
        self.requeue = False
        self.interrupt = False
        self._deferring = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequests:
        requeue_status()  # a wrong one is said before the work, not after it
        for number in (*REQUEUE, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
            # Paddle takes a call of the system that a signal cut short for a broken connection (and blocking signals
            # around its calls sends them to its thread that serves the other processes, with the same effect)
            signal.siginterrupt(number, False)
        return self

    def __exit__(self, _kind: object, exception: BaseException | None, _trace: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(exception, Stopped):
            log(exception.sentence)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """The block looks at :attr:`requeue` and :attr:`interrupt` itself, and saves before it ends."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number in REQUEUE:
            self.requeue = True
            if not self._deferring:
                raise Stopped(requeue_status(), number)
        elif self.interrupt or not self._deferring:
            raise KeyboardInterrupt
        else:
            self.interrupt = True
