"""What a run of the Demucs family says, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime import console
from training.journal import Journal, scores
from training.state import State

_SHOWN = ("loss", "reco", "nsdr", "ms", "penalty", "sdr")  # on the console; the sources are in history.jsonl


class EpochJournal(Journal):
    """A journal whose lines count epochs. Arguments: see `Journal`."""

    def __init__(self, folder: Path, train: Any, segments_per_step: int, steps_per_epoch: float, speaks: bool):
        super().__init__(folder, train, segments_per_step, steps_per_epoch, speaks)
        self.epochs = train.epochs

    def tested(self, state: State) -> None:
        """After a test that entered the history."""
        if self.speaks:
            test = state.history[-1]["test"]
            line = "  ".join(f"{name} {value:.3f}" for name, value in test.items() if "_med" not in name)
            console.log(f"epoch {state.epoch}/{self.epochs}  test {line}")
            self._write_history(state)
            self._curves("test", test, state.step)

    def _said(self, losses: Mapping[str, float]) -> str:
        return scores({name: value for name, value in losses.items() if name in _SHOWN})

    def _reached(self, state: State) -> str:
        return f"epoch {state.epoch}"

    def _verdict(self, state: State, better: bool) -> str:
        valid = state.history[-1]["valid"]
        mark = "best so far" if better else f"best {valid['best']:.5g} at step {state.best_step}"
        return f"epoch {state.epoch}/{self.epochs}  validation {self._said(valid)}  ({valid['bname']}, {mark})"
