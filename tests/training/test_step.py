"""One update: accumulation, clipping, losses that are not finite, random numbers."""

import math

import numpy as np
import paddle
import pytest

from runtime.errors import UserError
from tests.training.runs import outcome, train
from training import gradients, recipes
from training.recipes.spleeter import SpleeterRecipe, magnitude_loss
from training.trainer import step_seed


def largest_difference(one, other) -> float:
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def test_two_batches_of_one_accumulated_are_one_batch_of_two(configure):
    together = configure("train.steps=4", "train.batch_size=2", folder="together")
    added = configure("train.steps=4", "train.batch_size=1", "train.accumulate=2", folder="added")
    assert train(together) == train(added) == 0
    (one, numbers), (other, others) = outcome(together), outcome(added)
    assert largest_difference(one["model"], other["model"]) <= 1e-6
    assert numbers["totals"]["loss"] == pytest.approx(others["totals"]["loss"], rel=1e-6)
    assert (numbers["position"], others["position"]) == (4, 8)


def test_clipping_scales_all_gradients_alike():
    parameters = [paddle.create_parameter([n], "float32") for n in (2, 3)]
    (parameters[0] * 3.0).sum().backward()
    (parameters[1] * 4.0).sum().backward()
    norm = math.sqrt(2 * 9 + 3 * 16)
    assert gradients.clip(parameters, 0.0) == pytest.approx(norm)
    assert gradients.clip(parameters, 100.0) == pytest.approx(norm)
    assert parameters[0].grad.numpy() == pytest.approx([3.0, 3.0])
    assert gradients.clip(parameters, 1.0) == pytest.approx(norm)
    assert parameters[0].grad.numpy() == pytest.approx(np.full(2, 3 / norm), rel=1e-5)
    assert parameters[1].grad.numpy() == pytest.approx(np.full(3, 4 / norm), rel=1e-5)


def test_the_checksum_sees_one_bit():
    one = paddle.to_tensor(np.ones(5, np.float32))
    other = paddle.to_tensor(
        np.nextafter(np.ones(5, np.float32), 2, dtype=np.float32) * [1, 0, 0, 0, 0] + [0, 1, 1, 1, 1]
    )
    assert gradients.checksum([one]) == gradients.checksum([one.clone()])
    assert gradients.checksum([one]) != gradients.checksum([other.astype("float32")])


class Poisoned(SpleeterRecipe):
    """The loss of the vocals is not a number in some of the batches."""

    bad = ()
    seen = 0

    def loss(self, model, batch):
        loss, terms = super().loss(model, batch)
        self.seen += 1
        if self.seen in self.bad:
            terms["vocals"] = terms["vocals"] * float("nan")
            loss = terms["vocals"] + terms["accompaniment"]
        return loss, terms


def test_a_loss_that_is_not_finite_skips_the_update_and_names_term_and_songs(configure, monkeypatch, capsys):
    cfg = configure("train.steps=3", "train.max_bad_steps=2", "train.batch_size=1")
    before = configure("train.steps=2", "train.batch_size=1", folder="before")
    train(before)
    monkeypatch.setattr(recipes, "create", Poisoned)
    monkeypatch.setattr(Poisoned, "bad", (3,))
    assert train(cfg) == 0
    complaint = capsys.readouterr().err
    assert "step 3: the loss of vocals is not finite in Synthetic 00" in complaint and "skipped (1 of 2" in complaint
    (skipped, numbers), (good, _) = outcome(cfg), outcome(before)
    assert largest_difference(skipped["model"], good["model"]) == 0
    assert largest_difference(skipped["optimizer"], good["optimizer"]) == 0
    assert numbers["bad_steps"] == 1 and numbers["step"] == 3 and numbers["counted"] == 2
    assert math.isfinite(numbers["totals"]["loss"])


def test_too_many_bad_losses_in_a_row_end_the_run(configure, monkeypatch):
    cfg = configure("train.steps=9", "train.max_bad_steps=2")
    monkeypatch.setattr(recipes, "create", Poisoned)
    monkeypatch.setattr(Poisoned, "bad", (2, 4, 5))
    with pytest.raises(UserError, match=r"2 updates in a row.*vocals.*Synthetic"):
        train(cfg)


class Scaler:
    """A loss scale of a power of two, which changes no bit of the result; cards have one, the CPU has none."""

    def __init__(self):
        self.factor, self.updates, self.unscaled = 2.0**10, 0, False

    def scale(self, loss):
        return loss * self.factor

    def unscale_(self, optimizer):
        assert not self.unscaled, "twice for one update"
        self.unscaled = True
        with paddle.no_grad():
            for parameter in optimizer._parameter_list:
                if parameter.grad is not None:
                    parameter.grad.scale_(1 / self.factor)

    def step(self, optimizer):
        optimizer.step()

    def update(self):
        self.unscaled, self.updates = False, self.updates + 1
        self.factor *= 2

    def state_dict(self):
        return {"scale": np.array([self.factor], np.float32), "updates": self.updates}

    def load_state_dict(self, state):
        assert state["scale"].shape == (1,)
        self.factor, self.updates = float(state["scale"][0]), state["updates"]


@pytest.mark.filterwarnings("ignore:amp_guard")
def test_a_loss_scale_is_applied_taken_back_and_saved(configure, monkeypatch):
    monkeypatch.setattr(paddle.amp, "GradScaler", Scaler)
    plain = configure("train.steps=4", "train.clip=0.5")
    scaled = configure("train.steps=4", "train.clip=0.5", "train.amp=true")
    train(plain)
    monkeypatch.setattr(recipes, "create", Poisoned)
    for steps, bad in ((2, ()), (4, ()), (5, (1,))):
        scaled.train.steps = steps
        monkeypatch.setattr(Poisoned, "bad", bad)
        assert train(scaled, device="gpu") == 0
        if steps == 4:
            assert largest_difference(outcome(scaled)[0]["model"], outcome(plain)[0]["model"]) == 0
    numbers = outcome(scaled)[1]
    assert numbers["scaler"] == {"scale": 2.0**15, "updates": 5} and numbers["bad_steps"] == 1


def test_mixed_precision_on_the_cpu_says_that_there_is_none(configure, capsys):
    train(configure("train.steps=1", "train.amp=true"))
    assert "-amp has no effect on the CPU" in capsys.readouterr().err


def test_random_numbers_of_a_step_are_its_own():
    seeds = {step_seed(seed, step, rank) for seed in (0, 1) for step in range(50) for rank in range(4)}
    assert len(seeds) == 400
    assert step_seed(1, 2, 3) == step_seed(1, 2, 3)


def test_the_loss_is_the_sum_of_the_instruments_mean_differences():
    rng = np.random.default_rng(0)
    outputs, targets = (rng.random((3, 2, 2, 4, 5)).astype(np.float32) for _ in range(2))
    loss, terms = magnitude_loss(paddle.to_tensor(outputs), paddle.to_tensor(targets), names=("a", "b"))
    expected = np.abs(outputs - targets).mean(axis=(0, 2, 3, 4))
    assert [float(terms["a"]), float(terms["b"])] == pytest.approx(expected, rel=1e-6)
    assert float(loss) == pytest.approx(expected.sum(), rel=1e-6)
    weighted, _ = magnitude_loss(paddle.to_tensor(outputs), paddle.to_tensor(targets), "weighted_L1_mask")
    level = targets.mean(axis=(2, 3, 4), keepdims=True)
    assert float(weighted) == pytest.approx((level * np.abs(outputs - targets)).mean(axis=(0, 2, 3, 4)).sum(), rel=1e-6)
    with pytest.raises(UserError, match="L1_mask"):
        magnitude_loss(paddle.to_tensor(outputs), paddle.to_tensor(targets), "L3")
