"""The network: sizes, initialisation, independence of the instruments, training modes, export."""

import numpy as np
import paddle
import pytest

import models
from models.spleeter import Spleeter
from models.spleeter_config import SpleeterConfig

SMALL = {
    "filters": [4, 6, 8, 10, 12, 16],
    "frame_length": 512,
    "frame_step": 128,
    "frequency_bins": 128,
    "segment_frames": 64,
}


@pytest.fixture
def magnitude():
    return paddle.to_tensor(np.abs(np.random.default_rng(0).standard_normal((2, 2, 64, 128))).astype(np.float32))


def _statistics(model):
    return {name: value.numpy() for name, value in model.state_dict().items() if name.endswith(("_mean", "_variance"))}


@pytest.mark.parametrize(
    ("name", "trainable", "total"),
    [
        ("spleeter_2stems", 19647498, 19653518),
        ("spleeter_4stems", 39294996, 39307036),
        ("spleeter_5stems", 49118745, 49133795),
    ],
)
def test_parameter_counts(name, trainable, total):
    model = models.create(name)
    assert sum(parameter.size for parameter in model.parameters()) == trainable
    assert sum(tensor.size for tensor in model.state_dict().values()) == total


def test_shapes(magnitude):
    model = models.create("spleeter_5stems", **SMALL)
    assert model(magnitude).shape == [2, 5, 2, 64, 128]
    assert model(magnitude[:1, :, :, :64]).shape == [1, 5, 2, 64, 64]


def test_softmax_shares_the_mixture_and_sigmoid_stays_below_it(magnitude):
    shared = models.create("spleeter_5stems", **SMALL)(magnitude)
    np.testing.assert_allclose(shared.sum(1), magnitude, rtol=1e-5, atol=1e-6)
    masked = models.create("spleeter_2stems", **SMALL)(magnitude)
    assert bool((masked <= magnitude.unsqueeze(1)).all()) and bool((masked >= 0).all())


def test_instruments_are_independent(magnitude):
    model = models.create("spleeter_2stems", **SMALL)
    before = model(magnitude)
    model.nets["accompaniment"].mask.bias.set_value(paddle.ones([2]))
    after = model(magnitude)
    np.testing.assert_array_equal(before[:, 0], after[:, 0])
    assert not np.array_equal(before[:, 1], after[:, 1])


def test_a_segment_does_not_depend_on_its_batch(magnitude):
    model = models.create("spleeter_2stems", **SMALL)
    np.testing.assert_allclose(model(magnitude)[1], model(magnitude[1:])[0], atol=1e-6)


def test_initial_weights_follow_from_the_seed_alone():
    paddle.seed(1)
    first = models.create("spleeter_2stems", **SMALL)
    drawn = paddle.rand([3]).numpy()
    paddle.seed(1)
    np.testing.assert_array_equal(paddle.rand([3]), drawn)  # nothing was taken from the global generator
    second, other = (models.create("spleeter_2stems", **SMALL, seed=seed) for seed in (50, 51))
    state, same, different = (model.state_dict() for model in (first, second, other))
    assert all(np.array_equal(state[name], same[name]) for name in state)
    kernel = "nets.vocals.conv1.weight"
    assert not np.array_equal(state[kernel], different[kernel])
    assert not np.array_equal(state[kernel], state["nets.accompaniment.conv1.weight"])


def test_training_keeps_fixed_statistics_and_equals_evaluation(magnitude):
    model = models.create("spleeter_2stems", **SMALL)
    before = _statistics(model)
    model.train()
    trained = model(magnitude)
    trained.mean().backward()
    model.eval()
    np.testing.assert_array_equal(trained, model(magnitude))
    assert all(np.array_equal(before[name], value) for name, value in _statistics(model).items())


def test_only_the_dead_normalisation_gets_no_gradient(magnitude):
    model = models.create("spleeter_2stems", **SMALL)
    model(magnitude).mean().backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert idle == [f"nets.{name}.norm6.{kind}" for name in ("vocals", "accompaniment") for kind in ("weight", "bias")]
    assert [id(p) for p in model.unused_parameters()] == [id(p) for n, p in model.named_parameters() if n in idle]


def test_ordinary_batch_norm_and_dropout_act_in_training_only(magnitude):
    model = models.create("spleeter_2stems", **SMALL, batch_norm="batch", dropout=0.5)
    before = _statistics(model)
    model.train()
    assert not np.array_equal(model(magnitude), model(magnitude))
    changed = {name for name, value in _statistics(model).items() if not np.array_equal(before[name], value)}
    assert changed == {name for name in before if ".norm6." not in name}
    model.eval()
    np.testing.assert_array_equal(model(magnitude), model(magnitude))


def test_the_class_takes_instruments_of_ones_own(magnitude):
    model = Spleeter(SpleeterConfig(("drums", "rest"), conv_activation="ELU", **SMALL))
    assert model.description.sources == ("drums", "rest") and model(magnitude).shape == [2, 2, 2, 64, 128]


@pytest.mark.parametrize("name", ["spleeter_2stems", "spleeter_5stems"])  # LeakyReLU, sigmoid; ELU, softmax
def test_exported_program_equals_eager_for_any_batch_and_length(tmp_path, magnitude, name):
    model = models.create(name, **SMALL)
    model.eval()
    spec = [paddle.static.InputSpec([None, 2, None, 128], "float32", "magnitude")]
    paddle.jit.save(model, str(tmp_path / "net"), input_spec=spec)
    loaded = paddle.jit.load(str(tmp_path / "net"))
    for x in (magnitude, magnitude[:1], paddle.concat([magnitude, magnitude], axis=2)):
        np.testing.assert_allclose(loaded(x), model(x), atol=1e-5)
