"""BandSplitRNN: bands, options, lengths, silence, and what its two kinds of normalisation have in common."""

import copy

import numpy as np
import paddle
import pytest

import models
import pretrained
from models import onednn
from models.bsrnn_config import SCHEMES, BSRNNConfig, band_widths
from pretrained.names import links
from runtime.errors import UserError

SMALL = {"fc_dim": 8, "rnn_dim": 6, "num_layers": 2, "mlp_dim": 10}
FRAMES, LENGTH = 8, 7 * 512
V7 = [5, 5, 4, 5, 5, 4, 5, 5, 4, 5, 12, 11, 12, 11, 12, 12, 11, 12, 11, 12, 12, 11, 23, 24, 23, 23, 23, 24, 23, 23]
V7 += [46, 47, 46, 47, 46, 47, 46, 47, 92, 93, 96]
KINDS = [
    {},
    {"t_timesteps": FRAMES},
    {"bottleneck_layer": "att"},
    {"rnn_type": "GRU", "bidirectional": False},
    {"complex_as_channel": False, "is_mono": True},
]


@pytest.fixture(autouse=True)
def cpu():
    paddle.set_device("cpu")


def noise(*shape: int, seed: int = 0) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def small(name="bsrnn_vocals", **options):
    model = models.create(name, **{**SMALL, **options})
    model.eval()
    return model


# -------------------------------------------------------------------------------------------------------------- options


def test_bands_of_the_schemes():
    assert BSRNNConfig().widths() == V7
    counts = {name: len(band_widths(scheme, 44100, 2048)) for name, scheme in SCHEMES.items()}
    assert counts == {"V1": 23, "V2": 19, "V3": 14, "V4": 23, "V5": 28, "V6": 26, "V7": 41, "bass": 30, "drums": 55}
    assert all(sum(band_widths(scheme, 44100, 2048)) == 1025 for scheme in SCHEMES.values())
    assert band_widths(SCHEMES["bass"], 44100, 2048)[-1] == band_widths(SCHEMES["drums"], 44100, 2048)[-1] == 281


def test_a_list_that_is_a_scheme_has_its_name():
    assert BSRNNConfig(bandsplits=[list(pair) for pair in SCHEMES["drums"]]).bandsplits == "drums"
    assert BSRNNConfig(bandsplits=[[8000, 2000]]).bandsplits == ((8000, 2000),)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bandsplits": "V8"}, "no scheme of bands called 'V8'; the nearest known one is V"),
        ({"bandsplits": [[1000]]}, "list of pairs"),
        ({"bandsplits": []}, "list of pairs"),
        ({"bandsplits": [[1000, 0.5]]}, "whole Hz"),
        ({"bandsplits": [[1000, 10]]}, "the band that ends at 10 Hz has no bin|the band that ends at .* Hz has no bin"),
        ({"bandsplits": [[24000, 2000]]}, "has no bin"),
        ({"sr": 16000}, "has no bin"),
        ({"n_fft": 2047}, "must be even"),
        ({"hop_length": 2000}, "at least twice"),
        ({"rnn_type": "RNN"}, "not one of LSTM, GRU"),
        ({"bottleneck_layer": "conv"}, "not one of rnn, att"),
        ({"bottleneck_layer": "att", "fc_dim": 10}, "four heads"),
        ({"is_mono": 1}, "true or false"),
        ({"t_timesteps": 0}, "at least 2"),
        ({"t_timesteps": 3}, "too few to be reflected"),
        ({"fc_dim": 0}, "at least 1"),
        ({"target": "a/b"}, "cannot be the name of a file"),
    ],
)
def test_options_out_of_range(options, says):
    with pytest.raises(UserError, match=says):
        models.describe("bsrnn_vocals", **options)


def test_descriptions():
    found = models.describe("bsrnn_bass")
    assert found.sources == ("bass",) and found.channels == 2 and found.eats == "waveform"
    assert (found.segment, found.hop, found.fixed_length) == (134144, 23894, False)
    fixed = models.describe("bsrnn:drums", t_timesteps=91, is_mono=True)
    assert (fixed.segment, fixed.fixed_length, fixed.channels) == (46080, True, 1) and 0 < fixed.hop < fixed.segment
    assert small(t_timesteps=FRAMES).description == models.describe("bsrnn_vocals", **SMALL, t_timesteps=FRAMES)
    assert copy.copy(found) == found


@pytest.mark.parametrize(
    ("name", "parameters", "tensors"),
    [("bsrnn_vocals", 32_414_628, 780), ("bsrnn_bass", 33_371_812, 648), ("bsrnn_drums", 35_954_340, 948)],
)
def test_published_sizes(name, parameters, tensors):
    model = models.create(name, t_timesteps=263)
    assert sum(parameter.size for parameter in model.parameters()) == parameters
    names = [link.theirs for link in links(model)]
    assert len(names) == tensors and names[0] == "bandsplit.layernorms.0.weight"
    assert names[-1].startswith("maskest.mlp.") and names[-1].endswith(".mlp.3.linear.bias")
    for part in (
        "bandsplit.fcs.3.bias",
        "bandsequence.bsrnn.11.1.rnn.weight_hh_l0_reverse",
        "maskest.mlp.0.mlp.2.bias",
    ):
        assert part in names


def test_initial_weights_follow_pytorch():
    model, same, other = small(), small(), small(seed=1)
    lstm, linear = model.bandsequence.bsrnn[0][0].rnn.weight_hh_l0, model.bandsplit.fcs[0].weight
    for weight, limit in ((lstm, 6**-0.5), (linear, 20**-0.5)):
        assert 0.8 * limit < float(weight.abs().max()) <= limit
    np.testing.assert_array_equal(linear.numpy(), same.bandsplit.fcs[0].weight.numpy())
    assert (linear != other.bandsplit.fcs[0].weight).any()
    assert float(model.maskest.layernorms[0].weight.min()) == 1 and float(model.maskest.layernorms[0].bias.max()) == 0


# -------------------------------------------------------------------------------------------------------------- lengths


@pytest.mark.parametrize("length", [1, 511, 1024, 1025, 3000, 20_000])
def test_any_length(length):
    with paddle.no_grad():
        y = small()(noise(2, 2, length))
    assert y.shape == [2, 1, 2, length] and bool(paddle.isfinite(y).all())


def test_a_fixed_number_of_frames():
    model = small(t_timesteps=FRAMES)
    assert model.valid_length(100) == LENGTH and small().valid_length(100) == 100
    with paddle.no_grad():
        assert model(noise(1, 2, LENGTH)).shape == [1, 1, 2, LENGTH]
        with pytest.raises(UserError, match="t_timesteps=8 takes segments of 3584 samples and no others: 9 frames"):
            model(noise(1, 2, LENGTH + 512))


def test_a_fixed_network_whose_factors_do_not_change_with_time_is_the_free_one():
    free, fixed = small(), small(t_timesteps=FRAMES)
    weights, rng = pretrained.reference_state(free), np.random.default_rng(0)
    for name in weights:
        if "layernorms" in name:
            weights[name] = rng.uniform(0.5, 1.5, weights[name].shape).astype(np.float32)
    pretrained.load_reference_state(free, weights)
    for name, array in weights.items():
        if "bandsplit.layernorms" in name:
            weights[name] = np.repeat(array[:, None], FRAMES, axis=1)
        elif "layernorms" in name:
            weights[name] = np.repeat(array[None], FRAMES, axis=0)
    pretrained.load_reference_state(fixed, weights)
    mix = noise(2, 2, LENGTH)
    with paddle.no_grad():
        np.testing.assert_allclose(free(mix).numpy(), fixed(mix).numpy(), atol=1e-6)


@pytest.mark.parametrize("options", KINDS)
def test_examples_of_a_batch_do_not_meet(options):
    model = small(**options)
    mix = noise(2, model.config.channels, LENGTH) * paddle.to_tensor([1.0, 0.01]).reshape([2, 1, 1])
    with paddle.no_grad():
        together = model(mix).numpy()
        for number, example in enumerate(mix.split(2)):
            alone = model(example).numpy()[0]
            np.testing.assert_allclose(together[number], alone, atol=1e-5 * np.abs(alone).max())


# ------------------------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("options", KINDS)
def test_silence_and_gradients_are_finite(options):
    model = small(**options)
    model.train()
    mix = noise(2, model.config.channels, LENGTH) * paddle.to_tensor([1.0, 0.0]).reshape([2, 1, 1])
    y = model(mix)
    assert float(y[1].abs().max()) < 1e-6
    y.abs().mean().backward()
    unused = {id(parameter) for parameter in model.unused_parameters()}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (id(parameter) in unused), name
        assert parameter.grad is None or bool(paddle.isfinite(parameter.grad).all()), name
    assert bool(unused) == (options.get("bottleneck_layer") == "att")


def test_spectrum_and_waveform_belong_together():
    model, mix = small(), noise(1, 2, LENGTH)
    with paddle.no_grad():
        wave, z = model(mix, spectrum=True)
        assert z.shape == [1, 2, 2, 1025, FRAMES]
        np.testing.assert_array_equal(z.numpy(), model.spectrum(model.transform(mix)).numpy())
        np.testing.assert_array_equal(wave[:, 0].numpy(), model.inverse(z, LENGTH).numpy())
        np.testing.assert_allclose(model.inverse(model.transform(mix), LENGTH).numpy(), mix.numpy(), atol=1e-5)


def test_magnitudes_take_the_phase_of_the_mixture():
    model, mix = small(complex_as_channel=False), noise(1, 2, LENGTH)
    with paddle.no_grad():
        z = model.transform(mix)
        estimate, spectrum = model.raw(z).numpy(), model.spectrum(z).numpy()
    assert estimate.shape == (1, 2, 1025, FRAMES)
    z = z.numpy()
    whole, own = (each[:, :, 0] + 1j * each[:, :, 1] for each in (spectrum, z))
    np.testing.assert_allclose(whole, estimate * np.exp(1j * np.angle(own)), atol=1e-3)


def test_the_mask_is_raw_only():
    mix = noise(1, 2, LENGTH)
    masked, plain = small(return_mask=True), small()
    with paddle.no_grad():
        z = plain.transform(mix)
        np.testing.assert_array_equal(masked(mix).numpy(), plain(mix).numpy())
        np.testing.assert_array_equal(plain.raw(z).numpy(), plain.spectrum(z).numpy())
        assert masked.raw(z).shape == z.shape and float((masked.raw(z) - plain.raw(z)).abs().max()) > 0.1


# ------------------------------------------------------------------------------------------------ two ways to compute


@pytest.mark.parametrize("options", KINDS)
def test_without_onednn_it_is_the_same(options, monkeypatch):
    model, found = small(**options), []
    model.train()  # Paddle's recurrent layers have gradients in training only
    mix = noise(2, model.config.channels, LENGTH)
    for usable in (onednn.usable, lambda x: False):
        monkeypatch.setattr(onednn, "usable", usable)
        model.clear_gradients()
        y = model(mix)
        y.square().mean().backward()
        found.append([y.numpy(), *(each.grad.numpy() for each in model.parameters() if each.grad is not None)])
    for ours, plain in zip(*found, strict=True):
        np.testing.assert_allclose(ours, plain, atol=2e-5 * max(np.abs(plain).max(), 1e-6))
