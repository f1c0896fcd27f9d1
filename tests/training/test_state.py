"""What is saved and comes back: optimiser state, averages, learning rate, history."""

import numpy as np
import paddle
import pytest
from omegaconf import OmegaConf

import models
from runtime.errors import UserError
from training.ema import EMA
from training.gradients import trainable
from training.schedule import learning_rate
from training.state import State, load_optimizer, optimizer_arrays


def network(width: int = 3) -> paddle.nn.Layer:
    layers = [paddle.nn.Linear(4, width), paddle.nn.BatchNorm1D(width), paddle.nn.Linear(width, 2)]
    return paddle.nn.Sequential(*layers)


def adam(model: paddle.nn.Layer) -> paddle.optimizer.Adam:
    return paddle.optimizer.Adam(1e-2, parameters=model.parameters())


def step(model, optimizer, number: int) -> None:
    x = paddle.to_tensor(np.random.default_rng(number).standard_normal((8, 4)).astype(np.float32))
    (model(x) ** 2).mean().backward()
    optimizer.step()
    optimizer.clear_grad()


def test_optimiser_state_moves_to_layers_with_other_automatic_names():
    model = network()
    optimizer = adam(model)
    for number in range(3):
        step(model, optimizer, number)
    arrays = optimizer_arrays(optimizer, model)
    assert {name.rpartition(":")[0] for name in arrays} == set(trainable(model))
    assert {name.rpartition(":")[2] for name in arrays} == {
        f"{accumulator}_0" for accumulator in ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc")
    }

    other = network()  # its parameters are called linear_2.w_0 and so on
    assert {p.name for p in other.parameters()}.isdisjoint(p.name for p in model.parameters())
    other.set_state_dict(model.state_dict())
    other_optimizer = adam(other)
    load_optimizer(other_optimizer, other, arrays)
    for number in range(3, 6):
        step(model, optimizer, number)
        step(other, other_optimizer, number)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert one.numpy().tobytes() == two.numpy().tobytes()


def test_state_of_another_network_is_refused():
    shape = {"segment_frames": 64, "frequency_bins": 64}
    model = models.create("spleeter_2stems", filters=[1, 1, 1, 1, 1, 1], **shape)
    wider = models.create("spleeter_2stems", filters=[2, 1, 1, 1, 1, 1], **shape)
    state = State(model, adam(model), step=1)
    with pytest.raises(UserError, match=r"conv1\.weight"):
        State(wider, adam(wider)).restore(state.groups(), state.numbers())
    with pytest.raises(UserError, match=r"other\.weight"):
        load_optimizer(adam(wider), wider, {"other.weight:moment1_0": np.zeros(3, np.float32)})


def test_average_of_the_weights():
    model = network()
    optimizer = adam(model)
    average = EMA(model, 0.75)
    expected = {name: value.numpy().astype(np.float64) for name, value in trainable(model).items()}
    for number in range(4):
        step(model, optimizer, number)
        average.update()
        for name, value in trainable(model).items():
            expected[name] = 0.75 * expected[name] + 0.25 * value.numpy()
    trained = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, value in expected.items():
        assert average.arrays()[name] == pytest.approx(value, abs=1e-6)
    assert np.array_equal(average.arrays()["1._mean"], trained["1._mean"])
    with average.applied():
        for name, value in trainable(model).items():
            assert value.numpy() == pytest.approx(expected[name], abs=1e-6)
    for name, value in model.state_dict().items():
        assert value.numpy().tobytes() == trained[name].tobytes()
    restored = EMA(network(), 0.75)
    restored.restore(average.arrays())
    for name in expected:
        assert np.array_equal(restored.arrays()[name], average.arrays()[name])


def rate(step: int, epoch: int = 0, **schedule) -> float:
    defaults = {"kind": "constant", "warmup": 0, "steps": 100, "floor": 0.0, "every": 10, "factor": 0.5}
    return learning_rate(OmegaConf.create({"lr": 2.0, "schedule": defaults | schedule}), step, epoch)


def test_learning_rates():
    assert rate(0) == rate(10**6) == 2.0
    assert [rate(step, warmup=4) for step in (0, 1, 3, 4, 9)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    assert rate(50, kind="cosine") == pytest.approx(1.0)
    assert rate(100, kind="cosine", floor=0.1) == rate(500, kind="cosine", floor=0.1) == pytest.approx(0.2)
    assert [rate(step, kind="step") for step in (9, 10, 25)] == [2.0, 1.0, 0.5]
    warm = {"kind": "epoch", "warmup_epochs": 3, "alpha": 0.1, "factor": 0.5, "every": 2}
    rates = [rate(7, epoch, **warm) for epoch in range(8)]
    assert rates == pytest.approx([2e-3, 2e-2, 0.2, 2.0, 2.0, 1.0, 1.0, 0.5])
    with pytest.raises(UserError, match="constant, cosine, step or epoch"):
        rate(1, kind="linear")


def test_a_record_holds_means_and_finds_the_best():
    state = State(None, None)
    for loss in (1.0, 3.0, None):
        state.finish_step({"loss": loss, "vocals": loss / 2} if loss else None, 0.5)
    assert (state.step, state.counted) == (3, 2)
    assert state.record({"loss": 0.5}, 1e-3)
    assert state.history[0]["train"] == {"loss": 2.0, "vocals": 1.0}
    state.finish_step({"loss": 4.0, "vocals": 2.0}, 0.5)
    assert not state.record({"loss": float("nan")}, 1e-3)
    assert not state.record({"loss": 0.6}, 1e-3)
    assert (state.best, state.best_step, state.validated_step) == (0.5, 3, 4)
    assert state.history[1]["train"]["loss"] == 4.0 and state.history[2]["train"] == {}


def test_a_state_that_lacks_a_number_is_refused():
    model = network()
    state = State(model, adam(model))
    numbers = state.numbers()
    del numbers["position"]
    with pytest.raises(UserError, match="has no position"):
        state.restore(state.groups(), numbers)
