"""Dropout by drawn places, and attention that drops weights with it."""

import numpy as np
import paddle
import pytest

from models.attention import attend
from models.dropout import Drops, dropout


@pytest.fixture(autouse=True)
def cpu():
    paddle.set_device("cpu")
    paddle.seed(7)


@pytest.mark.parametrize("probability", [0.02, 0.25])
def test_drops_are_independent_and_as_many_as_asked_for(probability):
    drawn = Drops(probability).stream()
    dropped = np.zeros(400_000)
    for start in range(0, dropped.size, 1000):
        dropped[start + drawn(1000)] = 1
    deviation = (probability * (1 - probability) / dropped.size) ** 0.5
    assert abs(dropped.mean() - probability) < 4 * deviation
    centred = dropped - probability
    for distance in (1, 2, 1000):
        assert abs((centred[distance:] * centred[:-distance]).mean()) < 4 * probability * (1 - probability) / 632
    first, last = dropped.reshape(-1, 1000)[:, 0].mean(), dropped.reshape(-1, 1000)[:, -1].mean()
    assert max(abs(first - probability), abs(last - probability)) < 4 * (probability * (1 - probability) / 400) ** 0.5


def test_a_stream_repeats_itself_and_follows_the_seed():
    drops = Drops(0.1)
    first, again = drops.stream(), drops.stream()
    assert all(np.array_equal(first(50), again(50)) for _ in range(20))
    paddle.seed(7)
    assert np.array_equal(Drops(0.1).stream()(900), drops.stream()(900))
    assert Drops(0.0).stream()(5).size == 0


def test_kept_numbers_grow_and_the_gradient_has_the_same_holes():
    x = paddle.rand([50, 40]) + 1
    x.stop_gradient = False
    y = dropout(x, 0.1, training=True)
    y.sum().backward()
    kept = y.numpy() != 0
    assert 0 < (~kept).sum() < 400
    np.testing.assert_allclose(y.numpy(), np.where(kept, x.numpy() / np.float32(0.9), 0), rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), np.where(kept, np.float32(1 / 0.9), 0), rtol=1e-6)
    assert dropout(x, 0.1, training=False) is x or bool((dropout(x, 0.1, training=False) == x).all())


def test_attention_drops_weights_in_both_directions():
    """Identity values show the weights; with them known, Paddle's operators must give the same gradients."""
    queries, heads, width = 24, 2, 24
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((1, queries, heads * width)).astype(np.float32) for _ in range(3)]
    query, key = (paddle.to_tensor(a) for a in arrays[:2])
    eye = paddle.to_tensor(np.tile(np.eye(queries, dtype=np.float32), (1, 1, heads)))
    seen = []
    for probability in (0.0, 0.2):
        paddle.seed(3)
        weights = attend(query, key, eye, heads, probability, training=True)
        seen.append(weights.numpy().reshape(queries, heads, queries).transpose(1, 0, 2))
    full, thin = seen
    kept = thin != 0
    assert 0.7 < kept.mean() < 0.9
    np.testing.assert_allclose(thin, np.where(kept, full / 0.8, 0), rtol=1e-5)

    outer = rng.standard_normal(arrays[0].shape).astype(np.float32)
    mask = paddle.to_tensor((kept / 0.8).astype(np.float32))[None]

    def plain(q, k, v):
        q, k, v = (x.reshape([1, queries, heads, width]).transpose([0, 2, 1, 3]) for x in (q, k, v))
        weights = paddle.nn.functional.softmax(paddle.matmul(q * width**-0.5, k, transpose_y=True), axis=-1)
        return paddle.matmul(weights * mask, v).transpose([0, 2, 1, 3]).flatten(2)

    def thinned(q, k, v):
        paddle.seed(3)
        return attend(q, k, v, heads, 0.2, training=True)

    results = []
    for function in (plain, thinned):
        inputs = [paddle.to_tensor(a, stop_gradient=False) for a in arrays]
        y = function(*inputs)
        (y * paddle.to_tensor(outer)).sum().backward()
        results.append([y.numpy(), *(x.grad.numpy() for x in inputs)])
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
