"""Apollo: its tensors are the original's, its two ways to compute agree, and its frames and channels stand alone."""

import numpy as np
import paddle
import pytest

import models
import pretrained
from models import onednn, onednn_apollo
from models.apollo_config import ApolloConfig, DiscriminatorConfig
from models.apollo_discriminator import MultiFrequencyDiscriminator
from models.spectrum import STFT
from models.tensors import tensors
from pretrained.names import links
from runtime.errors import UserError

SMALL = {"sr": 8000, "feature_dim": 16, "layer": 2}
ODD = {"sr": 22050, "feature_dim": 20, "layer": 1}  # frames of 441 samples, heads of two features


def noise(*shape: int, seed: int = 0, level: float = 0.1) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * np.float32(level))


def restored(model, mix: paddle.Tensor) -> np.ndarray:
    model.eval()
    with paddle.no_grad():
        return model(mix).numpy()


# ---------------------------------------------------------------------------------------------- tensors of the original


def state_dict(shared_parity, name: str) -> dict[str, list[int]]:
    folder = shared_parity.parent / "spec" / "state_dicts"
    if not folder.is_dir():
        pytest.skip("needs the folder shared/spec beside the repository")
    lines = (line.split("\t") for line in (folder / f"{name}.txt").read_text().splitlines())
    return {name: [int(size) for size in shape.strip("[]").split(",")] for name, shape, *_ in lines}


@pytest.mark.parametrize(
    ("file", "name", "count"), [("apollo_256x6", "apollo", 16_539_308), ("apollo_384x6", "apollo_384", 36_604_076)]
)
def test_tensors_are_the_originals(shared_parity, monkeypatch, file, name, count):
    monkeypatch.setattr("models.apollo.torch_init_", lambda model, seed: None)
    model, wanted = models.create(name), state_dict(shared_parity, file)
    own = tensors(model)
    assert {link.theirs: own[link.ours].shape for link in links(model)} == wanted
    assert len(wanted) == 654 and sum(parameter.size for parameter in model.parameters()) == count


def test_tensors_of_the_discriminator_are_the_originals(shared_parity):
    model = MultiFrequencyDiscriminator()
    own = tensors(model)
    found = {link.theirs: own[link.ours].shape for link in links(model)}
    assert found == state_dict(shared_parity, "apollo_discriminator")
    assert sum(parameter.size for parameter in model.parameters()) == 2_771_503


@pytest.mark.parametrize("case", ["small", "small_stereo", "small_44k", "train", "train_freq_mae", "discriminator"])
def test_golden(shared_parity, case):
    from tests.parity import __main__ as parity
    from tests.parity import golden

    found = parity.run_case(golden.load(shared_parity / f"apollo_{case}.npz"), parity.adapters())
    assert found and all(each.ok for each in found), parity.report(case, found)


def test_first_weights_are_pytorchs_and_follow_the_seed():
    def weights(**options):
        return {name: value.numpy() for name, value in models.create("apollo", **SMALL, **options).named_parameters()}

    one, same, other = weights(), weights(), weights(seed=1)
    assert all(np.array_equal(one[name], same[name]) for name in one)
    for name, fan_in in (
        ("BN.3.1.weight", 3),
        ("BN.3.1.bias", 3),
        ("net.0.seq_net.blocks.0.conv.0.weight", 7),
        ("net.1.band_net.MLP_output.weight", 64),
    ):
        assert 0.5 * fan_in**-0.5 < np.abs(one[name]).max() <= fan_in**-0.5
        assert not np.array_equal(one[name], other[name])
    assert (one["net.0.band_net.input_norm.weight"] == 1).all()


# ----------------------------------------------------------------------------------------------------- what it computes


def outcome(options: dict, samples: int) -> list[np.ndarray]:
    """Output and gradients in training, and the output in evaluation."""
    model = models.create("apollo", **options)
    rng = np.random.default_rng(5)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and not name.endswith("bias"):  # the factors of the normalisations
            parameter.set_value(rng.uniform(0.7, 1.3, parameter.shape).astype(np.float32))
    mix = noise(2, 2, samples)
    y = model(mix)
    (y * noise(*y.shape, seed=1)).sum().backward()
    slopes = [parameter.grad.numpy() for parameter in model.parameters()]
    return [y.numpy(), restored(model, mix), *slopes]


@pytest.mark.parametrize(("options", "samples"), [(SMALL, 1500), (ODD, 2000), ({**SMALL, "feature_dim": 48}, 900)])
def test_onednn_computes_what_paddles_operators_do(monkeypatch, options, samples):
    if not onednn.usable(noise(1)):
        pytest.skip("this build of Paddle has no oneDNN")
    monkeypatch.setattr(onednn_apollo, "_BLOCK", 2**17)  # several blocks, the last one shorter
    quick = outcome(options, samples)
    monkeypatch.setattr(onednn, "usable", lambda x: False)
    for mine, theirs in zip(quick, outcome(options, samples), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())


def test_channels_and_examples_do_not_know_of_each_other():
    model, mix = models.create("apollo", **SMALL), noise(2, 3, 1234)
    whole = restored(model, mix)
    assert whole.shape == (2, 1, 3, 1234)
    alone = restored(model, mix[1:, 2:])
    np.testing.assert_allclose(whole[1:, :, 2:], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 79, 80, 81, 161, 400, 401])
def test_any_length_comes_back(samples):
    assert restored(models.create("apollo", **SMALL), noise(1, 1, samples)).shape == (1, 1, 1, samples)


@pytest.mark.parametrize("options", [SMALL, ODD])
def test_nothing_has_an_effect_beyond_the_reach(options):
    model = models.create("apollo", **options)
    config = model.config
    margin = model.config.reach
    length = 3 * margin // config.stride * config.stride
    mix = noise(1, 1, length)
    whole = restored(model, mix)[..., margin : length - config.stride]
    part = restored(model, mix[..., config.stride :])[..., margin - config.stride : length - 2 * config.stride]
    np.testing.assert_allclose(part, whole, rtol=0, atol=1e-6)
    nearer = restored(model, mix[..., config.stride :])[..., : margin // 2]
    assert np.abs(nearer - restored(model, mix)[..., config.stride :][..., : margin // 2]).max() > 1e-4


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-12, 1e-4])
@pytest.mark.parametrize("quick", [True, False])
def test_silence_and_whispers_are_finite_with_finite_gradients(monkeypatch, level, quick):
    if not quick:
        monkeypatch.setattr(onednn, "usable", lambda x: False)
    model = models.create("apollo", **SMALL)
    mix = noise(1, 2, 900, level=level)
    mix.stop_gradient = False
    y = model(mix)
    y.square().mean().backward()
    assert np.isfinite(y.numpy()).all() and np.isfinite(mix.grad.numpy()).all()
    assert all(np.isfinite(parameter.grad.numpy()).all() for parameter in model.parameters())


def test_an_exported_program_computes_the_same(tmp_path):
    model, mix = models.create("apollo", **{**SMALL, "layer": 1}), noise(1, 2, 2000)
    wanted = restored(model, mix)
    program = paddle.jit.to_static(model, input_spec=[paddle.static.InputSpec(mix.shape, "float32")], full_graph=True)
    paddle.jit.save(program, str(tmp_path / "apollo"))
    np.testing.assert_allclose(paddle.jit.load(str(tmp_path / "apollo"))(mix).numpy(), wanted, rtol=0, atol=1e-6)


def test_valid_lengths_are_whole_frames():
    model = models.create("apollo", **SMALL)
    assert [model.valid_length(length) for length in (1, 160, 161, 1000)] == [160, 160, 240, 1040]


def test_the_transform_of_an_odd_size_and_its_inverse():
    x = noise(2, 1300)
    stft = STFT(441, 220)
    np.testing.assert_allclose(stft.inverse(stft.forward(x), 1300).numpy(), x.numpy(), rtol=0, atol=1e-5)


# -------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"feature_dim": 24}, "gives each of 8 heads an odd number of features; 32 is the nearest"),
        ({"feature_dim": 8}, "16 is the nearest"),
        ({"sr": 8000, "win": 10}, "80 samples; 80 bands need at least 160 .win=20"),
        ({"win": 0}, "win=0 must be a length in milliseconds above 0"),
        ({"layer": 0}, "layer=0 must be at least 1"),
        ({"segment": "1/100"}, "segment=1/100 s is less than a frame"),
        ({"channels": 0}, "channels=0"),
    ],
)
def test_options_that_cannot_be_are_a_sentence(options, says):
    with pytest.raises(UserError, match=says):
        models.describe("apollo", **options)


def test_bands_are_the_originals():
    config = ApolloConfig()
    assert (config.size, config.stride, config.widths()) == (882, 441, [5] * 79 + [47])
    for options in ({"sr": 22050}, {"sr": 48000, "win": 40}, {"win": 20.5}):
        config = ApolloConfig(**options)
        assert sum(config.widths()) == config.size // 2 + 1 and min(config.widths()) > 0


@pytest.mark.parametrize("options", [{}, {"segment": 3}, {"segment": 1}, {"segment": "1/25"}, {"layer": 1, **ODD}])
def test_chunks_lie_whole_frames_apart_and_leave_their_margins_out(options):
    description, config = models.describe("apollo", **options), ApolloConfig(**options)
    for count in (description.segment, description.hop, description.context):
        assert count % config.stride == 0
    assert 0 < description.hop <= description.segment - 2 * description.context
    assert description.sources == ("restored",) and description.channels == 2
    if description.segment > 3 * config.reach:
        assert description.context == config.reach


# -------------------------------------------------------------------------------------------------------- discriminator


def test_singular_vectors_approach_the_largest_in_training_alone():
    model, x = MultiFrequencyDiscriminator(DiscriminatorConfig(nch=1, window=[32])), noise(1, 1, 400)
    layer = model.discriminators[0].discriminator[1][0]
    largest = np.linalg.svd(layer.weight_orig.flatten(1).numpy())[1][0]
    model.eval()
    before = layer.weight_u.numpy()
    model(x)
    assert np.array_equal(layer.weight_u.numpy(), before)
    model.train()
    for _ in range(60):
        model(x)
    model.eval()
    scale = layer.weight_orig.numpy()[0, 0, 0, 0] / layer.weight().numpy()[0, 0, 0, 0]
    assert scale == pytest.approx(largest, rel=1e-3)
    assert "discriminators.0.discriminator.1.0.weight_u" in model.state_dict()


def test_the_discriminator_hears_no_level_and_fewer_bins_at_lower_rates():
    model, x = MultiFrequencyDiscriminator(DiscriminatorConfig(window=(32, 64))), noise(1, 2, 800)
    model.eval()
    (verdicts, maps), (louder, _) = model(x), model(3 * x)
    assert len(maps) == 2 and [len(each) for each in maps] == [6, 6]
    np.testing.assert_allclose(verdicts[1].numpy(), louder[1].numpy(), rtol=1e-4, atol=1e-6)
    assert model(x, sample_rate=22050)[1][1][0].shape[2] == 16 and maps[1][0].shape[2] == 33
    silent = model(paddle.zeros([1, 2, 800]))[0]
    assert all(np.isfinite(verdict.numpy()).all() for verdict in silent)


def test_the_discriminator_says_what_does_not_fit():
    with pytest.raises(ValueError, match="1 channels came, the discriminator is for 2"):
        MultiFrequencyDiscriminator(DiscriminatorConfig(window=[32]))(noise(1, 1, 400))
    with pytest.raises(UserError, match=r"window=\[\] must be a list of frame lengths"):
        DiscriminatorConfig(window=[])
    with pytest.raises(UserError, match="do not fit apollo_discriminator"):
        pretrained.load_reference_state(MultiFrequencyDiscriminator(DiscriminatorConfig(window=[32])), {})
