"""Adversarial steps of Apollo's training beside the same in PyTorch. `make test-originals` installs it."""

import numpy as np
import pytest

import models
from benchmarks.apollo import adversaries
from models.apollo_config import ApolloConfig
from pretrained import reference_state
from runtime import config
from runtime.device import Device

torch = pytest.importorskip("torch", reason="needs PyTorch: make test-originals")

STEPS = 3
# limits that act, and so high an epsilon that an update says how large the gradient is, not only its sign
OVERRIDES = (
    *("train.clip=0.1", "train.epsilon=0.01", "train.lr=0.05", "train.weight_decay=0.1", "model.layer=2"),
    *("train.discriminator.clip=0.1", "train.discriminator.epsilon=0.01", "train.discriminator.lr=0.05"),
)


@pytest.fixture(scope="module")
def runs():
    """Of both programs: the losses of every step, and the tensors of both networks before and after it."""
    from benchmarks.torch_apollo import TorchAdversaries, TorchApollo, TorchDiscriminator
    from training.recipes.apollo import ApolloRecipe

    cfg = config.load("apollo/tiny", OVERRIDES)
    random = np.random.default_rng(0)
    batch = {name: 0.1 * random.standard_normal((2, 2, 4000)).astype(np.float32) for name in ("codec", "original")}
    recipe = ApolloRecipe(cfg)
    model, judge = recipe.build_model(), recipe.opponent().model
    begin = [reference_state(network) for network in (model, judge)]

    trainer, losses = adversaries(cfg, model, begin[1], batch, Device("cpu", 0, "test"))
    ours = [({}, begin)]
    for _ in range(STEPS):
        trainer.update()
        ours.append((dict(losses), [reference_state(network) for network in (model, trainer.opponent.model)]))

    options = ApolloConfig(**models.describe("apollo", **cfg.model).config)
    twins = (
        TorchApollo(vars(options), options.widths(), begin[0]),
        TorchDiscriminator(2, cfg.discriminator.window, begin[1]),
    )
    pupils, theirs = TorchAdversaries(cfg.train, *twins), []
    for _ in range(STEPS):
        values = pupils.step(*(torch.from_numpy(each) for each in batch.values()))
        states = [{name: value.numpy().copy() for name, value in twin.state_dict().items()} for twin in twins]
        theirs.append((values, states))
    return ours, [({}, begin), *theirs]


def test_losses_of_every_step_are_pytorchs(runs):
    ours, theirs = runs
    for (mine, _), (others, _) in zip(ours[1:], theirs[1:], strict=True):
        assert mine.keys() == others.keys() == {"loss", "freq_mae", "adversarial", "features", "discriminator"}
        assert mine == pytest.approx(others, rel=2e-5)
    assert abs(ours[1][0]["loss"] - ours[3][0]["loss"]) > 0.01


@pytest.mark.parametrize("steps", [1, STEPS])
@pytest.mark.parametrize("which", [0, 1], ids=["generator", "discriminator"])
def test_both_networks_learn_what_they_do_in_pytorch(runs, which, steps):
    ours, theirs = ([run[step][1][which] for step in (0, steps)] for run in runs)
    assert ours[1].keys() == theirs[1].keys()
    moved = {name: ours[1][name] - ours[0][name] for name in ours[0]}
    largest = max(np.abs(each).max() for each in moved.values())
    assert largest > 1e-3
    for name, each in moved.items():
        assert np.abs(each - (theirs[1][name] - theirs[0][name])).max() < 3e-4 * largest, name
