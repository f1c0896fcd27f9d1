"""Equality of the building blocks with their definitions."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from models.layers import BatchNorm, GroupNorm, SameConv2D, SameConv2DTranspose, activation, he_uniform_, same_padding


@pytest.fixture
def tensor():
    generator = np.random.default_rng(0)
    return lambda *shape: paddle.to_tensor(generator.standard_normal(shape).astype(np.float32))


def _fill(layer, tensor):
    for parameter in layer.parameters():
        parameter.set_value(tensor(*parameter.shape))
    return layer


def _gradients(layer, y):
    layer.clear_gradients()
    (y * paddle.arange(y.size, dtype="float32").reshape(y.shape).sin()).sum().backward()
    return [parameter.grad.numpy() for parameter in layer.parameters()]


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "expected"),
    [(5, 2, 1, (1, 2)), (4, 1, 2, (3, 3)), (3, 1, 1, (1, 1)), (1, 2, 1, (0, 0))],
)
def test_same_padding(kernel, stride, dilation, expected):
    assert same_padding(kernel, stride, dilation) == expected


@pytest.mark.parametrize(("stride", "kernel", "dilation", "pad"), [(2, 5, 1, [1, 2, 1, 2]), (1, 4, 2, [3, 3, 3, 3])])
def test_same_convolution_is_padding_and_a_valid_convolution(tensor, stride, kernel, dilation, pad):
    layer, x = _fill(SameConv2D(3, 4, kernel, stride, dilation), tensor), tensor(2, 3, 8, 12)
    y = layer(x)
    plain = F.conv2d(F.pad(x, pad), layer.weight, layer.bias, stride, 0, dilation)
    assert y.shape == [2, 4, 8 // stride, 12 // stride]
    np.testing.assert_allclose(y, plain, atol=2e-5)
    for mine, theirs in zip(_gradients(layer, y), _gradients(layer, plain), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-4)


def test_same_transposed_convolution_is_the_full_one_cropped(tensor):
    layer, x = _fill(SameConv2DTranspose(3, 4, 5, 2), tensor), tensor(2, 3, 4, 6)
    y = layer(x)
    plain = F.conv2d_transpose(x, layer.weight, layer.bias, 2)[:, :, 1:-2, 1:-2]
    assert y.shape == [2, 4, 8, 12]
    np.testing.assert_allclose(y, plain, atol=2e-5)
    for mine, theirs in zip(_gradients(layer, y), _gradients(layer, plain), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-4)


@pytest.mark.parametrize(
    ("inputs", "kernel", "stride", "shape"),
    [(3, 5, 2, (4, 6)), (1, 1, 1, (3, 2)), (2, 3, 1, (1, 5)), (2, 2, 2, (5, 1)), (4, 4, 2, (3, 3)), (2, 3, 3, (2, 4)),
     (2, 7, 3, (4, 4)), (3, 8, 4, (2, 3)), (2, 9, 2, (6, 5)), (32, 5, 2, (16, 8))],
)  # fmt: skip
def test_an_exported_transposed_convolution_to_one_channel_equals_the_operator(tensor, inputs, kernel, stride, shape):
    layer, x = _fill(SameConv2DTranspose(inputs, 1, kernel, stride), tensor), tensor(2, inputs, *shape)
    program = paddle.jit.to_static(layer.forward, full_graph=True)
    y = program(x)
    first, (height, width) = same_padding(kernel, stride)[0], (stride * size for size in shape)
    full = F.conv2d_transpose(x, layer.weight, layer.bias, stride)
    assert y.shape == [2, 1, height, width]
    np.testing.assert_allclose(y, full[:, :, first : first + height, first : first + width], atol=2e-5)
    np.testing.assert_allclose(y, layer(x), atol=2e-5)


def test_transposed_convolution_is_the_adjoint_of_the_convolution(tensor):
    down, up = SameConv2D(3, 4, 5, 2), SameConv2DTranspose(4, 3, 5, 2)
    down.weight.set_value(tensor(4, 3, 5, 5))
    up.weight.set_value(down.weight)
    x, y = tensor(1, 3, 8, 8), tensor(1, 4, 4, 4)
    np.testing.assert_allclose((down(x) * y).sum(), (up(y) * x).sum(), rtol=1e-4)


def test_fixed_statistics_never_change_but_scale_and_shift_learn(tensor):
    norm, x = BatchNorm(3, fixed=True), tensor(2, 3, 4, 4) * 3 + 1
    norm._mean.set_value(paddle.to_tensor([0.1, 0.2, 0.3]))
    norm._variance.set_value(paddle.to_tensor([0.5, 1.0, 2.0]))
    norm.train()
    y = norm(x)
    y.square().sum().backward()
    expected = (x.numpy() - np.float32([0.1, 0.2, 0.3])[:, None, None]) / np.sqrt(np.float32([0.501, 1.001, 2.001]))[
        :, None, None
    ]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(norm._mean, np.float32([0.1, 0.2, 0.3]))
    np.testing.assert_array_equal(norm._variance, np.float32([0.5, 1.0, 2.0]))
    np.testing.assert_allclose(norm.weight.grad, 2 * np.square(expected).sum((0, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(norm.bias.grad, 2 * expected.sum((0, 2, 3)), rtol=1e-3, atol=1e-3)
    norm.eval()
    np.testing.assert_array_equal(norm(x), y)


def test_ordinary_batch_norm_follows_the_batch(tensor):
    norm, x = BatchNorm(3, fixed=False), tensor(8, 3, 16, 16) * 3 + 1
    norm.train()
    y = norm(x).numpy()
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1, rtol=1e-2)
    np.testing.assert_allclose(norm._mean, 0.01 * x.numpy().mean((0, 2, 3)), rtol=1e-3)


@pytest.mark.parametrize(("name", "expected"), [("LeakyReLU", -0.2), ("ReLU", 0.0), ("ELU", np.expm1(-1.0))])
def test_activations(name, expected):
    np.testing.assert_allclose(activation(name)(paddle.to_tensor([-1.0, 2.0])), [expected, 2.0], rtol=1e-6)


def test_initial_weights_have_the_bounds_of_keras():
    net = paddle.nn.Sequential(SameConv2D(3, 64, 5, 2), SameConv2DTranspose(64, 32, 5, 2))
    he_uniform_(net, seed=1)
    for layer, fan_in in zip(net, (3 * 25, 32 * 25), strict=True):
        limit, weight = (6 / fan_in) ** 0.5, layer.weight.numpy()
        assert 0.98 * limit < np.abs(weight).max() <= limit
        assert abs(weight.mean()) < 0.02 * limit
        assert not layer.bias.numpy().any()


def test_group_norm_of_almost_constant_groups(tensor):
    x = (10 + 0.03 * tensor(2, 4, 500)).numpy()
    groups = x.astype(np.float64).reshape(2, 2, -1)
    spread = np.sqrt(groups.var(axis=2, keepdims=True) + 1e-5)
    expected = ((groups - groups.mean(axis=2, keepdims=True)) / spread).reshape(x.shape)
    np.testing.assert_allclose(GroupNorm(2, 4)(paddle.to_tensor(x)), expected, atol=1e-5)
