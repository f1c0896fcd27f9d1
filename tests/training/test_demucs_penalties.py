"""The SVD penalty and weights of few bits, against numbers of Demucs 4.1.0 and DiffQ 0.2.4 under PyTorch 2."""

import numpy as np
import paddle
import pytest
from paddle import nn

from models.demucs_layers import Conv1d, ConvTranspose1d
from models.recurrent import LSTM
from runtime.errors import UserError
from training.quantise import DiffQ, Uniform, create
from training.svd import SVDPenalty

SHAPES = {"conv.weight": (64, 32, 8), "tr.weight": (48, 64, 8), "lin.weight": (96, 64), "lin.bias": (96,)}
LSTM_SHAPES = {
    "weight_ih_l0": (128, 32),
    "weight_hh_l0": (128, 32),
    "bias_ih_l0": (128,),
    "bias_hh_l0": (128,),
}


class Network(nn.Layer):
    """One layer of each kind whose weights count, with the values that the numbers below were computed with."""

    def __init__(self):
        super().__init__()
        self.conv = Conv1d(32, 64, 8, bias=False)
        self.tr = ConvTranspose1d(48, 64, 8, bias=False)
        self.lin = nn.Linear(64, 96)
        self.lstm = LSTM(32, 32, time_major=True)
        self.lstm._sub_layers.clear()
        random = np.random.default_rng(0)
        values = {name: self._values(random, shape) for name, shape in SHAPES.items()}
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            values[f"lstm.{name}"] = self._values(random, LSTM_SHAPES[name])
        for name in ("conv.weight", "tr.weight", "lin.weight"):
            values[name] = decaying(values[name])
        values["lin.weight"] = values["lin.weight"].T.copy()
        for name, parameter in self.named_parameters():
            parameter.set_value(values[name])

    @staticmethod
    def _values(random, shape):
        return (random.standard_normal(shape) * 0.1).astype(np.float32)


def decaying(values):
    """The same directions with singular values 3, 3·e^(-1/8) …"""
    left, singular, right = np.linalg.svd(values.reshape(len(values), -1), full_matrices=False)
    singular = np.exp(-np.arange(len(singular)) / 8.0) * 3
    return ((left * singular) @ right).reshape(values.shape).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    return Network()


@pytest.mark.parametrize(
    ("convtr", "conv_only", "min_size", "expected"),
    [
        (False, False, 0.01, 32.267841),
        (False, True, 0.01, 17.999989),
        (True, False, 0.01, 25.895210),
        (True, True, 0.01, 11.627357),
        (True, False, 0.05, 11.627357),
        (True, False, 1.0, 0.0),
    ],
)
def test_the_exact_penalty(network, convtr, conv_only, min_size, expected):
    penalty = SVDPenalty(min_size=min_size, convtr=convtr, conv_only=conv_only)
    assert penalty.exact(network) == pytest.approx(expected, rel=2e-6)
    assert SVDPenalty(min_size=min_size, proba=0.5, convtr=convtr, conv_only=conv_only).exact(network) == pytest.approx(
        2 * expected, rel=2e-6
    )


def test_the_estimate_and_its_gradient(network):
    penalty = SVDPenalty(min_size=0.01, dim=50, niters=4)
    network.clear_gradients()
    paddle.seed(0)
    estimate = penalty.estimate(network)
    estimate.backward()
    assert float(estimate) == pytest.approx(25.895208, rel=2e-6)
    gradient, transposed = network.conv.weight.grad.numpy(), network.tr.weight.grad.numpy()
    assert np.linalg.norm(gradient) == pytest.approx(6.0000057, rel=1e-5)
    assert gradient.ravel()[:3] == pytest.approx([-0.00511303, 0.04202094, -0.09872405], abs=2e-6)
    assert np.linalg.norm(transposed) == pytest.approx(3.2418272, rel=1e-5)
    assert transposed.ravel()[:3] == pytest.approx([-0.00137348, -0.00828287, 0.01043145], abs=2e-6)
    network.clear_gradients()


def test_a_rough_estimate_is_below_the_truth_and_as_good_as_the_original(network):
    estimates = []
    for seed in range(20):
        paddle.seed(seed)
        estimates.append(float(SVDPenalty(min_size=0.01, dim=1, niters=2).estimate(network)))
    assert max(estimates) < 25.8953
    assert np.mean(estimates) == pytest.approx(21.987, abs=1.0)  # 1.3 is the deviation of one of them


def test_the_power_method(network):
    paddle.seed(1)
    estimate = SVDPenalty(min_size=0.01, powm=True, niters=60, bs=4).estimate(network)
    assert float(estimate) == pytest.approx(25.8952, rel=1e-2)


def test_weights_of_zeros_have_an_estimate():
    layer = nn.Linear(8, 8, bias_attr=False)
    layer.weight.set_value(np.zeros((8, 8), np.float32))
    estimate = SVDPenalty(min_size=0.0, dim=4).estimate(layer)
    estimate.backward()
    assert float(estimate) == 0 and np.isfinite(layer.weight.grad.numpy()).all()


def test_all_processes_skip_the_same_steps():
    penalty = SVDPenalty(penalty=1.0, proba=0.3)
    places = [(epoch, position) for epoch in range(20) for position in range(50)]
    due = [penalty.is_due(42, *place) for place in places]
    assert due == [penalty.is_due(42, *place) for place in places]
    assert np.mean(due) == pytest.approx(0.3, abs=0.05)
    assert all(SVDPenalty(penalty=1.0).is_due(42, *place) for place in places)
    assert not any(SVDPenalty().is_due(42, *place) for place in places)


# ------------------------------------------------------------------------------------------------------------- few bits


@pytest.fixture
def diffq():
    quantiser, random = DiffQ(Network(), 0.02, 8), np.random.default_rng(5)
    for weight in quantiser.weights:
        weight.logits.set_value(random.standard_normal(weight.logits.shape).astype(np.float32) * 0.5)
    return quantiser


def test_diffq_sizes(diffq):
    assert [weight.name for weight in diffq.weights] == ["conv.weight", "tr.weight", "lin.weight"]
    size = diffq.size()
    size.backward()
    assert float(size) == pytest.approx(0.08335952, rel=1e-6)
    assert diffq.true_size() == pytest.approx(0.08335495, rel=1e-6)
    sums = [float(weight.logits.grad.sum()) for weight in diffq.weights]
    assert sums == pytest.approx([0.00600624, 0.00896322, 0.00224939], rel=1e-5)


def test_diffq_begins_with_eight_bits():
    quantiser = DiffQ(Network(), 0.02, 8)
    for weight in quantiser.weights:
        assert quantiser.bits(weight).numpy() == pytest.approx(8.0, abs=1e-5)
        assert weight.logits.name in {p.name for p in quantiser.model.parameters()}


def test_diffq_rounds_as_the_original(diffq):
    model = diffq.model
    before = {name: value.numpy() for name, value in model.named_parameters()}
    with diffq.rounded():
        sums = {
            "conv.weight": (-1.6995810, [0.10235159, 0.04890494, -0.03660969]),
            "tr.weight": (12.5129552, [0.02423358, -0.04557112, 0.06534556]),
            "lin.weight": (-6.0244936, [0.13870513, -0.00582919, -0.03430885]),
        }
        for name, value in model.named_parameters():
            if name in sums:
                array = value.numpy().T if name == "lin.weight" else value.numpy()  # groups lie along PyTorch's rows
                assert array.sum(dtype=np.float64) == pytest.approx(sums[name][0], abs=2e-4)
                assert array.ravel()[5:8] == pytest.approx(sums[name][1], abs=2e-7)
    for name, value in model.named_parameters():
        assert value.numpy().tobytes() == before[name].tobytes()


def test_noise_is_as_large_as_half_a_step_and_passes_gradients(diffq):
    model, weight = diffq.model, diffq.weights[2]
    parameter, true = model.lin.weight, model.lin.weight.numpy()
    steps = 1 / (np.exp2(diffq.bits(weight).numpy()) - 1)
    expected = (true.max() - true.min()) * steps / 2
    paddle.seed(0)
    noise = []
    for _ in range(200):
        with diffq.disturbed():
            noise.append((model.lin.weight.numpy() - true).T.reshape(-1, 8))
    ratio = np.sqrt(np.mean(np.square(noise), axis=(0, 2))) / expected
    assert ratio.mean() == pytest.approx(1.0, abs=0.005) and ratio.std() < 0.03
    with diffq.disturbed():
        loss = model.lin(paddle.ones([2, 64])).sum()
    assert model.lin.weight is parameter
    loss.backward()
    wrong = np.abs(parameter.grad.numpy() - 2.0) > 1e-5
    assert 0 < wrong.sum() <= 2  # the largest and the smallest weight, whose distance is the noise's size
    assert np.abs(weight.logits.grad.numpy()).max() > 0


def test_noise_reaches_recurrent_layers():
    model = Network()
    quantiser = DiffQ(model, 0.01, 8)
    x = paddle.ones([3, 1, 32])
    still = model.lstm(x)[0].numpy()
    with quantiser.disturbed():
        moved = model.lstm(x)[0]
    moved.sum().backward()
    assert np.abs(moved.numpy() - still).max() > 1e-5
    assert np.array_equal(model.lstm(x)[0].numpy(), still)
    assert model.lstm.weight_hh_l0.grad is not None
    assert float(model.lstm.weight_hh_l0_diffq.grad.abs().sum()) > 0


def test_a_fixed_number_of_bits():
    model = Network()
    quantiser = create({"diffq": None, "qat": 6, "min_size": 0.02, "group_size": 8}, model)
    assert isinstance(quantiser, Uniform)
    assert quantiser.true_size() == float(quantiser.size()) == pytest.approx(0.06630707, rel=1e-6)
    with quantiser.rounded():
        rounded = model.conv.weight.numpy()
    assert rounded.sum(dtype=np.float64) == pytest.approx(-1.6659502, abs=1e-4)
    assert rounded.ravel()[5:8] == pytest.approx([0.10122044, 0.05094101, -0.0352523], abs=2e-7)
    with quantiser.disturbed():
        assert model.conv.weight.numpy() == pytest.approx(rounded, abs=1e-7)
        (model.conv(paddle.ones([1, 32, 8])) * 3.0).sum().backward()
    assert model.conv.weight.grad.numpy() == pytest.approx(3.0)  # as if nothing were rounded


def test_what_cannot_be_quantised():
    with pytest.raises(UserError, match=r"quant\.group_size=7"):
        DiffQ(Network(), 0.02, 7)
    with pytest.raises(UserError, match=r"quant\.qat=16"):
        Uniform(Network(), 0.02, 16)
    assert create({"diffq": None, "qat": None, "min_size": 0.2, "group_size": 8}, Network()) is None
