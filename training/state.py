"""All that the training loop touches, in one place, so that all of it is saved.

Random numbers need no place here: those of a step follow from (seed, step, rank), those of the data from (seed, epoch,
index).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle

from models.tensors import tensors
from pretrained.loading import load_state
from runtime.device import Device, is_host
from runtime.errors import UserError
from training.ema import EMA

Arrays = dict[str, np.ndarray]
DISCRIMINATOR = "discriminator"  # group of arrays of a network's opponent, in a checkpoint
NUMBERS = (
    *("step", "epoch", "position", "bad_steps", "validated_step", "validated_epoch", "best", "best_step"),
    *("totals", "counted", "history", "seconds"),
)


@dataclass
class Opponent:
    """A second network, which the first one is trained against, and its optimiser.

    ``origin`` is a phrase that says where its weights come from.
    """

    model: paddle.nn.Layer
    optimizer: paddle.optimizer.Optimizer
    origin: str = "from scratch"


@dataclass
class State:
    """Network, optimiser and averages (arrays), and where the run is (numbers).

    Attributes:
        model: the bare network (not its data-parallel wrapper)
        optimizer: its optimiser
        averages: moving averages of the weights by the name of their group in a checkpoint
        scaler: loss scale of mixed precision, or None
        opponent: what the network is trained against, or None
        step: updates so far, skipped ones included
        epoch, position: the pass over the data, and the batches (of all processes together) already taken from it
        bad_steps: updates skipped in a row
        validated_step, validated_epoch: when it was last validated
        best, best_step: lowest validation score so far and its step
        totals, counted: sums of the loss terms since the last record, and how many updates they hold
        history: one record a validation
        seconds: time spent training, over all sessions of the run
    """

    model: paddle.nn.Layer
    optimizer: paddle.optimizer.Optimizer
    averages: dict[str, EMA] = field(default_factory=dict)
    scaler: paddle.amp.GradScaler | None = None
    opponent: Opponent | None = None
    step: int = 0
    epoch: int = 0
    position: int = 0
    bad_steps: int = 0
    validated_step: int = 0
    validated_epoch: int = 0
    best: float | None = None
    best_step: int | None = None
    totals: dict[str, float] = field(default_factory=dict)
    counted: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def begin(cls, cfg: Any, model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer, device: Device) -> State:
        """Step 0 of what ``cfg.train`` asks for; there is no loss scale on the CPU, which has no mixed precision."""
        averages = {"ema": EMA(model, cfg.train.ema)} if cfg.train.ema else {}
        scaler = paddle.amp.GradScaler() if cfg.train.amp and not is_host(device.name) else None
        return cls(model, optimizer, averages, scaler)

    def groups(self) -> dict[str, Arrays]:
        """Every array by group and stable name: what a checkpoint holds."""
        groups = {"model": model_arrays(self.model), "optimizer": optimizer_arrays(self.optimizer, self.model)}
        if self.opponent:
            groups[DISCRIMINATOR] = model_arrays(self.opponent.model)
            groups[f"{DISCRIMINATOR}_optimizer"] = optimizer_arrays(self.opponent.optimizer, self.opponent.model)
        return groups | {name: average.arrays() for name, average in self.averages.items()}

    def numbers(self) -> dict[str, Any]:
        """Everything else, ready for JSON."""
        numbers = {name: getattr(self, name) for name in NUMBERS}
        if self.scaler:
            numbers["scaler"] = {k: _plain(v) for k, v in self.scaler.state_dict().items()}
        if counts := {name: average.count for name, average in self.averages.items() if average.unbiased}:
            numbers["averages"] = counts
        return numbers

    def restore(self, groups: Mapping[str, Arrays], numbers: Mapping[str, Any]) -> None:
        """Takes up the run where :meth:`groups` and :meth:`numbers` left it, bit for bit.

        Raises:
            UserError: the arrays are those of another network or optimiser, or a number is missing
        """
        if missing := [name for name in NUMBERS if name not in numbers]:
            raise UserError(f"the state of the checkpoint has no {', '.join(missing)}: use another checkpoint")
        load_state(self.model, groups["model"], source="the arrays of the checkpoint")
        load_optimizer(self.optimizer, self.model, groups["optimizer"])
        if self.opponent:
            load_state(self.opponent.model, groups[DISCRIMINATOR], source="the arrays of the checkpoint")
            load_optimizer(self.opponent.optimizer, self.opponent.model, groups[f"{DISCRIMINATOR}_optimizer"])
        for name, average in self.averages.items():
            average.restore(groups[name], numbers.get("averages", {}).get(name, 0.0))
        if self.scaler and "scaler" in numbers:
            self.scaler.load_state_dict(_scaler_state(numbers["scaler"]))
        for name in NUMBERS:
            setattr(self, name, numbers[name])

    def average(self, every: str) -> None:
        """Takes the present weights into the averages of this kind, after a ``step`` or an ``epoch``."""
        for average in self.averages.values():
            if average.every == every:
                average.update()

    def finish_step(self, losses: Mapping[str, float] | None, seconds: float) -> None:
        """Counts a step; ``losses`` is None if its update was skipped."""
        self.step += 1
        self.seconds += seconds
        if losses is not None:
            self.bad_steps = 0
            self.counted += 1
            for name, value in losses.items():
                self.totals[name] = self.totals.get(name, 0.0) + value

    def record(self, valid: Mapping[str, Any], lr: float, score: float | None = None, always: bool = False) -> bool:
        """Adds a line to the history: mean training losses since the last one, and the validation scores.

        Args:
            valid: the scores
            lr: learning rate
            score: what decides which weights are the best; low is good. Without it the loss decides
            always: the newest weights are the best whatever the score

        Returns:
            Whether these are the best weights so far.
        """
        score = valid["loss"] if score is None else score
        train = {name: total / self.counted for name, total in self.totals.items()}
        self.history.append(
            {"step": self.step, "epoch": self.epoch, "lr": lr, "train": train, "valid": dict(valid)}
            | {"seconds": round(self.seconds, 1)}
        )
        self.totals, self.counted = {}, 0
        self.validated_step, self.validated_epoch = self.step, self.epoch
        better = always or (math.isfinite(score) and (self.best is None or score < self.best))
        if better:
            self.best, self.best_step = score, self.step
        return better


def model_arrays(model: paddle.nn.Layer) -> Arrays:
    """Parameters and buffers of a network by structured name."""
    return {name: value.numpy() for name, value in tensors(model).items()}


def optimizer_arrays(optimizer: paddle.optimizer.Optimizer, model: paddle.nn.Layer) -> Arrays:
    """Moments, beta powers and master weights under ``<structured parameter name>:<accumulator>``.

    Paddle keys them by names such as ``conv2d_7.w_0``, which count the layers built so far in a process.
    """
    state = dict(optimizer.state_dict())
    state.pop("LR_Scheduler", None)  # training.schedule computes the rate from the step
    masters = state.pop("master_weights", {})
    names = {parameter.name: name for name, parameter in model.named_parameters()}
    arrays = {}
    for key, value in state.items():
        parameter = max((name for name in names if key.startswith(f"{name}_")), key=len, default=None)
        if parameter is None:
            raise ValueError(f"optimiser state {key} belongs to no parameter of the network")
        arrays[f"{names[parameter]}:{key[len(parameter) + 1 :]}"] = value.numpy()
    return arrays | {f"{names[key]}:master_weight": value.numpy() for key, value in masters.items()}


def load_optimizer(
    optimizer: paddle.optimizer.Optimizer, model: paddle.nn.Layer, arrays: Mapping[str, np.ndarray]
) -> None:
    """Counterpart of :func:`optimizer_arrays`.

    Raises:
        UserError: state of a parameter that the network does not have
    """
    names = {name: parameter.name for name, parameter in model.named_parameters()}
    state: dict[str, Any] = {}
    masters = {}
    for key, value in arrays.items():
        parameter, _, accumulator = key.rpartition(":")
        if parameter not in names:
            raise UserError(f"the checkpoint's optimiser state is of another network: it has {parameter}")
        if accumulator == "master_weight":
            masters[names[parameter]] = paddle.to_tensor(value)
        else:
            state[f"{names[parameter]}_{accumulator}"] = paddle.to_tensor(value)
    if masters:
        state["master_weights"] = masters
    optimizer.set_state_dict(state)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray | np.generic | paddle.Tensor) else value


def _scaler_state(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {**numbers, "scale": np.array([numbers["scale"]], dtype=np.float32)}
