"""The training loop of the Demucs family: what happens between two epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import paddle

from models.tensors import tensors
from runtime import checkpoint
from training.demucs_test import test_scores
from training.quantise import SUFFIX
from training.recipes.demucs import DemucsRecipe
from training.schedule import learning_rate
from training.state import Arrays, model_arrays
from training.tracks import mean_scores
from training.trainer import Trainer

MAIN = "main"  # the name of the weights that are trained, beside the averages'


@dataclass
class DemucsTrainer(Trainer):
    """At the end of an epoch the weights and all their averages are judged on whole songs, and the best ones count.

    Attributes:
        recipe: of the experiment
        validation: songs, each with ``mixture [C, N]`` and ``stems [S, C, N]``
        tests: songs in their own level, or None
        experiment: the experiment's configuration
    """

    recipe: DemucsRecipe
    tests: Any = None
    experiment: Any = field(kw_only=True)

    def _recorded(self, losses: dict[str, float], norm: float) -> dict[str, float]:
        return losses | {"grad": norm}

    @property
    def _how_to_go_on(self) -> str:
        return f"continue_from={self.folder.name} begins another experiment with its weights"

    def _look_back(self) -> None:
        """After an epoch: validation, a checkpoint, the test if it is due, and the same checkpoint with its scores."""
        if self._validation_due():
            self._validate()
        if self.stopping is None and self._test_due():
            self.save()
            self._test()
        if self.stopping is None and self.state.position == 0 and self.state.step:
            self.save()

    def save(self) -> None:
        """Also keeps a checkpoint for good every ``save_every`` epochs."""
        state, cfg = self.state, self.experiment
        is_new = self.saved_step != state.step
        super().save()
        kept = cfg.save_every and state.position == 0 and state.epoch % cfg.save_every == 0
        if is_new and kept and 0 < state.epoch < cfg.epochs:
            self._write("epochs", state.groups, keep=None)

    # -------------------------------------------------------------------------------------------------- validation

    @property
    def _metric(self) -> tuple[str, float]:
        """Which score decides, and the sign that makes low good."""
        name = self.experiment.test.metric
        return name, -1.0 if name.startswith("nsdr") else 1.0

    def _validate(self) -> None:
        state, (metric, sign) = self.state, self._metric
        self._share_statistics()
        valid = {}
        for name in (MAIN, *state.averages):
            with self._weights(name):
                scores = self._measured()
            if scores is None:
                return  # asked to stop: the resumed run begins with it
            valid[name] = scores
        best = min(valid, key=lambda name: sign * valid[name][metric])  # of equal ones the first
        record: dict[str, Any] = {**valid, **valid[best], "bname": best}
        if self.recipe.svd.penalty:
            exact = self.recipe.svd.exact(state.model) if self.group.is_main else None
            record["penalty"] = self.group.broadcast_object(exact)
        score = sign * record[metric]
        scores = [score, *(sign * line["valid"][metric] for line in state.history)]
        record["best"] = sign * min(scores)
        rate = learning_rate(self.cfg.train, state.step)
        better = state.record(record, rate, score, always=bool(self.experiment.dset.train_valid))
        self.journal.record(state, better)
        self.saved_step = None  # the state has a line more than at the last checkpoint of this step
        if better:
            with self._weights(best):
                self._write("best", partial(published_groups, state.model))

    def _measured(self) -> dict[str, float] | None:
        model, recipe = self.state.model, self.recipe

        def measure(song: Any) -> Mapping[str, float]:
            return recipe.measure(model, song.mixture, song.stems)

        return mean_scores(self.validation, recipe.scores, measure, model, self.group, self._asked_to_stop)

    @contextmanager
    def _weights(self, name: str) -> Iterator[None]:
        """Within the block the network has these weights, with the bits that they would be published with."""
        average: AbstractContextManager = nullcontext() if name == MAIN else self.state.averages[name].applied()
        with average, self.recipe.judged():
            yield

    # -------------------------------------------------------------------------------------------------------- test

    def _test_due(self) -> bool:
        """Every ``test.every`` epochs and at the end, once the epoch is in the history and has no test there."""
        state, cfg = self.state, self.experiment
        if self.tests is None or not state.history or state.position or state.validated_step != state.step:
            return False
        due = state.epoch % cfg.test.every == 0 or state.epoch >= cfg.epochs
        return due and "test" not in state.history[-1]

    def _test(self) -> None:
        cfg, state = self.experiment, self.state
        has_best = cfg.test.best and checkpoint.best(self.folder)  # none if no score was a finite number so far
        with self._best_weights() if has_best else self._weights(MAIN):
            scores = test_scores(
                self.tests,
                self.recipe,
                state.model,
                self.group,
                self._asked_to_stop,
                folder=self.folder / "wav" if cfg.test.save else None,
                bss=bool(cfg.test.sdr) and state.epoch >= cfg.epochs,
            )
        if scores is None:
            return  # asked to stop: the resumed run begins with it
        state.history[-1]["test"] = scores
        self.journal.tested(state)
        self.saved_step = None

    @contextmanager
    def _best_weights(self) -> Iterator[None]:
        """Within the block the network has the best weights so far, which are on the disk."""
        groups, _ = checkpoint.load(checkpoint.best(self.folder), ["model"])
        state = tensors(self.state.model)
        kept = {name: state[name].detach().clone() for name in groups["model"]}
        for name, array in groups["model"].items():
            state[name].set_value(array)
        try:
            yield
        finally:
            for name, value in kept.items():
                state[name].set_value(value)


def published_groups(model: paddle.nn.Layer) -> dict[str, Arrays]:
    """The arrays of a network as a program needs them that only separates, and apart from them DiffQ's bits."""
    arrays = model_arrays(model)
    groups = {"model": {name: array for name, array in arrays.items() if not name.endswith(SUFFIX)}}
    bits = {name: array for name, array in arrays.items() if name.endswith(SUFFIX)}
    return groups | ({"quantiser": bits} if bits else {})
