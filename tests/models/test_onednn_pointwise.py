"""GELU, GLU and factors of channels against Paddle's operators, forward and backward."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from models import onednn, onednn_pointwise


@pytest.fixture(autouse=True)
def cpu():
    paddle.set_device("cpu")
    if not onednn.usable(paddle.ones([1])):
        pytest.skip("this build of Paddle has no oneDNN 3 library")


def agree(mine, theirs, *shapes):
    results, rng = [], np.random.default_rng(0)
    arrays = [3 * rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    for function in (mine, theirs):
        inputs = [paddle.to_tensor(a, stop_gradient=False) for a in arrays]
        y = function(*inputs)
        y.backward(paddle.to_tensor(np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)))
        results.append([y.numpy(), *(x.grad.numpy() for x in inputs)])
    for found, expected in zip(*results, strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(5,), (2, 3, 7), (1, 300, 400)])
def test_gelu(shape):
    agree(onednn_pointwise.gelu, F.gelu, shape)


@pytest.mark.parametrize("shape", [(1, 2, 1), (3, 4, 5), (2, 6, 3, 4), (700, 4, 90), (2, 4, 40_000)])
def test_glu(shape):
    agree(onednn_pointwise.glu, lambda x: F.glu(x, 1), shape)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (1, 5, 6, 4)])
def test_factors_of_the_last_axis(shape):
    agree(onednn_pointwise.scale_last, lambda x, scale: x * scale, shape, shape[-1:])


def test_inputs_that_are_not_contiguous():
    turned = paddle.arange(24, dtype="float32").reshape([2, 3, 4]).transpose([0, 2, 1])
    for mine, theirs in ((onednn_pointwise.gelu, F.gelu), (onednn_pointwise.glu, lambda x: F.glu(x, 1))):
        np.testing.assert_allclose(mine(turned).numpy(), theirs(turned).numpy(), rtol=1e-6)
