"""Moving averages of the weights, updated after every step or after every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import paddle

from models.tensors import tensors
from training.gradients import trainable


class EMA:
    """``average ← (1 − w) · average + w · weight`` at every update, for each parameter that learns.

    Batch-norm statistics are averages already: the current ones count.

    Args:
        model: the network; the average starts at its weights
        decay: per update, in [0, 1)
        unbiased: with w = 1 − decay the beginning counts for long. Unbiased, w is one over the sum of all weights so
            far (1, 1 + decay, 1 + decay + decay² …): the first update replaces the beginning altogether (Demucs)
        every: when it is updated, after a ``step`` or an ``epoch``; the latter kind waits in the host's memory

    Attributes:
        count: sum of the weights of an unbiased average
    """

    def __init__(
        self,
        model: paddle.nn.Layer,
        decay: float,
        unbiased: bool = False,
        every: Literal["step", "epoch"] = "step",
    ):
        self.decay, self.unbiased, self.every = decay, unbiased, every
        self.count = 0.0
        self._on_host = every == "epoch"
        self._model = model
        self._average: dict[str, Any] = self._present()

    @paddle.no_grad()
    def update(self) -> None:
        """Takes the model's present weights into the average."""
        kept, new = self._shares()
        for name, value in trainable(self._model).items():
            average = self._average[name]
            if self._on_host:
                average *= np.float32(kept)
                average += value.numpy() * np.float32(new)
            else:
                average.scale_(kept)
                average.add_(value * new)

    def _shares(self) -> tuple[float, float]:
        if not self.unbiased:
            return self.decay, 1.0 - self.decay
        self.count = self.count * self.decay + 1.0
        return 1.0 - 1.0 / self.count, 1.0 / self.count

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model carries the averaged weights; the trained ones come back bit for bit."""
        trained = {name: value.detach().clone() for name, value in trainable(self._model).items()}
        self._give(self._average)
        try:
            yield
        finally:
            self._give(trained)

    def arrays(self) -> dict[str, np.ndarray]:
        """A whole state of the model (averages, and the current value of what has none) by structured name."""
        state = {name: value.numpy() for name, value in tensors(self._model).items()}
        return state | {name: np.array(value) for name, value in self._average.items()}

    def restore(self, arrays: Mapping[str, Any], count: float = 0.0) -> None:
        """Takes up the average where :meth:`arrays` and :attr:`count` left it."""
        self.count = count
        for name, value in self._average.items():
            if self._on_host:
                value[...] = arrays[name]
            else:
                value.set_value(arrays[name])

    def _present(self) -> dict[str, Any]:
        weights = trainable(self._model)
        if self._on_host:
            return {name: value.numpy().copy() for name, value in weights.items()}
        return {name: value.detach().clone() for name, value in weights.items()}

    def _give(self, values: Mapping[str, Any]) -> None:
        for name, value in trainable(self._model).items():
            value.set_value(values[name])
