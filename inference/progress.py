"""Telling how far a separation is, and being told to stop."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float], None]
Cancel = Callable[[], bool]


class Cancelled(Exception):
    """The ``cancel`` callable said yes."""


class Watch:
    """Reports the finished share of a song and asks whether to go on.

    Args:
        total: samples of the song, if known
        reading: the part of the work that is done when the song has been read; the rest goes with what comes out
    """

    def __init__(self, total: int | None, progress: Progress | None, cancel: Cancel | None, reading: float = 0.5):
        self._total, self._progress, self._cancel, self._reading = total, progress, cancel, reading
        self.taken = self.given = 0

    def took(self, samples: int) -> None:
        """So many samples went in."""
        self.taken += samples
        self._look()

    def gave(self, samples: int) -> None:
        """So many samples came out."""
        self.given += samples
        self._look()

    def end(self) -> None:
        """All is done."""
        if self._progress:
            self._progress(1.0)

    def _look(self) -> None:
        if self._cancel and self._cancel():
            raise Cancelled
        if self._progress and self._total:
            share = self._reading * self.taken + (1 - self._reading) * self.given
            self._progress(min(1.0, share / self._total))
