"""The loss of every step of a run, as numbers (``losses.csv``) and as a picture (``loss.png``) in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from runtime.atomic import atomic_write

_HEADER = "step,loss\n"
_POINTS = 1000  # of a line in the picture
_SMOOTH = 0.05  # of the whole length: what the running mean takes together


class LossCurve:
    """Keeps the losses of all sessions of a run.

    Args:
        folder: the run's folder
    """

    def __init__(self, folder: Path):
        self.numbers, self.picture = Path(folder, "losses.csv"), Path(folder, "loss.png")
        self._handle: TextIO | None = None

    def begin(self, step: int) -> None:
        """Forgets what came after ``step``: a killed session may have been ahead of its checkpoint."""
        kept = [f"{number},{loss!r}\n" for number, loss in self.losses() if number <= step]
        with atomic_write(self.numbers, "w") as handle:
            handle.writelines([_HEADER, *kept])
        self._handle = self.numbers.open("a", buffering=1, encoding="utf-8")  # line by line

    def add(self, step: int, loss: float) -> None:
        """The loss of an update; ``step`` counts it."""
        self._handle.write(f"{step},{float(loss)!r}\n")

    def losses(self) -> list[tuple[int, float]]:
        """Step and loss of every update so far; a line that was cut off does not count."""
        if not self.numbers.is_file():
            return []
        lines = self.numbers.read_text(encoding="utf-8").splitlines(keepends=True)[1:]
        pairs = [line.split(",") for line in lines if line.endswith("\n")]
        return [(int(step), float(loss)) for step, loss in pairs]

    def draw(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Writes the picture.

        Args:
            history: the validations, each with ``step`` and ``valid["loss"]``
        """
        from matplotlib.figure import Figure

        losses = np.array([pair for pair in self.losses() if np.isfinite(pair[1])]).reshape(-1, 2)
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.add_subplot(xlabel="step", ylabel="loss")
        if len(losses):
            axes.plot(*thinned(losses).T, color="0.75", linewidth=0.8, label="training, each step")
            axes.plot(*thinned(smoothed(losses)).T, color="C0", label="training, running mean")
        if history:
            steps, values = zip(*((line["step"], line["valid"]["loss"]) for line in history), strict=True)
            axes.plot(steps, values, "o-", color="C1", markersize=3, label="validation")
        if len(losses) or history:
            axes.legend()
        axes.grid(alpha=0.3)
        with atomic_write(self.picture) as handle:
            figure.savefig(handle, format="png", dpi=120)

    def close(self) -> None:
        """No more steps in this session."""
        if self._handle:
            self._handle.close()
            self._handle = None


def smoothed(points: np.ndarray) -> np.ndarray:
    """Running mean of ``[N, 2]`` steps and losses over those before and after, fewer of them at the ends."""
    reach = max(round(len(points) * _SMOOTH / 2), 1)
    sums = np.concatenate([[0.0], np.cumsum(points[:, 1])])
    first = np.maximum(np.arange(len(points)) - reach, 0)
    last = np.minimum(np.arange(len(points)) + reach + 1, len(points))
    return np.stack([points[:, 0], (sums[last] - sums[first]) / (last - first)], axis=1)


def thinned(points: np.ndarray) -> np.ndarray:
    """Means of neighbours in ``[N, 2]``, so that at most so many points are left as can be seen."""
    size = -(-len(points) // _POINTS)
    return np.stack([piece.mean(axis=0) for piece in np.split(points, range(size, len(points), size))])
