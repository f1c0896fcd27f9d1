"""Adam with a limit of the gradient in NumPy's double precision, to see that a run of the program takes its steps."""

from collections.abc import Callable, Iterable

import numpy as np
import paddle

from training.gradients import trainable

Arrays = dict[str, np.ndarray]


def adam_by_hand(
    model: paddle.nn.Layer,
    loss: Callable[[], paddle.Tensor],
    rates: Iterable[float],
    clip: float,
    epsilon: float = 1e-8,
    decay: float = 0.0,
) -> tuple[Arrays, Arrays]:
    """One step for each learning rate, with the gradients of ``loss()``; ``clip`` must be low enough to act.

    Returns:
        The trained weights, which the model has, too, and their moving average with ``decay``.
    """
    weights = {name: value.numpy().astype(np.float64) for name, value in trainable(model).items()}
    first = {name: np.zeros_like(value) for name, value in weights.items()}
    second, average = {name: value.copy() for name, value in first.items()}, dict(weights)
    for step, rate in enumerate(rates, 1):
        loss().backward()
        slopes = {name: value.grad.numpy().astype(np.float64) for name, value in trainable(model).items()}
        norm = sum((slope**2).sum() for slope in slopes.values()) ** 0.5
        assert norm > clip
        for name, slope in slopes.items():
            slope = slope * clip / norm
            first[name] = 0.9 * first[name] + 0.1 * slope
            second[name] = 0.999 * second[name] + 0.001 * slope**2
            root = np.sqrt(second[name] / (1 - 0.999**step)) + epsilon
            weights[name] = weights[name] - rate * first[name] / (1 - 0.9**step) / root
            average[name] = decay * average[name] + (1 - decay) * weights[name]
        for name, value in trainable(model).items():
            value.clear_grad()
            value.set_value(weights[name].astype(np.float32))
    return weights, average
