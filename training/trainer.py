"""The training loop. `Trainer.update` is the step; everything else looks after it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from runtime import checkpoint
from runtime.device import Device
from runtime.distributed import Group
from runtime.errors import UserError
from runtime.files import remove_folder, write_json
from runtime.launch import requeue_status
from training import gradients
from training.interrupts import StopRequests
from training.journal import Journal
from training.recipes import Recipe
from training.schedule import learning_rate
from training.state import DISCRIMINATOR, Arrays, State
from training.stream import Stream
from training.validation import Validation

_LONGER = "a higher train.early_stop.patience (null: no limit) goes on with it"


@dataclass
class Trainer:
    """Trains a network by its recipe until the configured end, or until it is asked to stop.

    Attributes:
        cfg: the configuration
        recipe: what a batch means: its loss and its validation
        state: network, optimiser and counters, fresh or restored
        stream: training batches from ``state``'s position on
        validation: the validation segments; None if there are none
        group: the processes
        journal: console, history and curves
        requests: signals that come during the loop
        folder: the run's folder
        identity: what every checkpoint says about the run besides its state
        listen: makes waveforms ``[C, N]`` by name with the present weights, to be heard beside the curves
        stopping: the exit status once all processes have agreed to stop
    """

    cfg: Any
    recipe: Recipe
    state: State
    stream: Stream
    validation: Validation | None
    group: Group
    journal: Journal
    requests: StopRequests
    folder: Path
    identity: dict[str, Any]
    listen: Callable[[], Mapping[str, np.ndarray]] = dict
    stopping: int | None = None

    @staticmethod
    def begin(cfg: Any, recipe: Recipe, model: paddle.nn.Layer, device: Device, source: Path | None = None) -> State:
        """Step 0 of training ``model``, whose weights come from ``source``, or from scratch."""
        return State.begin(cfg, model, recipe.optimizer(model), device)

    def __post_init__(self) -> None:
        self.network = self.group.wrap_model(self.state.model)
        self.optimizer = self.group.wrap_optimizer(self.state.optimizer)
        self.saved_step = self.state.step or None  # a restored state is on the disk

    # ------------------------------------------------------------------------------------------------ the step

    def update(self) -> None:
        """One step: the mean loss over ``accumulate`` batches of every process, one update of the weights."""
        state, train, epoch = self.state, self.cfg.train, self.state.epoch
        began = time.perf_counter()
        batches = [self.stream.next() for _ in range(train.accumulate)]
        waited = time.perf_counter() - began

        paddle.seed(step_seed(train.seed, state.step, self.group.rank))  # dropout
        rate = self._set_rate(epoch)
        results, norm = self._gradients(batches)

        losses, finite = self._agree(results, norm)
        if finite:
            self._apply()
        else:
            self._skip(batches, results)
        if state.scaler:
            state.scaler.update()
        self.optimizer.clear_grad()
        if state.epoch > epoch:
            state.average("epoch")
        state.finish_step(self._recorded(losses, norm) if finite else None, time.perf_counter() - began)
        self.journal.step(state, losses, rate, norm, (waited, time.perf_counter() - began))

    def _set_rate(self, epoch: int) -> float:
        """Gives the optimiser the learning rate of this step, which belongs to ``epoch``."""
        self.optimizer.set_lr(rate := learning_rate(self.cfg.train, self.state.step, epoch))
        return rate

    def _gradients(self, batches: list[dict[str, Any]]) -> tuple[list[dict[str, float]], float]:
        """Leaves the limited gradient of the mean loss with the weights: each batch's losses, and the norm before."""
        train, results = self.cfg.train, []
        for number, batch in enumerate(batches, 1):
            with self._sync(number == len(batches)):
                with self._autocast():
                    loss, terms = self.recipe.loss(self.network, batch)
                # a product, because a card has no kernel for the quotient of a tensor and a number
                self._scaled(loss * (1.0 / train.accumulate)).backward()
            results.append({"loss": float(loss), **{name: float(term) for name, term in terms.items()}})
        if self.state.scaler:
            self.state.scaler.unscale_(self.optimizer)
        return results, gradients.clip(self.state.model.parameters(), train.clip)

    def _sync(self, last: bool) -> AbstractContextManager:
        """Gradients are exchanged once a step, with the last batch."""
        return nullcontext() if last else self.group.no_sync(self.network)

    def _autocast(self) -> AbstractContextManager:
        return paddle.amp.auto_cast(dtype="float16", level="O1") if self.state.scaler else nullcontext()

    def _scaled(self, loss: paddle.Tensor) -> paddle.Tensor:
        return self.state.scaler.scale(loss) if self.state.scaler else loss

    def _apply(self) -> None:
        if self.state.scaler:
            self.state.scaler.step(self.optimizer)
        else:
            self.optimizer.step()
        self.state.average("step")

    def _recorded(self, losses: dict[str, float], norm: float) -> dict[str, float]:
        """What of a step enters the history; ``norm`` is that of the gradient."""
        return losses

    def _agree(self, results: list[dict[str, float]], norm: float) -> tuple[dict[str, float], bool]:
        """One exchange a step: the losses of the global batch, whether all are finite, and whether to stop."""
        sums = {name: sum(result[name] for result in results) for name in results[0]}
        finite = all(map(math.isfinite, sums.values()))
        if not self.state.scaler:  # a loss scale deals with infinite gradients by itself
            finite = finite and math.isfinite(norm)
        votes = [not finite, self.requests.requeue, self.requests.interrupt]
        bad, requeue, interrupt, *totals = self.group.all_reduce_sum(np.array([*votes, *sums.values()], np.float64))
        if requeue or interrupt:
            self.stopping = requeue_status() if requeue else 130
        share = 1.0 / (len(results) * self.group.size)
        return {name: float(total) * share for name, total in zip(sums, totals, strict=True)}, not bad

    def _skip(self, batches: list[dict[str, Any]], results: list[dict[str, float]]) -> None:
        """Says what was not finite and where; gives up after ``max_bad_steps`` in a row."""
        state, limit = self.state, self.cfg.train.max_bad_steps
        found = [text for text in self.group.gather_objects(culprits(batches, results)) if text]
        what = "; ".join(found) or "the gradient is not finite although the loss is"
        state.bad_steps += 1
        self.journal.warn(f"step {state.step + 1}: {what}. Update skipped ({state.bad_steps} of {limit} in a row)")
        if state.bad_steps >= limit:
            raise UserError(
                f"stopped after {limit} updates in a row without a finite loss ({what}): check these songs with "
                "preprocess.py, or lower train.lr, or set train.clip"
            )

    # ------------------------------------------------------------------------------------------------ the loop

    def fit(self) -> int:
        """Trains to the end, or to the next step after a signal.

        Returns:
            Exit status: 0 at the end, ``requeue_status()`` after SIGTERM or SIGUSR1, 130 after Ctrl-C.

        Raises:
            UserError: too many losses in a row are not finite, or processes disagree.
        """
        state, train, first = self.state, self.cfg.train, self.state.step
        with self.requests.deferred(), closing(self.stream), closing(self.journal):
            self.journal.begin(state)
            if self._finished():
                self.journal.say(f"this run has come to its end before: {self._how_to_go_on}")
            while True:
                self._look_back()  # also after a resume, when a signal came in the middle of it
                if self.stopping is not None or self._finished():
                    break
                if state.step % train.save_every == 0 and state.step:
                    self.save()
                self.update()
                if state.step % train.check_every == 0:
                    self._compare_processes()
            self.save()
            if self.stopping is None and first < state.step and (why := self._unpromising()):
                self.journal.say(f"stopped early: {why}; {_LONGER}")
            if self.stopping is None and self.validation and first < state.step != state.validated_step:
                self.journal.unrecorded(self._measure())
            self.journal.end(state)
        return self.stopping or 0

    @property
    def _how_to_go_on(self) -> str:
        """What a finished run needs to be trained further."""
        why = self._unpromising()
        return f"{why}; {_LONGER}" if why else "--steps or --epochs makes it longer"

    def _finished(self) -> bool:
        train, state = self.cfg.train, self.state
        enough_steps = train.steps is not None and state.step >= train.steps
        enough_epochs = train.epochs is not None and state.epoch >= train.epochs
        return enough_steps or enough_epochs or bool(self._unpromising())

    def _unpromising(self) -> str:
        """Why nothing more is to be expected of this run: the validations in its history; empty if that is not so."""
        rule = self.cfg.train.early_stop
        if rule.patience is None:
            return ""
        losses = [line["valid"]["loss"] for line in self.state.history]
        if losses and not math.isfinite(losses[-1]):
            return "the validation loss is not finite"
        if validations_without_gain(losses, rule.min_delta) < rule.patience:
            return ""
        return f"in {rule.patience} validations the loss has not fallen by more than {rule.min_delta:g}"

    def _look_back(self) -> None:
        """What is due between two steps: the validation."""
        if self._validation_due():
            self._validate()

    def _validation_due(self) -> bool:
        state, every = self.state, self.cfg.train.valid_every
        if self.validation is None:
            return False
        if every:
            return state.step > state.validated_step and state.step % every == 0
        return state.epoch > state.validated_epoch

    def _validate(self) -> None:
        """Measures on the validation segments, records it, and keeps the weights if they are the best so far."""
        scores = self._measure()
        if scores is None:
            return  # asked to stop: the resumed run begins with it
        state = self.state
        better = state.record(scores, learning_rate(self.cfg.train, state.step, state.epoch))
        self.journal.record(state, better)
        if better:
            self._write("best", self._best_groups)
        if count := self.cfg.train.get("keep_best"):
            self._keep_among_best(count)

    def _keep_among_best(self, count: int) -> None:
        """Keeps the weights just judged if they are among the ``count`` best so far, and no others than those."""
        ranks = best_steps(self.state.history, count)
        if self.state.step in ranks:
            self._write("top", self._best_groups, keep=None)
        if self.group.is_main:
            for path in checkpoint.steps(self.folder / "top"):
                if path.name not in {f"step-{step:08d}" for step in ranks}:
                    remove_folder(path)
            write_json(self.folder / "best_k_models.json", {f"top/step-{s:08d}": loss for s, loss in ranks.items()})

    def _measure(self) -> dict[str, float] | None:
        """Validation scores, the same on every process; None if it was asked to stop meanwhile."""
        state = self.state
        self._share_statistics()
        averages = list(state.averages.values())
        with averages[0].applied() if averages else nullcontext():
            scores = self.validation.run(state.model, self._asked_to_stop)
            if scores is not None and self.group.is_main:
                self.journal.audio(state, self.listen, self.recipe.sample_rate)
        self.group.meet()
        return scores

    def _asked_to_stop(self) -> bool:
        votes = np.array([self.requests.requeue, self.requests.interrupt], np.float64)
        requeue, interrupt = self.group.all_reduce_sum(votes)
        if requeue or interrupt:
            self.stopping = requeue_status() if requeue else 130
        return self.stopping is not None

    def _share_statistics(self) -> None:
        """Batch-norm statistics differ between processes; those of the first, which are saved, are the ones to use."""
        if self.group.size > 1:
            state, learnt = self.state.model.state_dict(), gradients.trainable(self.state.model)
            statistics = {name: value.numpy() for name, value in state.items() if name not in learnt}
            for name, value in self.group.broadcast_object(statistics, 0).items():
                state[name].set_value(value)

    def _compare_processes(self) -> None:
        state = self.state
        for name, value in (
            ("epoch", state.epoch),
            ("position in the epoch", state.position),
            ("step", state.step),
            ("checksum of the weights", gradients.checksum(gradients.trainable(state.model).values())),
        ):
            self.group.assert_same(name, value)

    # ------------------------------------------------------------------------------------------------ checkpoints

    def save(self) -> None:
        """Writes the whole state, unless this step is there already."""
        if self.saved_step != self.state.step:
            self._write("checkpoints", self.state.groups, self.cfg.train.keep)
            self.saved_step = self.state.step

    def _best_groups(self) -> dict[str, Arrays]:
        """The arrays of the weights that were judged, the averaged ones' origin, and what they were trained against."""
        groups = self.state.groups()
        return {name: groups[name] for name in (*self.state.averages, "model", DISCRIMINATOR) if name in groups}

    def _write(self, kind: str, groups: Callable[[], dict[str, Arrays]], keep: int | None = 1) -> None:
        """Saves ``groups()`` below ``kind`` and removes all but the last ``keep`` there; None keeps all."""
        if self.group.is_main:
            path = checkpoint.save(self.folder / kind, groups(), self.identity | self.state.numbers())
            if keep:
                checkpoint.rotate(path.parent, keep)
            self.journal.saved(path)
        self.group.barrier()


def validations_without_gain(losses: Sequence[float], min_delta: float) -> int:
    """How many validations there were since the one whose loss was lower than the best before by over ``min_delta``."""
    best, count = math.inf, 0
    for loss in losses:
        count = 0 if loss + min_delta < best else count + 1
        best = loss if count == 0 else best
    return count


def best_steps(history: Sequence[Mapping[str, Any]], count: int) -> dict[int, float]:
    """The ``count`` steps of the lowest validation losses, lowest first, and these; of equal ones the earlier."""
    losses = {line["step"]: line["valid"]["loss"] for line in history if math.isfinite(line["valid"]["loss"])}
    return dict(sorted(losses.items(), key=lambda one: one[1])[:count])


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of the random numbers of one step in one process: they need no place in a checkpoint."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint32)[0])


def culprits(batches: list[dict[str, Any]], results: list[dict[str, float]]) -> str:
    """Which terms of the loss are not finite, and in which songs; empty if all are finite."""
    found = []
    for batch, result in zip(batches, results, strict=True):
        terms = [name for name, value in result.items() if not math.isfinite(value)]
        terms = [name for name in terms if name != "loss"] or terms
        if terms:
            found.append(f"the loss of {', '.join(terms)} is not finite in {', '.join(batch['songs'])}")
    return "; ".join(found)
