"""Layers of many bands or sequences, and the LSTM of both directions, against Paddle's operators."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from models import onednn, onednn_groups, onednn_recurrent
from models.recurrent import GRU, LSTM, states


@pytest.fixture(autouse=True)
def cpu():
    paddle.set_device("cpu")
    if not onednn.usable(paddle.ones([1])):
        pytest.skip("this build of Paddle has no oneDNN 3 library")


def compute(function, arrays, frozen=()):
    inputs = [paddle.to_tensor(a, stop_gradient=k in frozen) for k, a in enumerate(arrays)]
    y = function(*inputs)
    y.backward(paddle.to_tensor(np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)))
    return [y.numpy(), *(x.grad.numpy() for x in inputs if not x.stop_gradient)]


def agree(mine, theirs, shapes, frozen=()):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    for found, expected in zip(compute(mine, arrays, frozen), compute(theirs, arrays, frozen), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("frozen", [(), (0,), (2, 5)])
@pytest.mark.parametrize("rows", [1, 7])
def test_a_linear_layer_for_each_band(rows, frozen):
    def mine(x, *parameters):
        return onednn_groups.linears(x, parameters[:3], parameters[3:])

    def theirs(x, *parameters):
        return paddle.matmul(x, paddle.stack(parameters[:3])) + paddle.stack(parameters[3:]).unsqueeze(1)

    agree(mine, theirs, [(3, rows, 5), *[(5, 4)] * 3, *[(4,)] * 3], frozen)


@pytest.mark.parametrize("shape", [(1,), (3, 4, 5)])
def test_tanh(shape):
    agree(onednn_groups.tanh, F.tanh, [shape])


@pytest.mark.parametrize("frozen", [(), (0,), (1,)])
@pytest.mark.parametrize("shape", [(9, 3, 4), (300, 1, 2), (6, 5, 1)])
def test_normalisation_over_steps(shape, frozen):
    def mine(x, weight, bias):
        return onednn_groups.normalise_steps(x, weight, bias, 1e-5)

    def theirs(x, weight, bias):
        x = x - x.mean(0, keepdim=True)
        return x * paddle.rsqrt(x.square().mean(0, keepdim=True) + 1e-5) * weight + bias

    agree(mine, theirs, [shape, shape[2:], shape[2:]], frozen)


def test_steps_that_do_not_differ_stay_finite():
    x = paddle.full([5, 2, 3], 7.0)
    x.stop_gradient = False
    y = onednn_groups.normalise_steps(x, paddle.ones([3]), paddle.zeros([3]), 1e-5)
    y.sum().backward()
    assert float(y.abs().max()) == 0 and bool(paddle.isfinite(x.grad).all())


@pytest.mark.parametrize("frozen", [(), (0,), (1,)])
def test_a_sum_that_exchanges_axes(frozen):
    agree(onednn_groups.add_and_turn, lambda a, b: (a + b).transpose([2, 1, 0, 3]), [(2, 3, 4, 5)] * 2, frozen)


def test_inputs_that_are_not_contiguous():
    x = paddle.rand([4, 3, 2, 5])
    turned = x.transpose([2, 1, 0, 3])
    np.testing.assert_array_equal(onednn_groups.add_and_turn(turned, turned).numpy(), (x + x).numpy())


# ----------------------------------------------------------------------------------------------------- recurrent layers


def recurrent(layer, x, mine):
    layer.clear_gradients()
    x = paddle.to_tensor(x, stop_gradient=False)
    y = states(layer, x) if mine else layer(x)[0]
    y.backward(paddle.to_tensor(np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)))
    return [y.numpy(), x.grad.numpy(), *(parameter.grad.numpy() for parameter in layer.parameters())]


@pytest.mark.parametrize(("steps", "batch", "inputs", "hidden"), [(7, 5, 6, 10), (1, 1, 3, 1), (20, 33, 16, 32)])
@pytest.mark.parametrize(("kind", "direction"), [(LSTM, "bidirect"), (LSTM, "forward"), (GRU, "bidirect")])
def test_states_are_those_of_paddles_layers(kind, direction, steps, batch, inputs, hidden):
    layer = kind(inputs, hidden, direction=direction, time_major=True)
    x = np.random.default_rng(0).standard_normal([steps, batch, inputs]).astype(np.float32)
    for found, expected in zip(recurrent(layer, x, True), recurrent(layer, x, False), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=3e-6 * np.abs(expected).max())
    with paddle.no_grad():
        found, expected = (states(layer, paddle.to_tensor(x)), layer(paddle.to_tensor(x))[0])
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-6)


def test_notes_that_were_not_kept_are_made_again(monkeypatch):
    layer = LSTM(6, 10, direction="bidirect", time_major=True)
    x = np.random.default_rng(0).standard_normal([7, 5, 6]).astype(np.float32)
    kept = recurrent(layer, x, True)
    monkeypatch.setattr(onednn_recurrent, "_KEPT", 0)
    for found, expected in zip(recurrent(layer, x, True), kept, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert onednn_recurrent._Notes.kept == 0


def test_notes_take_the_memory_of_earlier_ones_but_not_of_each_other():
    layer = LSTM(6, 10, direction="bidirect", time_major=True)
    first, second = (np.random.default_rng(k).standard_normal([7, 5, 6]).astype(np.float32) for k in range(2))
    expected = [recurrent(layer, x, True)[1] for x in (first, second)]
    inputs = [paddle.to_tensor(x, stop_gradient=False) for x in (first, second)]
    slopes = paddle.to_tensor(np.random.default_rng(1).standard_normal([7, 5, 20]).astype(np.float32))
    for y in [states(layer, x) for x in inputs]:
        y.backward(slopes)
    for x, gradient in zip(inputs, expected, strict=True):
        np.testing.assert_array_equal(x.grad.numpy(), gradient)


def test_weights_that_do_not_learn():
    layer = LSTM(3, 4, direction="bidirect", time_major=True)
    layer.weight_ih_l0.stop_gradient = True
    states(layer, paddle.rand([5, 2, 3])).sum().backward()
    assert layer.weight_ih_l0.grad is None and layer.weight_ih_l0_reverse.grad is not None
