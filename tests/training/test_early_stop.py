"""A run ends when its validation loss has stopped falling; stopped and resumed on the way, it ends at the same step."""

import math

import numpy as np
import pytest

from runtime import config
from tests.training.runs import assert_equal, outcome, train
from training import recipes
from training.recipes.spleeter import SpleeterRecipe
from training.trainer import validations_without_gain

RULE = (
    "train.steps=30",
    "train.valid_every=2",
    "train.early_stop.patience=3",
    "train.early_stop.min_delta=0.01",
    "train.batch_size=4",
)


@pytest.mark.parametrize(
    ("losses", "count"),
    [
        ([], 0),
        ([3.0], 0),
        ([3.0, 2.0, 1.0], 0),
        ([3.0, 2.995, 2.991], 2),  # each is lower than the one before, none by enough
        ([3.0, 2.995, 2.98], 0),
        ([3.0, 4.0, 2.0, 2.0, 5.0], 2),
        ([3.0, math.nan, 3.0], 2),
    ],
)
def test_validations_since_the_last_gain(losses, count):
    assert validations_without_gain(losses, 0.01) == count


class Foretold(SpleeterRecipe):
    """Its validation losses are written here, one for each step after which there is a validation."""

    losses = (5.0, 4.0, 4.5, 3.995, 3.993, 1.0)

    def validate(self, model, batch):
        scores = super().validate(model, batch)
        self.done = getattr(self, "done", -1) + 1
        return {name: np.full_like(values, self.losses[self.done]) for name, values in scores.items()}


class Resumed(Foretold):
    """The rest of them, for a run that goes on after the third."""

    losses = Foretold.losses[3:]


def test_a_run_ends_when_it_gains_nothing_more(configure, monkeypatch, capsys):
    cfg = configure(*RULE)
    monkeypatch.setattr(recipes, "create", Foretold)
    assert train(cfg) == 0
    said = capsys.readouterr().out
    assert "stopped early: in 3 validations the loss has not fallen by more than 0.01" in said
    groups, numbers = outcome(cfg)
    assert (numbers["step"], numbers["best"], numbers["best_step"]) == (10, 3.993, 10)
    assert train(cfg) == 0
    assert "come to its end before: in 3 validations" in capsys.readouterr().out
    parts = [configure(*RULE[1:], f"train.steps={steps}", folder="parts") for steps in (7, 30)]
    assert train(parts[0]) == 0 and outcome(parts[0])[1]["step"] == 7
    monkeypatch.setattr(recipes, "create", Resumed)
    assert train(parts[1]) == 0
    assert_equal(outcome(parts[1]), (groups, numbers))
    patient = configure(*RULE, "train.early_stop.patience=null", "train.steps=12")
    assert config.run_folder(patient, "") == config.run_folder(cfg, "")
    assert train(patient) == 0 and outcome(patient)[1]["step"] == 12


def test_a_loss_that_is_not_finite_ends_it_at_once(configure, monkeypatch, capsys):
    cfg = configure(*RULE)
    monkeypatch.setattr(recipes, "create", Foretold)
    monkeypatch.setattr(Foretold, "losses", (5.0, math.nan))
    assert train(cfg) == 0
    assert outcome(cfg)[1]["step"] == 4
    assert "stopped early: the validation loss is not finite" in capsys.readouterr().out


def test_what_was_said_is_in_the_folder_of_the_run(configure, capsys):
    cfg = configure("train.steps=2", "train.amp=true")
    train(cfg)
    said = capsys.readouterr()
    log = (config.run_folder(cfg, cfg.model_dir) / "train.log").read_text()
    assert "finished at step 2" in said.out and sorted(log.splitlines()) == sorted((said.out + said.err).splitlines())
    cfg.train.steps = 3
    train(cfg)
    grown = (config.run_folder(cfg, cfg.model_dir) / "train.log").read_text()
    assert grown.startswith(log) and "resumed from" in grown
