"""Moving average of the weights: what is validated and saved when ``train.ema`` is on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle

from training.gradients import trainable


class EMA:
    """``average ← decay · average + (1 − decay) · weight`` after every update, for each parameter that learns.

    Batch-norm statistics are averages already: the current ones count.

    Args:
        model: the network; the average starts at its weights
        decay: per step, in (0, 1)
    """

    def __init__(self, model: paddle.nn.Layer, decay: float):
        self.decay = decay
        self._model = model
        self._average = _copies(model)

    @paddle.no_grad()
    def update(self) -> None:
        """Takes the model's present weights into the average."""
        for name, value in trainable(self._model).items():
            average = self._average[name]
            average.scale_(self.decay)
            average.add_(value * (1.0 - self.decay))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model carries the averaged weights; the trained ones come back bit for bit."""
        trained = _copies(self._model)
        self._give(self._average)
        try:
            yield
        finally:
            self._give(trained)

    def arrays(self) -> dict[str, np.ndarray]:
        """A whole state of the model (averages, and the current value of what has none) by structured name."""
        state = {name: value.numpy() for name, value in self._model.state_dict().items()}
        return state | {name: value.numpy() for name, value in self._average.items()}

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Takes up the average where :meth:`arrays` left it."""
        for name, value in self._average.items():
            value.set_value(arrays[name])

    def _give(self, values: Mapping[str, paddle.Tensor]) -> None:
        for name, value in trainable(self._model).items():
            value.set_value(values[name])


def _copies(model: paddle.nn.Layer) -> dict[str, paddle.Tensor]:
    return {name: value.detach().clone() for name, value in trainable(model).items()}
