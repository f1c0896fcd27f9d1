"""Recurrent layers for cards against Paddle's own, by themselves on the CPU and on the emulated card."""

import numpy as np
import paddle
import pytest
from paddle import nn

from models import card, recurrent
from tests.sdaa.cards import LOGGED, needs_compiler, on_card, on_host

OPTIONS = [
    {"direction": "bidirect", "num_layers": 2},
    {"direction": "forward", "time_major": True},
]


def compute(layer, x, trained):
    """Outputs, last state, and gradients where there are any."""
    layer.train() if trained else layer.eval()
    x = paddle.to_tensor(x, stop_gradient=not trained)
    y, state = layer(x)
    found = [y, state] if paddle.is_tensor(state) else [y, *state]
    if trained:
        (y.square().sum() + found[1].sum()).backward()
        found += [x.grad, *(parameter.grad for parameter in layer.parameters())]
    return [each.numpy() for each in found]


def pair(kind, options):
    """Paddle's layer and ours, with the same weights."""
    theirs, mine = getattr(nn, kind)(3, 4, **options), getattr(recurrent, kind)(3, 4, **options)
    mine.set_state_dict(theirs.state_dict())
    return theirs, mine


def agree(mine, theirs):
    for ours, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_equal_paddles_layers(kind, options, trained, monkeypatch):
    paddle.set_device("cpu")
    theirs, mine = pair(kind, options)
    x = np.random.default_rng(0).standard_normal([2, 5, 3]).astype(np.float32)
    expected = compute(theirs, x, trained)
    agree(compute(mine, x, trained), expected)
    mine.clear_gradients()
    monkeypatch.setattr(card, "holds", lambda x: True)
    agree(compute(mine, x, trained), expected)
    assert mine.training == trained


def test_what_the_steps_cannot_do_is_refused(monkeypatch):
    monkeypatch.setattr(card, "holds", lambda x: True)
    with pytest.raises(ValueError, match="starts from zeros"):
        recurrent.GRU(3, 4)(paddle.ones([1, 2, 3]), paddle.ones([1, 1, 4]))


ON_CARD = """
from tests.models.test_recurrent import OPTIONS, agree, compute, pair
x = np.random.default_rng(0).standard_normal([2, 5, 3]).astype("float32")
for kind, trained in [("GRU", True), ("GRU", False), ("LSTM", False)]:
    for options in OPTIONS:
        paddle.set_device("cpu")
        theirs, mine = pair(kind, options)
        expected = compute(theirs, x, trained)
        paddle.set_device("sdaa:0")
        on_the_card = type(mine)(3, 4, **options)
        on_the_card.set_state_dict({name: value.numpy() for name, value in mine.state_dict().items()})
        print("now: ", kind, file=sys.stderr, flush=True)
        computed = compute(on_the_card, x, trained)
        print("now: on the host", file=sys.stderr, flush=True)
        agree(computed, expected)
print("agreed")
"""


@needs_compiler
def test_nothing_goes_to_the_host():
    done = on_card(ON_CARD, variables=LOGGED)
    assert "agreed" in done.stdout
    assert on_host(done.stderr) == []


def test_no_two_gradients_share_memory():
    """Training scales each in place; one that was another's as well would be scaled twice."""
    layer = recurrent.LSTM(3, 4, direction="bidirect", time_major=True)
    recurrent.states(layer, paddle.randn([5, 2, 3])).square().sum().backward()
    gradients = {parameter.name: parameter.grad for parameter in layer.parameters()}
    before = {name: gradient.numpy() for name, gradient in gradients.items()}
    for gradient in gradients.values():
        gradient.scale_(0.5)
    for name, gradient in gradients.items():
        assert np.array_equal(gradient.numpy(), before[name] / 2)
