"""Blocks of the Demucs networks against plain formulas, and their initial weights."""

import numpy as np
import paddle
import pytest
from paddle import nn

from models.demucs_blocks import (
    BLSTM,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    DConv,
    LayerScale,
    LocalState,
    rescale_module,
    torch_init_,
)


@pytest.fixture(autouse=True)
def cpu():
    paddle.set_device("cpu")


def noise(*shape: int, seed: int = 0) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def randomise(model: nn.Layer) -> nn.Layer:
    """Weights that are nowhere near special values."""
    for seed, parameter in enumerate(model.parameters()):
        parameter.set_value(0.3 * noise(*parameter.shape, seed=seed))
    model.eval()
    return model


def close(ours, theirs, tolerance: float = 2e-6) -> None:
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=0, atol=tolerance)


@pytest.mark.parametrize("steps", [8, 9, 12, 29])
def test_a_long_sequence_goes_through_the_lstm_in_overlapping_windows(steps):
    layer, x = randomise(BLSTM(3, layers=2, max_steps=8)), noise(2, 3, steps)
    if steps > 8:
        count = -(-steps // 4)
        padded = np.pad(x.numpy(), [(0, 0), (0, 0), (0, (count + 1) * 4 - steps)])
        parts = []
        for k in range(count):
            window = layer._run(paddle.to_tensor(padded[:, :, 4 * k : 4 * k + 8])).numpy()
            parts.append(window[:, :, 0 if k == 0 else 2 : 8 if k == count - 1 else 6])
        expected = np.concatenate(parts, axis=2)[:, :, :steps]
    else:
        expected = layer._run(x).numpy()
    close(layer(x), expected)
    layer.skip = True
    close(layer(x), expected + x.numpy())


@pytest.mark.parametrize(("nfreqs", "ndecay", "steps"), [(0, 4, 7), (3, 2, 9), (2, 0, 5), (0, 0, 1)])
def test_local_attention_is_what_its_formula_says(nfreqs, ndecay, steps):
    layer, x = randomise(LocalState(4, heads=2, nfreqs=nfreqs, ndecay=ndecay)), noise(2, 4, steps)
    parts = {name: part(x).numpy().reshape(2, 2, -1, steps) for name, part in layer.named_sublayers() if name != "proj"}
    gap = np.abs(np.arange(steps)[:, None] - np.arange(steps))  # [key, query]
    scores = np.einsum("bhct,bhcs->bhts", parts["key"], parts["query"]) / np.sqrt(2)
    for f in range(nfreqs):
        scores += np.cos(2 * np.pi * gap / (f + 1)) * parts["query_freqs"][:, :, f, None] / np.sqrt(nfreqs)
    for d in range(ndecay):
        rate = (d + 1) / np.sqrt(ndecay) / 2 / (1 + np.exp(-parts["query_decay"][:, :, d]))
        scores -= gap * rate[:, :, None]
    scores[:, :, np.arange(steps), np.arange(steps)] = -100
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    seen = [np.einsum("bhts,bhct->bhcs", weights, parts["content"])]
    seen += [(weights * np.cos(2 * np.pi * gap / (f + 1))).sum(axis=2)[:, :, None] for f in range(nfreqs)]
    result = np.concatenate(seen, axis=2).reshape(2, -1, steps).astype(np.float32)
    close(layer(x), x.numpy() + layer.proj(paddle.to_tensor(result)).numpy())


@pytest.mark.parametrize(("depth", "dilations"), [(3, [1, 2, 4]), (-2, [1, 1]), (0, [])])
def test_the_sign_of_the_depth_says_whether_branches_are_dilated(depth, dilations):
    layer, x = randomise(DConv(8, compress=2.5, depth=depth, kernel=5, norm=False, gelu=False)), noise(1, 8, 20)
    assert [branch[0].dilation for branch in layer.layers] == dilations
    assert all(branch[0].weight.shape == [3, 8, 5] for branch in layer.layers)
    expected = x
    for branch in layer.layers:
        expected = expected + branch(expected)
    assert layer(x).shape == [1, 8, 20]
    close(layer(x), expected)


def test_branches_have_the_names_of_the_original_and_each_tensor_once():
    layer = DConv(8, compress=2, depth=1, attn=True, lstm=True)
    names = [name for name, _ in layer.named_parameters()]
    assert names == list(layer.state_dict())
    assert names[:4] == ["layers.0.0.weight", "layers.0.0.bias", "layers.0.1.weight", "layers.0.1.bias"]
    assert names[4] == "layers.0.3.lstm.weight_ih_l0" and names[-1] == "layers.0.8.scale"
    assert {"layers.0.3.linear.weight", "layers.0.4.query_decay.bias", "layers.0.6.bias"} < set(names)
    plain = [name for name, _ in DConv(8, depth=1).named_parameters()]
    assert plain[4:] == [f"layers.0.{name}" for name in ("3.weight", "3.bias", "4.weight", "4.bias", "6.scale")]


def test_layer_scale_is_for_channels_wherever_they_are():
    x = noise(2, 3, 4)
    close(LayerScale(3, 0.5)(x), 0.5 * x.numpy())
    scale = LayerScale(4, 2.0, channel_last=True)
    scale.scale.set_value(np.arange(4, dtype=np.float32))
    close(scale(x), x.numpy() * np.arange(4))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BLSTM(4, max_steps=6), "multiple of 4"),
        (lambda: LocalState(6), "6 channels"),
        (lambda: DConv(8, kernel=4), "odd"),
    ],
)
def test_impossible_blocks_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


class Mixed(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv, self.up = Conv1d(6, 20, 5), ConvTranspose1d(30, 5, 8, 4)
        self.plane = Conv2d(4, 9, (3, 1), bias=False)
        self.linear, self.table, self.norm = nn.Linear(40, 30), nn.Embedding(50, 60), nn.GroupNorm(1, 4)
        self.lstm, self.attention = BLSTM(16), LocalState(8)


def test_initial_weights_have_pytorch_s_distributions():
    model = Mixed()
    torch_init_(model, 3)
    limits = {"conv": 30, "up": 40, "plane": 12, "linear": 40, "lstm.lstm": 16, "lstm.linear": 32, "attention.key": 8}
    for name, fan in limits.items():
        layer = dict(model.named_sublayers())[name]
        values = np.concatenate([parameter.numpy().ravel() for parameter in layer.parameters()]) * fan**0.5
        assert np.abs(values).max() <= 1 + 1e-6 and np.abs(values).max() > 0.95
        assert values.std() == pytest.approx(3**-0.5, rel=0.15)
    assert model.table.weight.numpy().std() == pytest.approx(1, abs=0.03)
    assert (model.norm.weight.numpy() == 1).all() and (model.norm.bias.numpy() == 0).all()
    assert (model.attention.query_decay.bias.numpy() == -2).all()
    assert np.abs(model.attention.query_decay.weight.numpy()).max() <= 0.01 * 8**-0.5 + 1e-9


def test_initial_weights_depend_on_seed_and_name_alone():
    paddle.seed(1)
    first, second, other = Mixed(), Mixed(), Mixed()
    second.extra = Conv1d(3, 3, 1)
    torch_init_(first, 3)
    paddle.seed(2)
    torch_init_(second, 3)
    torch_init_(other, 4)
    for name, value in first.state_dict().items():
        assert (second.state_dict()[name].numpy() == value.numpy()).all(), name
    assert (other.conv.weight.numpy() != first.conv.weight.numpy()).all()


def test_rescaling_moves_the_deviation_half_way():
    model = Mixed()
    torch_init_(model, 3)
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    rescale_module(model, 0.1)
    for name in ("conv", "up", "plane", "attention.proj"):
        old, new = before[f"{name}.weight"], model.state_dict()[f"{name}.weight"].numpy()
        assert new.std(ddof=1) == pytest.approx((old.std(ddof=1) * 0.1) ** 0.5, rel=1e-5)
        if f"{name}.bias" in before:
            ratio = old.ravel()[0] / new.ravel()[0]
            close(model.state_dict()[f"{name}.bias"].numpy() * ratio, before[f"{name}.bias"])
    for name in ("linear.weight", "lstm.lstm.weight_ih_l0", "lstm.linear.bias"):
        assert (model.state_dict()[name].numpy() == before[name]).all()
