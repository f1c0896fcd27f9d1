"""The oneDNN convolutions against Paddle's own operators, forward and backward."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from models import onednn

CASES = {
    "plain": ("conv2d", (2, 3, 9, 7), (4, 3, 3, 3), {}),
    "same stride 2": ("conv2d", (1, 2, 64, 128), (16, 2, 5, 5), {"stride": (2, 2), "padding": (1, 2, 1, 2)}),
    "dilated": ("conv2d", (2, 1, 16, 16), (2, 1, 4, 4), {"padding": (3, 3, 3, 3), "dilation": (2, 2)}),
    "dilated, lopsided": ("conv2d", (2, 2, 12, 10), (5, 2, 3, 4), {"padding": (0, 1, 2, 3), "dilation": (1, 2)}),
    "wide": ("conv2d", (1, 64, 8, 8), (128, 64, 5, 5), {"stride": (2, 2), "padding": (1, 2, 1, 2)}),
    "transposed": ("conv2d_transpose", (2, 6, 5, 4), (6, 3, 3, 3), {}),
    "transposed same": ("conv2d_transpose", (1, 64, 4, 8), (64, 32, 5, 5), {"stride": (2, 2), "padding": (1, 2, 1, 2)}),
    "transposed to one": (
        "conv2d_transpose",
        (2, 32, 8, 8),
        (32, 1, 5, 5),
        {"stride": (2, 2), "padding": (1, 2, 1, 2)},
    ),
}


def run(function, arrays, bias, options):
    tensors = [paddle.to_tensor(a, stop_gradient=False) for a in arrays]
    y = function(tensors[0], tensors[1], tensors[2] if bias else None, **options)
    weights = paddle.to_tensor(np.random.default_rng(9).standard_normal(y.shape).astype(np.float32))
    (y * weights).sum().backward()
    return [y.numpy(), *(t.grad.numpy() for t in tensors[: 3 if bias else 2])]


@pytest.fixture(autouse=True)
def cpu():
    paddle.set_device("cpu")
    if not onednn.usable(paddle.ones([1])):
        pytest.skip("this build of Paddle has no oneDNN 3 library")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_equals_paddle(name, bias):
    operator, x, weight, options = CASES[name]
    rng = np.random.default_rng(0)
    outputs = weight[0] if operator == "conv2d" else weight[1]
    arrays = [rng.standard_normal(s).astype(np.float32) for s in (x, weight, (outputs,))]
    paddle_options = options | ({"padding": list(options["padding"])} if "padding" in options else {})
    expected = run(getattr(F, operator), arrays, bias, paddle_options)
    for mine, theirs in zip(run(getattr(onednn, operator), arrays, bias, options), expected, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max() + 1e-5)


def test_same_bits_twice():
    operator, x, weight, options = CASES["wide"]
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in (x, weight, (weight[0],))]
    first, second = (run(getattr(onednn, operator), arrays, True, options) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_frozen_inputs_get_no_gradient():
    x, weight = paddle.ones([1, 2, 4, 4]), paddle.ones([3, 2, 3, 3])
    weight.stop_gradient = False
    onednn.conv2d(x, weight).sum().backward()
    assert x.grad is None
    assert weight.grad.shape == [3, 2, 3, 3]


def test_not_usable_for_other_types_and_empty_tensors():
    assert not onednn.usable(paddle.ones([1], dtype="float64"))
    assert not onednn.usable(paddle.zeros([0, 2, 4, 4]))
