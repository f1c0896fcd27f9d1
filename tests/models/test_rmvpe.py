"""The pitch networks: their parts by definition, options, weights of PyTorch, and the emulated card."""

import numpy as np
import paddle
import pytest

import models
from models import onednn, onednn_residual
from models.rmvpe import pad_frames
from models.rmvpe_blocks import BatchNorm2d, Unpool
from models.tensors import tensors
from pretrained import load_weights
from pretrained.loading import load_reference_state, reference_state
from runtime.errors import UserError
from tests.models.on_both import assert_agreement
from tests.pretrained import torch_writer
from tests.sdaa.cards import needs_compiler

SMALL = {"n_blocks": 1, "en_de_layers": 3, "inter_layers": 1, "en_out_channels": 4, "dropout": 0.0}


@pytest.fixture(autouse=True)
def cpu():
    paddle.set_device("cpu")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def small(name="rmvpe", **options):
    model = models.create(name, **{**SMALL, **options})
    model.eval()
    return model


def salience(model, mel):
    with paddle.no_grad():
        return model(paddle.to_tensor(mel)).numpy()


def listed(shared_parity, kind):
    """Name and shape of each tensor of the original, without the counters of its normalisations."""
    lines = (shared_parity.parent / "spec" / "state_dicts" / f"rmvpe_yxlllc_{kind}.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    return {name: shape for name, shape, _ in rows if not name.endswith("num_batches_tracked")}


# -------------------------------------------------------------------------------------------------------------- network


@pytest.mark.parametrize(("name", "kind"), [("rmvpe", "E2E0"), ("rmvpe_e2e", "E2E")])
def test_published_sizes(shared_parity, name, kind):
    model = models.create(name)
    state = reference_state(model)
    assert list(state) == list(listed(shared_parity, kind))
    assert {key: str(list(array.shape)) for key, array in state.items()} == listed(shared_parity, kind)
    assert sum(parameter.size for parameter in model.parameters()) == 91_996_477
    idle = sum(parameter.size for parameter in model.unused_parameters())
    assert 91_996_477 - idle == (90_423_165 if kind == "E2E0" else 91_996_477)


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 8, 33])
@pytest.mark.parametrize(
    "options", [{}, {"n_gru": 0}, {"n_gru": 2}, {"kernel_size": (1, 2)}, {"timbre_filter": "none"}]
)
def test_any_number_of_frames(frames, options):
    y = salience(small(**options), noise(2, 128, frames))
    assert y.shape == (2, frames, 360)
    assert y.min() > 0 and y.max() < 1


def test_frames_are_mirrored_at_the_end():
    model, mel = small(), noise(1, 128, 13)
    mirrored = np.pad(mel, [(0, 0), (0, 0), (0, 3)], "reflect")
    np.testing.assert_allclose(salience(model, mel), salience(model, mirrored)[:, :13], atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 5, 20, 32, 33])
def test_padding_goes_to_and_fro(frames):
    mel = noise(1, 2, frames)
    padded = pad_frames(paddle.to_tensor(mel), 32).numpy()
    assert padded.shape[2] == -(-frames // 32) * 32
    assert np.array_equal(padded, np.pad(mel, [(0, 0), (0, 0), (0, -frames % 32)], "reflect"))


def test_no_frame_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        pad_frames(paddle.zeros([1, 128, 0]), 32)


def test_the_timbre_filter_counts_where_it_is_used_only():
    used, idle, without = small("rmvpe_e2e"), small("rmvpe"), small("rmvpe", timbre_filter="none")
    state = reference_state(used)
    for model in (idle, without):
        load_reference_state(model, state)
    mel = noise(1, 128, 16)
    np.testing.assert_allclose(salience(idle, mel), salience(without, mel), atol=1e-6)
    assert np.abs(salience(idle, mel) - salience(used, mel)).max() > 1e-5
    assert not used.unused_parameters() and not without.unused_parameters()


def test_gradients_reach_all_that_is_used():
    for name in ("rmvpe", "rmvpe_e2e"):
        model = small(name)
        model.train()
        model(paddle.to_tensor(noise(2, 128, 16))).mean().backward()
        idle = {id(parameter) for parameter in model.unused_parameters()}
        assert all((parameter.grad is None) == (id(parameter) in idle) for parameter in model.parameters())


def test_dropout_forces_logits_to_zero_in_training():
    model = small(dropout=0.5)
    mel = paddle.to_tensor(noise(2, 128, 16))
    model.train()
    assert abs((model.logits(mel) == 0).astype("float32").mean().item() - 0.5) < 0.05
    assert ((model(mel) == 0.5).astype("float32").mean() > 0.4).item()
    model.eval()
    assert (model.logits(mel) != 0).all().item()


def test_equal_seeds_make_equal_networks():
    first, again, other = (reference_state(small(seed=seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["cnn.weight"], other["cnn.weight"])
    weight = reference_state(small(en_out_channels=8))["unet.decoder.layers.0.conv1.0.weight"]
    assert weight.shape == (64, 32, 3, 3)
    assert 0.99 < np.abs(weight).max() * np.sqrt(32 * 9) <= 1  # PyTorch counts the outputs of a transposed one


# ------------------------------------------------------------------------------------------------------- normalisation


def test_running_statistics_are_those_of_pytorch():
    norm, x = BatchNorm2d(3), noise(2, 3, 4, 5) * 2 + 1
    norm.train()
    y = norm(paddle.to_tensor(x)).numpy()
    axes, column = (0, 2, 3), (1, 3, 1, 1)
    mean, biased = x.mean(axes), x.var(axes)
    np.testing.assert_allclose(y, (x - mean.reshape(column)) / np.sqrt(biased + 1e-5).reshape(column), atol=1e-5)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.01 * mean, atol=1e-7)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.99 + 0.01 * x.var(axes, ddof=1), atol=1e-6)
    norm.eval()
    expected = (x - 0.01 * mean.reshape(column)) / np.sqrt(norm.running_var.numpy() + 1e-5).reshape(column)
    np.testing.assert_allclose(norm(paddle.to_tensor(x)).numpy(), expected, atol=1e-5)


def test_one_number_a_channel_has_no_variance():
    norm = BatchNorm2d(3)
    norm.train()
    with pytest.raises(ValueError, match="more frames"):
        norm(paddle.ones([1, 3, 1, 1]))


@pytest.mark.parametrize("options", [{}, {"kernel_size": (1, 2), "n_blocks": 2, "en_out_channels": 16}])
def test_without_gradients_it_is_the_layers_one_after_the_other(monkeypatch, options):
    model, x = small("rmvpe_e2e", **options).unet, paddle.to_tensor(noise(2, 1, 16, 8))
    for layer in model.sublayers():
        if isinstance(layer, BatchNorm2d):
            random_weights(layer, 2)
    layers, taken, in_one = model(x).numpy(), [], onednn_residual.residual
    monkeypatch.setattr(onednn_residual, "residual", lambda *given: taken.append(1) or in_one(*given))
    with paddle.no_grad():
        np.testing.assert_allclose(model(x).numpy(), layers, rtol=1e-5, atol=1e-5 * np.abs(layers).max())
    assert len(taken) == (3 + 1 + 3 + 3 if onednn.usable(x) else 0)


@pytest.mark.parametrize("stride", [(2, 2), (1, 2)])
def test_unpooling_ends_on_the_stride(stride):
    layer, x = Unpool(2, 3, stride), noise(1, 2, 4, 5)
    layer.weight.set_value(noise(2, 3, 3, 3, seed=1))
    y = np.zeros((3, 4 * stride[0] + 2, 5 * stride[1] + 2), np.float32)
    for row in range(4):
        for column in range(5):
            at = slice(row * stride[0], row * stride[0] + 3), slice(column * stride[1], column * stride[1] + 3)
            y[(slice(None), *at)] += np.einsum("c,ckhw->khw", x[0, :, row, column], layer.weight.numpy())
    expected = y[:, 1 : 1 + 4 * stride[0], 1 : 1 + 5 * stride[1]]
    np.testing.assert_allclose(layer(paddle.to_tensor(x)).numpy()[0], expected, atol=1e-5)


# -------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_blocks": 0}, "n_blocks=0 must be at least 1"),
        ({"n_gru": -1}, "n_gru=-1 must be at least 0"),
        ({"kernel_size": (3, 3)}, r"kernel_size=\(3, 3\) must be \(2, 2\) or \(1, 2\)"),
        ({"kernel_size": 2}, "kernel_size=2 must be"),
        ({"in_channels": 2}, "in_channels=2 must be 1"),
        ({"n_mels": 80}, r"n_mels=80 must be a multiple of 32.*en_de_layers"),
        ({"timbre_filter": True}, "timbre_filter=True is not one of idle, used, none"),
        ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
        ({"f_max": 9000}, "f_max=9000 must be above 0 and at most 8000 Hz"),
        ({"f_min": 8000}, "f_min=8000 must be at least 0 and below f_max"),
        ({"window": 1}, "window=1 must be at least 2"),
        ({"hop_length": 0}, "hop_length=0 must be at least 1"),
        ({"seed": 0.5}, "seed=0.5 must be at least 0 and whole"),
        ({"n_grus": 1}, "no option 'n_grus'; did you mean n_gru"),
    ],
)
def test_options_out_of_range(options, says):
    with pytest.raises(UserError, match=says):
        models.describe("rmvpe", **options)


def test_descriptions():
    facts = models.describe("rmvpe")
    assert (facts.sample_rate, facts.channels, facts.eats, facts.sources) == (16000, 1, "mel", ("pitch",))
    assert (facts.segment, facts.context) == (128 * 160, 256 * 160)
    assert models.describe("rmvpe-paper-e2e").config["n_mels"] == 256
    model = small("rmvpe_paper_e2e0")
    assert model.description == models.describe("rmvpe_paper_e2e0", **SMALL)
    assert salience(model, noise(1, 256, 8)).shape == (1, 8, 360)


# -------------------------------------------------------------------------------------------------------------- weights


def torch_state(model, dtype=np.float32):
    """The network's tensors as PyTorch keeps them, counters of batches included."""
    state = {name: array.astype(dtype) for name, array in reference_state(model).items()}
    counters = [name.removesuffix("running_var") for name in state if name.endswith("running_var")]
    return {**state, **{f"{name}num_batches_tracked": np.array(7, np.int64) for name in counters}}


def random_weights(model, seed):
    for tensor in tensors(model).values():
        tensor.set_value(np.random.default_rng(seed).uniform(0.1, 0.5, tensor.shape).astype(np.float32))
    return model


def test_weights_among_other_things_as_they_are_published(tmp_path):
    theirs, mine = random_weights(small(), 1), small()
    torch_writer.save({"model": torch_state(theirs)}, tmp_path / "model.pt")
    assert load_weights(mine, tmp_path / "model.pt").kind == "PyTorch state"
    expected = reference_state(theirs)
    assert all(np.array_equal(array, expected[name]) for name, array in reference_state(mine).items())


@pytest.mark.parametrize("legacy", [False, True])
def test_half_precision_without_the_idle_block(tmp_path, legacy):
    theirs, mine = random_weights(small(timbre_filter="none"), 1), small()
    before = reference_state(mine)
    torch_writer.save(torch_state(theirs, np.float16), tmp_path / "rmvpe.pt", legacy)
    load_weights(mine, tmp_path / "rmvpe.pt")
    expected = reference_state(theirs)
    for name, array in reference_state(mine).items():
        idle = name.startswith("unet.tf.")
        wanted = before[name] if idle else expected[name].astype(np.float16).astype(np.float32)
        assert np.array_equal(array, wanted)


def test_only_the_whole_idle_block_may_be_missing():
    state = reference_state(small())
    some = {name: array for name, array in state.items() if name != "unet.tf.layers.1.conv.0.weight"}
    with pytest.raises(UserError, match=r"1 missing \(unet\.tf\.layers\.1\.conv\.0\.weight\)"):
        load_reference_state(small(), some)
    without = {name: array for name, array in state.items() if not name.startswith("unet.tf.")}
    with pytest.raises(UserError, match=r"30 missing \(unet\.tf\."):
        load_reference_state(small("rmvpe_e2e"), without)
    del without["cnn.bias"]
    with pytest.raises(UserError, match=r"1 missing \(cnn\.bias\)"):
        load_reference_state(small(), without)
    with pytest.raises(UserError, match="1 unexpected"):
        load_reference_state(small(), {**state, "unet.te.weight": state["cnn.bias"]})


def test_the_papers_matrices_of_the_front_end_are_left_aside():
    model = small("rmvpe_paper_e2e")
    state = reference_state(model) | {"mel.mel_basis": noise(256, 1025), "mel.stft.forward_basis": noise(4, 1, 2048)}
    load_reference_state(small("rmvpe_paper_e2e"), state)


def test_weights_of_other_sizes_are_refused(tmp_path):
    torch_writer.save({"model": torch_state(small(en_out_channels=8))}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="wrongly shaped"):
        load_weights(small(), tmp_path / "model.pt")


# ----------------------------------------------------------------------------------------------------------------- card


@needs_compiler
def test_nothing_goes_to_the_host():
    networks = [
        ("rmvpe", SMALL, 24),
        ("rmvpe_e2e", {**SMALL, "kernel_size": (1, 2), "n_gru": 2}, 13),
        ("rmvpe", {**SMALL, "n_gru": 0, "timbre_filter": "none"}, 5),
    ]
    assert_agreement(networks, channels=128, least=1e-2)
