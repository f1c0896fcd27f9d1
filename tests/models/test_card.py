"""The pieces for cards against Paddle's own operators: by themselves on the CPU, and on the emulated card, where
nothing of them, and nothing of a Spleeter's training step, may go to the host."""

import paddle
import pytest

from models import card, onednn
from models.spectrum import factors
from tests.models.pieces import PIECES, agree, evaluate, inputs
from tests.sdaa.cards import LOGGED, needs_compiler, on_card, on_host


@pytest.fixture(autouse=True)
def cpu():
    paddle.set_device("cpu")


@pytest.mark.parametrize("name", PIECES)
def test_pieces_equal_paddle(name, monkeypatch):
    piece = PIECES[name]
    arrays = inputs(piece)
    expected = evaluate(piece.reference, arrays)
    agree(evaluate(piece.mine, arrays), expected)
    monkeypatch.setattr(onednn, "usable", lambda x: False)
    monkeypatch.setattr(card, "holds", lambda x: True)
    agree(evaluate(piece.mine, arrays), expected)


def test_the_cpu_keeps_its_kernels():
    assert not card.holds(paddle.ones([1]))


def test_windows_that_leave_gaps_are_refused(monkeypatch):
    from models.spectrum import STFT

    monkeypatch.setattr(card, "holds", lambda x: True)
    with pytest.raises(ValueError, match="smaller hop"):
        STFT(8, 8, center=False).inverse(paddle.ones([1, 2, 5, 4]))


@pytest.mark.parametrize(("size", "expected"), [(4096, (64, 64)), (2048, (64, 32)), (882, (42, 21)), (13, (13, 1))])
def test_no_matrix_is_larger_than_need_be(size, expected):
    assert factors(size) == expected


# ---------------------------------------------------------------------------------------------------- the emulated card

ALL_PIECES = """
from tests.models.pieces import PIECES, agree, evaluate, inputs
for name, piece in PIECES.items():
    paddle.set_device("cpu")
    arrays = inputs(piece)
    expected = evaluate(piece.reference, arrays)
    paddle.set_device("sdaa:0")
    print("now:", name, file=sys.stderr, flush=True)
    computed = evaluate(piece.mine, arrays)
    print("now: on the host", file=sys.stderr, flush=True)
    agree(computed, expected)
print("agreed on", len(PIECES))
"""

STEP = """
import models
from models import onednn
from training import gradients
from training.ema import EMA
from training.recipes.spleeter import magnitude_loss

onednn.usable = lambda x: False  # the reference is Paddle's own
rng = np.random.default_rng(0)
magnitudes = rng.random([2, 2, 64, 64]).astype("float32")

def train(name, batch_norm, dropout, decay, kind):
    model = models.create(
        name, filters=[2, 3, 4, 5, 6, 7], segment_frames=64, frequency_bins=64, batch_norm=batch_norm, dropout=dropout
    )
    for parameter in model.unused_parameters():
        parameter.stop_gradient = True
    learnt = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
    adam, ema = paddle.optimizer.Adam(1e-3, parameters=learnt, weight_decay=decay), EMA(model, 0.9)
    targets = np.stack([magnitudes * share for share in range(len(model.description.sources))], 1)
    loss, terms = magnitude_loss(model(paddle.to_tensor(magnitudes)), paddle.to_tensor(targets), kind)
    (loss * 0.5).backward()
    norm = gradients.clip(learnt, 0.001)
    slopes = [parameter.grad.numpy() * 1000 for parameter in learnt]  # of norm 1
    adam.step()
    adam.clear_grad()
    ema.update()
    with paddle.no_grad():
        model.eval()
        separated = model(paddle.to_tensor(magnitudes)).numpy()
    return [separated, np.float32(loss.item()), np.float32(norm)] + slopes

for name, batch_norm, dropout, decay, kind in VARIANTS:
    results = []
    for device in ("cpu", "sdaa:0"):
        paddle.set_device(device)
        print("now:", name if device != "cpu" else "on the host", file=sys.stderr, flush=True)
        paddle.seed(1)
        results.append(train(name, batch_norm, dropout, decay, kind))
    for host, computed in zip(*results):
        tolerance = 1e-5 * max(1.0, np.abs(host).max())
        assert dropout or np.abs(computed - host).max() <= tolerance, (name, host.shape, np.abs(computed - host).max())
print("agreed")
"""

VARIANTS = [
    ("spleeter_2stems", "fixed", 0.0, None, "L1_mask"),
    ("spleeter_4stems", "batch", 0.5, None, "L1_mask"),
    ("spleeter_5stems", "fixed", 0.0, 0.01, "weighted_L1_mask"),
    ("spleeter_5stems", "batch", 0.0, None, "L1_mask"),
]


@needs_compiler
def test_nothing_of_the_pieces_goes_to_the_host():
    """Strict: nor may the host touch the card's memory. The last call has no kernel, to see that the log tells."""
    control = "print('now: roll', file=sys.stderr, flush=True)\npaddle.roll(paddle.to_tensor([1.0, 2.0, 3.0]), 1)"
    done = on_card(f"{ALL_PIECES}\npaddle.set_device('sdaa:0')\n{control}", strict=True, variables=LOGGED)
    assert f"agreed on {len(PIECES)}" in done.stdout
    assert on_host(done.stderr) == ["roll: roll"]


@needs_compiler
def test_mixed_precision():
    body = """
from models import card
from models.spectrum import STFT

x = paddle.to_tensor([[-1.0, 0.0, 2.0]], stop_gradient=False)
with paddle.amp.auto_cast(dtype="float16", level="O1"):
    half = paddle.matmul(x, paddle.eye(3))
    y = card.elu(half)
    spectrum = STFT(512, 128).forward(paddle.linspace(-1.0, 1.0, 2000).square())
y.astype("float32").sum().backward()
assert half.dtype == y.dtype == paddle.float16 and x.grad.dtype == paddle.float32
np.testing.assert_allclose(x.grad.numpy(), [[np.exp(-1.0), 1.0, 1.0]], rtol=1e-3)
assert spectrum.dtype == paddle.float32
np.testing.assert_allclose(spectrum, STFT(512, 128).forward(paddle.linspace(-1.0, 1.0, 2000).square()), atol=1e-6)
print("agreed")
"""
    assert "agreed" in on_card(body).stdout


@needs_compiler
def test_nothing_of_a_step_of_spleeter_goes_to_the_host():
    """Strict as well."""
    done = on_card(f"VARIANTS = {VARIANTS}\n{STEP}", strict=True, variables=LOGGED)
    assert "agreed" in done.stdout
    assert on_host(done.stderr) == []
