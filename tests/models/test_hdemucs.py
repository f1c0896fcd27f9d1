"""Hybrid Demucs: its layers, its options, and that its tensors are the original's."""

import numpy as np
import paddle
import pytest

import models
import pretrained
from models.hdemucs_blocks import DecoderLayer, EncoderLayer, LayerShape, MultiWrap
from models.hdemucs_config import HDemucsConfig
from models.hdemucs_spectrum import Spectrogram, standardise, wiener, with_phase_of
from pretrained.names import links
from runtime.errors import UserError

SMALL = {
    "sources": ("vocals", "rest"),
    "channels": 4,
    "nfft": 256,
    "depth": 5,
    "norm_starts": 2,
    "norm_groups": 2,
    "dconv_comp": 1,
    "samplerate": 8000,
    "segment": 1,
}
PLAIN = {"norm_starts": 999}
BANDS = {"norm_starts": 999, "multi_freqs": (0.1, 0.3), "multi_freqs_depth": 2}
NO_CAC = {"cac": False, "hybrid_old": True}
PUBLISHED = {  # file of names and shapes: network, options, parameters
    "repro_hybrid": ("hdemucs", {}, 83_637_832),
    "mdx_B_e51eebcc,cfa93e08": ("hdemucs", {}, 83_637_832),
    "mdx_A_7d865c68": ("hdemucs", BANDS, 83_884_248),
    "mdx_A_c511e2ab": ("hdemucs", {**NO_CAC, **PLAIN}, 83_607_872),
    "mdx_B_a1d90b5c": ("hdemucs", NO_CAC, 83_633_984),
    "mdx_B_5d2d6c55": ("hdemucs", {"cac": False}, 83_633_984),
    "demucs_unittest": ("hdemucs", {"channels": 4}, 596_412),
    "torch_hdemucs": ("torch_hdemucs", {}, 83_639_368),
    "htdemucs": ("htdemucs", {}, 41_984_456),
    "htdemucs_6s": ("htdemucs_6s", {}, 27_414_996),
    "htdemucs_6s_b512": ("htdemucs_6s", {"bottom_channels": 512}, None),
}


def in_use(model):
    model.eval()  # returns nothing in older versions
    return model


def noise(*shape: int, seed: int = 0) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.fixture
def unfilled(monkeypatch):
    """Networks without first values: only names and shapes matter."""
    for module in ("models.hdemucs", "models.htdemucs"):
        monkeypatch.setattr(f"{module}.torch_init_", lambda model, seed: None)
    monkeypatch.setattr("models.hdemucs_network.rescale_module", lambda model, reference: None)
    monkeypatch.setattr("paddle.nn.LSTM.flatten_parameters", lambda self: None)
    monkeypatch.setattr("models.cross_transformer.CrossTransformer.initialise_", lambda self, seed, name: None)


@pytest.mark.parametrize("file", PUBLISHED)
def test_published_networks_have_the_original_tensors(file, unfilled, shared_parity):
    name, options, count = PUBLISHED[file]
    with paddle.LazyGuard():  # no memory for weights
        model = models.create(name, **options)
    if count is not None:
        assert sum(parameter.size for parameter in model.parameters()) == count
    lines = (shared_parity.parent / "spec" / "state_dicts" / f"{file}.txt").read_text().splitlines()
    expected = [line.removeprefix("torch_hdemucs.").split("\t")[:2] for line in lines]
    tensors = dict(model.named_parameters())
    shapes = {link.theirs: link.to_theirs(np.broadcast_to(0, tensors[link.ours].shape)).shape for link in links(model)}
    assert [[key, str(list(shape))] for key, shape in shapes.items()] == expected


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"audio_channels": 1, "channels_time": 6},
        {"hybrid": False, "cac": False, "wiener_iters": -1},
        {"cac": False, "hybrid_old": True},
        {**PLAIN, "multi_freqs": (0.4,)},
        {"rewrite": False, "dconv_mode": 2, "freq_emb": 0},
    ],
)
def test_any_length_comes_back_whole(options):
    model = in_use(models.create("hdemucs", **{**SMALL, **options}))
    channels = options.get("audio_channels", 2)
    with paddle.no_grad():
        for batch, samples in ((2, 1000), (1, 17), (1, 701)):
            y = model(noise(batch, channels, samples))
            assert y.shape == [batch, 2, channels, samples]
            assert np.isfinite(y.numpy()).all()
    assert model.valid_length(701) == 701


def test_bands_need_frequencies():
    with pytest.raises(ValueError, match="too few"):
        models.create("hdemucs", **{**SMALL, **BANDS})(noise(1, 2, 500))


@pytest.mark.parametrize("name", ["hdemucs", "torch_hdemucs"])
def test_gradients_reach_everything_that_is_used(name):
    model = models.create(name, **SMALL)
    model(noise(1, 2, 1500)).abs().mean().backward()
    unused = {id(parameter) for parameter in model.unused_parameters()}
    reached = {id(parameter) for parameter in model.parameters() if parameter.grad is not None}
    assert reached == {id(parameter) for parameter in model.parameters()} - unused
    assert bool(unused) == (name == "torch_hdemucs")


def test_the_wiener_filter_learns():
    model = models.create("hdemucs", **SMALL, cac=False, wiener_iters=1, end_iters=1, wiener_residual=True)
    model(noise(1, 2, 1500)).abs().mean().backward()
    assert all(np.isfinite(parameter.grad.numpy()).all() for parameter in model.parameters())


def test_torchaudio_names_mean_the_same_network():
    theirs, ours = in_use(models.create("torch_hdemucs", **SMALL)), in_use(models.create("hdemucs", **SMALL))
    names = {"freq_encoder": "encoder", "freq_decoder": "decoder", "time_encoder": "tencoder"}
    names["time_decoder"] = "tdecoder"
    state = pretrained.loading.reference_state(theirs)
    renamed = {
        ".".join([names.get(key.split(".")[0], key.split(".")[0]), *key.split(".")[1:]]): state[key] for key in state
    }
    idle = {key for key in renamed if key.startswith("tencoder.2.norm1")}
    assert len(idle) == 2
    pretrained.load_reference_state(ours, {key: array for key, array in renamed.items() if key not in idle})
    with paddle.no_grad():
        x = noise(1, 2, 3000)
        assert np.array_equal(theirs(x).numpy(), ours(x).numpy())


def test_first_weights_follow_from_the_seed():
    one, same, other = (models.create("hdemucs", **SMALL, seed=seed) for seed in (1, 1, 2))
    state, again = pretrained.loading.reference_state(one), pretrained.loading.reference_state(same)
    assert all(np.array_equal(state[key], again[key]) for key in state)
    changed = pretrained.loading.reference_state(other)["encoder.0.conv.weight"]
    assert not np.array_equal(state["encoder.0.conv.weight"], changed)
    pretrained.load_reference_state(other, state)
    with paddle.no_grad():
        assert np.array_equal(in_use(one)(noise(1, 2, 900)).numpy(), in_use(other)(noise(1, 2, 900)).numpy())
    embedding = state["freq_emb.embedding.weight"]
    assert np.abs(np.diff(embedding, axis=0)[5:]).mean() < 0.5 * np.abs(embedding).mean()  # neighbours alike


def test_bands_with_equal_weights_are_the_layer_itself():
    shape = LayerShape(8, 4, freq=True, pad=True, margin=2, norm=False, norm_groups=1)
    shared = {"shape": shape, "dconv": False}
    for kind, x, own in (
        (EncoderLayer, noise(1, 3, 64, 5), {}),
        (DecoderLayer, noise(1, 3, 16, 5), {"context_freq": False}),
        (DecoderLayer, noise(1, 3, 16, 5), {"context_freq": False, "last": True}),
    ):
        arguments = {"inputs": 3, "outputs": 4, **shared, **own}
        whole, bands = kind(**arguments), MultiWrap(kind, arguments, (0.2, 0.6))
        for parameter in whole.parameters():
            parameter.set_value(noise(*parameter.shape, seed=3))
        for layer in bands.layers:
            layer.set_state_dict(whole.state_dict())
        if kind is EncoderLayer:
            expected, got = whole(x), bands(x, None)
        else:
            expected, got = whole(x, x * 0.5, None)[0], bands(x, x * 0.5, None)[0]
        assert np.abs(expected.numpy() - got.numpy()).max() < 1e-5


@pytest.mark.parametrize("options", [{}, {"short": "right"}, {"hybrid": False}])
def test_spectrograms_give_their_signal_back(options):
    spectrogram = Spectrogram(256, **options)
    for samples in (1000, 1024, 100, 3):
        x = noise(2, 2, samples)
        z = spectrogram.forward(x)
        assert z.shape[:4] == [2, 2, 2, 128]
        if options.get("hybrid", True):
            assert z.shape[4] == -(-samples // 64)
        assert spectrogram.inverse(z, samples).shape == x.shape
        nyquist = np.fft.irfft(np.where(np.arange(samples // 2 + 1) * 2 >= samples - samples / 32, 0, 1), samples)
        low = np.real(np.fft.ifft(np.fft.fft(x.numpy()) * np.fft.fft(nyquist)))
        z = spectrogram.forward(paddle.to_tensor(low.astype(np.float32)))
        error = spectrogram.inverse(z, samples).numpy() - low
        assert samples < 200 or np.abs(error[..., 200:-200]).max() < 1e-2  # all but the bin that is left out


def test_standardise_counts_one_degree_of_freedom():
    x = noise(3, 2, 5, 1001) * 3 + 2
    y, mean, deviation = standardise(x)
    flat = x.numpy().reshape(3, -1).astype(np.float64)
    assert np.allclose(mean.numpy().ravel(), flat.mean(1), atol=1e-6)
    assert np.allclose(deviation.numpy().ravel(), flat.std(1, ddof=1), rtol=1e-6)
    assert np.abs((y * (deviation + 1e-5) + mean).numpy() - x.numpy()).max() < 1e-5
    assert np.isfinite(standardise(paddle.zeros([1, 2, 10]))[0].numpy()).all()


def test_phases_of_silence_are_zero():
    z = paddle.concat([paddle.zeros([1, 1, 2, 3, 4]), noise(1, 1, 2, 3, 4)], axis=1)
    magnitude = paddle.ones([1, 2, 2, 3, 4])
    y = with_phase_of(z, magnitude, softly=False).numpy()
    assert np.allclose(np.square(y).sum(3), 1, atol=1e-6)
    assert (y[:, :, 0, 0] == 1).all() and (y[:, :, 0, 1] == 0).all()
    assert np.allclose(with_phase_of(z, magnitude, softly=True).numpy()[:, :, 0], 0)


def test_the_wiener_filter_shares_out_the_mixture():
    z, magnitude = noise(2, 2, 2, 5, 320), noise(2, 3, 2, 5, 320).abs()
    shared = wiener(z, magnitude, 2, residual=False).sum(axis=1).numpy()
    assert np.abs(shared - z.numpy()).max() < 0.05  # but for the noise that it always allows
    assert wiener(z, magnitude, 1, residual=True).shape == [2, 3, 2, 2, 5, 320]
    assert wiener(z[:, :1], magnitude[:, :, :1], 1, residual=False).shape == [2, 3, 1, 2, 5, 320]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"hybrid": False, "hybrid_old": True}, "hybrid_old"),
        ({"wiener_iters": 1}, "end_iters"),
        ({"multi_freqs": (0.5, 0.2)}, "multi_freqs"),
        ({"multi_freqs": (0.5,), "norm_starts": 0}, "norm_starts"),
        ({"nfft": 100}, "nfft"),
        ({"dconv_mode": 4}, "dconv_mode"),
        ({"segment": "1/0"}, "segment"),
        ({"sources": ("a", "a")}, "twice"),
        ({"cac": False, "wiener_iters": 1, "end_iters": 1, "audio_channels": 3}, "Wiener"),
        ({"channels": 6, "norm_groups": 4, "norm_starts": 0}, "norm_groups"),
        ({"nfft": 8, "stride": 16, "kernel_size": 2}, "depth"),
        ({"nfft": 2048}, "only with nfft=4096"),
    ],
)
def test_impossible_options_are_refused(options, word):
    with pytest.raises(UserError, match=word):
        HDemucsConfig(**options)


def test_a_golden(shared_parity):
    from tests.parity.__main__ import adapters, run_case
    from tests.parity.golden import load

    assert all(each.ok for each in run_case(load(shared_parity / "hdemucs_small_short.npz"), adapters()))
