"""Hybrid Transformer Demucs: lengths, the transformer's options, and attention."""

import numpy as np
import paddle
import pytest

import models
import pretrained
from models import cross_masks, cross_positions
from models.attention import MultiheadAttention, SparseAttention, attend
from models.cross_transformer import CrossTransformer, LayerOptions
from models.htdemucs_config import HTDemucsConfig
from runtime.errors import UserError

SMALL = {
    "sources": ("vocals", "rest"),
    "channels": 4,
    "nfft": 512,
    "depth": 3,
    "dconv_comp": 2,
    "bottom_channels": 16,
    "t_layers": 2,
    "t_heads": 2,
    "t_dropout": 0.0,
    "samplerate": 8000,
    "segment": "1/5",
}


def in_use(model):
    model.eval()  # returns nothing in older versions
    return model


def noise(*shape: int, seed: int = 0) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_inputs_are_brought_to_the_training_length():
    model = in_use(models.create("htdemucs", **SMALL))
    assert model.description.fixed_length and model.description.segment == 1600
    assert model.valid_length(3) == model.valid_length(1600) == 1600
    x = noise(1, 2, 1000)
    with paddle.no_grad():
        short, long = model(x), model(paddle.concat([x, paddle.zeros([1, 2, 600])], axis=2))
    assert short.shape == [1, 2, 2, 1000]
    assert np.array_equal(short.numpy(), long.numpy()[..., :1000])
    with pytest.raises(ValueError, match="1601"):
        model(noise(1, 2, 1601))


def test_training_sets_the_length():
    model = models.create("htdemucs", **SMALL)
    assert model(noise(1, 2, 1999)).shape == [1, 2, 2, 1999]
    assert in_use(model).valid_length(7) == 1999
    free = in_use(models.create("htdemucs", **SMALL, use_train_segment=False))
    assert free.valid_length(123) == 123 and not free.description.fixed_length


@pytest.mark.parametrize(
    "options",
    [
        {"t_emb": "cape", "t_cross_first": True},
        {"t_emb": "scaled", "t_max_positions": 200, "t_gelu": False},
        {"t_norm_first": False, "t_layer_scale": False, "bottom_channels": 0},
        {"t_group_norm": 2, "t_norm_in": False, "t_norm_in_group": True, "t_sin_random_shift": 5},
        {"t_sparse_self_attn": True, "t_mask_type": "diag_random", "t_sparse_attn_window": 3},
        {"t_sparse_self_attn": True, "t_sparse_cross_attn": True, "t_auto_sparsity": True, "t_sparsity": 0.5},
        {"t_layers": 0},
        {"nfft": 256, "t_layers": 3},
        {"nfft": 256, "t_layers": 1, "t_norm_first": False},
        {"t_dropout": 0.2},
    ],
)
def test_every_option_learns(options):
    model = models.create("htdemucs", **{**SMALL, **options})
    paddle.seed(3)
    model(noise(2, 2, 1200)).abs().mean().backward()
    unused = {id(parameter) for parameter in model.unused_parameters()}
    for parameter in model.parameters():
        assert (parameter.grad is None) == (id(parameter) in unused)
        assert parameter.grad is None or np.isfinite(parameter.grad.numpy()).all()
    state = pretrained.loading.reference_state(model)
    pretrained.load_reference_state(model, state)
    with paddle.no_grad():
        assert in_use(model)(noise(1, 2, 900)).shape == [1, 2, 2, 900]


def test_training_repeats_itself_with_the_same_seed():
    model = models.create("htdemucs", **{**SMALL, "t_dropout": 0.3, "t_emb": "cape"})
    runs = []
    for seed in (1, 1, 2):
        paddle.seed(seed)
        runs.append(model(noise(1, 2, 1200)).numpy())
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])


def test_attention_is_a_softmax_over_keys():
    q, k, v = noise(2, 5, 8), noise(2, 7, 8, seed=1), noise(2, 7, 8, seed=2)
    expected = np.zeros((2, 5, 8))
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        scores = q.numpy()[..., part] @ k.numpy()[..., part].swapaxes(1, 2) / 2
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        expected[..., part] = weights @ v.numpy()[..., part]
    assert np.abs(attend(q, k, v, heads=2).numpy() - expected).max() < 1e-6
    nothing = attend(q, k, v, heads=2, mask=paddle.zeros([5, 7]))
    assert (nothing.numpy() == 0).all()


def test_looking_at_oneself_is_looking_at_a_copy():
    layer = MultiheadAttention(8, 2)
    layer.initialise_(1, "x")
    x = noise(2, 5, 8)
    assert np.abs((layer(x, x) - layer(x, x.clone())).numpy()).max() < 1e-6


def test_sparse_attention_that_sees_all_is_dense():
    layer = SparseAttention(8, 2)
    for parameter in layer.parameters():
        parameter.set_value(noise(*parameter.shape, seed=5))
    x, y = noise(1, 5, 8), noise(1, 7, 8)
    seen = paddle.to_tensor(cross_masks.mask(5, 7, "diag", window=9).astype(np.float32))
    assert np.abs((layer(x, y, seen) - layer(x, y)).numpy()).max() < 1e-5


def test_patterns_of_sparse_attention():
    near = cross_masks.mask(6, 6, "diag", window=1)
    assert np.array_equal(near, np.abs(np.subtract.outer(np.arange(6), np.arange(6))) <= 1)
    assert cross_masks.mask(4, 4, "global", edge=1).sum() == 7
    assert cross_masks.mask(10, 10, "jmask")[5].nonzero()[0].tolist() == [2, 4, 5, 6, 8]
    assert 0.05 < cross_masks.mask(50, 50, "random", sparsity=0.9).mean() < 0.15
    both = cross_masks.mask(6, 6, "diag_global", window=1, edge=1)
    assert np.array_equal(both, near | cross_masks.mask(6, 6, "global", edge=1))


def test_positions_are_waves():
    waves = cross_positions.waves(5, 8)
    assert np.allclose(waves[:, 0], np.cos(np.arange(5)), atol=1e-6)
    assert np.allclose(waves[:, 7], np.sin(np.arange(5) / 10000), atol=1e-6)
    assert np.array_equal(cross_positions.waves(3, 8, shift=2), waves[2:])
    plane = cross_positions.plane_waves(3, 4, 8).reshape(4, 3, 8)
    assert np.allclose(plane[:, 1, 0], np.sin(np.arange(4)), atol=1e-6)
    assert np.allclose(plane[2, :, 5], np.cos(np.arange(3)), atol=1e-6)
    centred = cross_positions.cape(5, 8, 2)
    assert np.allclose(centred[1, :, 0], np.cos(np.arange(5) - 2), atol=1e-6)
    moved = cross_positions.cape(5, 8, 2, disorder=(5.0, 1.0, 1.4), rng=np.random.default_rng(1))
    assert np.abs(moved[0] - moved[1]).max() > 0.1


def test_branches_keep_their_shapes():
    transformer = CrossTransformer(LayerOptions(dim=8, heads=2, hidden=16), layers=3)
    x, xt = transformer(noise(2, 8, 3, 5), noise(2, 8, 11))
    assert x.shape == [2, 8, 3, 5] and xt.shape == [2, 8, 11]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"t_emb": "learned"}, "t_emb"),
        ({"t_heads": 7}, "t_heads"),
        ({"t_mask_type": "diag_"}, "t_mask_type"),
        ({"t_dropout": 1.0}, "t_dropout"),
        ({"depth": 6}, "depth"),
        ({"t_norm_out": 7}, "t_norm_out"),
        ({"wiener_iters": 2}, "end_iters"),
    ],
)
def test_impossible_options_are_refused(options, word):
    with pytest.raises(UserError, match=word):
        HTDemucsConfig(**options)


def test_a_golden(shared_parity):
    from tests.parity.__main__ import adapters, run_case
    from tests.parity.golden import load

    assert all(each.ok for each in run_case(load(shared_parity / "htdemucs_small_nobottom.npz"), adapters()))
