"""What a run says: console lines, history.jsonl, curves and audio for VisualDL. Only the first process speaks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime import checkpoint, console
from runtime.files import atomic_write
from training.curve import LossCurve
from training.state import State


class Journal:
    """Console, history and curves of one session of a run.

    Args:
        folder: the run's folder
        train: the ``train`` section of the configuration
        segments_per_step: size of the global batch
        steps_per_epoch: updates in one pass over the data
        speaks: whether this is the process that reports
        curve: takes the losses of every step, if they are to be seen
    """

    def __init__(
        self,
        folder: Path,
        train: Any,
        segments_per_step: int,
        steps_per_epoch: float,
        speaks: bool,
        curve: LossCurve | None = None,
    ):
        self.folder, self.train, self.speaks, self.curve = folder, train, speaks, curve
        self.segments_per_step = segments_per_step
        limits = [train.steps, None if train.epochs is None else round(train.epochs * steps_per_epoch)]
        self.last_step = min(limit for limit in limits if limit is not None)
        self.recent: list[dict[str, float]] = []  # losses and seconds of the steps since the last line
        self.writer: Any = None

    def begin(self, state: State) -> None:
        """Brings history.jsonl to where the state is: a killed session may have been ahead of its checkpoint."""
        if self.speaks:
            self._write_history(state)
            if self.curve:
                self.curve.begin(state.step)
            if self.train.visualdl:
                from visualdl import LogWriter

                self.writer = LogWriter(logdir=str(self.folder / "logs"))

    def step(
        self, state: State, losses: Mapping[str, float], lr: float, norm: float, times: tuple[float, float]
    ) -> None:
        """After an update. ``times``: seconds spent waiting for data, and altogether."""
        if not self.speaks:
            return
        if self.curve:
            self.curve.add(state.step, losses["loss"])
        self.recent.append({**losses, "waited": times[0], "seconds": times[1]})
        if state.step % self.train.log_every and state.step != self.last_step:
            return
        count, seconds = len(self.recent), sum(line["seconds"] for line in self.recent)
        waiting = sum(line["waited"] for line in self.recent) / seconds
        mean = {name: sum(line[name] for line in self.recent) / count for name in losses}
        self.recent = []
        speed = count * self.segments_per_step / seconds
        left = max(self.last_step - state.step, 0) * seconds / count
        console.log(
            f"step {state.step:>{len(str(self.last_step))}}/{self.last_step}  "
            f"epoch {state.epoch + (state.position > 0)}  "
            f"{self._said(mean)}  lr {lr:.2e}  norm {norm:.3g}  {speed:.3g} segments/s  "
            f"data {waiting:.0%} compute {1 - waiting:.0%}  {duration(left)} left"
        )
        self._curves("train", mean | {"lr": lr, "norm": norm, "segments_per_second": speed}, state.step)

    def _said(self, losses: Mapping[str, float]) -> str:
        """Mean losses as the console shows them."""
        return scores(losses)

    def record(self, state: State, better: bool) -> None:
        """After a validation that entered the history."""
        if self.speaks:
            console.log(self._verdict(state, better))
            self._write_history(state)
            self._curves("valid", state.history[-1]["valid"], state.step)
            if self.curve:
                self.curve.draw(state.history)

    def _verdict(self, state: State, better: bool) -> str:
        """The line about a validation."""
        mark = "best so far" if better else f"best {state.best:.5g} at step {state.best_step}"
        return f"step {state.step}  validation {scores(state.history[-1]['valid'])}  ({mark})"

    def unrecorded(self, valid: Mapping[str, float] | None) -> None:
        """The validation after the last step, when none was due: it is no part of the run's history."""
        if self.speaks and valid is not None:
            console.log(f"at the end  validation {scores(valid)}")

    def audio(self, state: State, listen: Callable[[], Mapping[str, Any]], sample_rate: int) -> None:
        """For VisualDL, which takes mono: the waveforms ``[C, N]`` by name that ``listen`` makes."""
        if self.writer:
            for name, wave in listen().items():
                self.writer.add_audio(f"audio/{name}", wave.mean(axis=0).clip(-1, 1), state.step, sample_rate)

    def saved(self, path: Path) -> None:
        """After a checkpoint."""
        console.detail(f"wrote {path}")

    def say(self, message: str) -> None:
        """One line on the console."""
        if self.speaks:
            console.log(message)

    def warn(self, message: str) -> None:
        """One warning on the console."""
        if self.speaks:
            console.warn(message)

    def end(self, state: State) -> None:
        """After the last step of this session."""
        if self.curve:
            self.curve.draw(state.history)

    def conclude(self, state: State, status: int, clock: Clock) -> None:
        """The last lines of a session: what it has written, and whether it goes on."""
        best = checkpoint.best(self.folder)
        self.say(f"wrote {checkpoint.latest(self.folder)}" + (f", the best so far is {best}" if best else ""))
        if status:
            self.say(f"saved at step {state.step} after {clock}: status {status}, the same command goes on from here")
        else:
            self.say(f"finished at {self._reached(state)} after {clock}")

    def _reached(self, state: State) -> str:
        """How far the run has come."""
        return f"step {state.step}"

    def close(self) -> None:
        """Flushes the curves."""
        if self.curve:
            self.curve.close()
        if self.writer:
            self.writer.close()
            self.writer = None

    def _curves(self, kind: str, values: Mapping[str, Any], step: int) -> None:
        if self.writer:
            for name, value in values.items():
                if isinstance(value, float):
                    self.writer.add_scalar(f"{kind}/{name}", value, step)

    def _write_history(self, state: State) -> None:
        with atomic_write(self.folder / "history.jsonl", "w") as handle:
            handle.writelines(json.dumps(line) + "\n" for line in state.history)


def scores(values: Mapping[str, float]) -> str:
    """``loss 0.0123  (vocals 0.006  accompaniment 0.0063)``"""
    terms = "  ".join(f"{name} {value:.4g}" for name, value in values.items() if name != "loss")
    return f"loss {values['loss']:.5g}" + (f"  ({terms})" if terms else "")


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 05 s``, ``2 h 10 min``"""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def __str__(self) -> str:
        return duration(time.perf_counter() - self._began)
