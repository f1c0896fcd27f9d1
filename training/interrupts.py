"""Requests to stop that arrive as signals: noted at once, honoured after the running step."""

from __future__ import annotations

import signal
from types import FrameType

from runtime.launch import requeue_status

REQUEUE = (signal.SIGTERM, signal.SIGUSR1)  # what batch systems send before they take the machine away


class StopRequests:
    """While the block runs, SIGTERM, SIGUSR1 and Ctrl-C only leave a note; a second Ctrl-C breaks off at once.

    Attributes:
        requeue: SIGTERM or SIGUSR1 came
        interrupt: SIGINT came
    """

    def __init__(self) -> None:
        self.requeue = False
        self.interrupt = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequests:
        requeue_status()  # a wrong one is said before the work, not after it
        for number in (*REQUEUE, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self.requeue or self.interrupt

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number in REQUEUE:
            self.requeue = True
        elif self.interrupt:
            raise KeyboardInterrupt
        else:
            self.interrupt = True
