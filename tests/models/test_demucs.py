"""Demucs in the time domain, its first two generations, and Conv-TasNet."""

import numpy as np
import paddle
import pytest

import models
from dsp.resample import sinc_resample
from models import card, demucs, demucs_classic, onednn, tasnet
from models.demucs import center_trim, loudness
from models.demucs_config import DemucsConfig, DemucsV1Config, DemucsV2Config
from models.demucs_resample import downsample2, upsample2
from models.tasnet_config import TasNetConfig
from pretrained import load_reference_state, reference_state
from tests.conftest import SHARED
from tests.parity import golden
from tests.parity.__main__ import adapters, run_case

TINY = {"samplerate": 8000, "segment": 2, "sources": ("vocals", "rest"), "channels": 4, "depth": 3, "dconv_comp": 1}
NETWORKS = {
    "demucs": TINY | {"dconv_attn": 1, "dconv_lstm": 2, "norm_starts": 1, "dconv_mode": 3},
    "demucs_v1": {"channels": 4, "depth": 2},
    "demucs_v2": {"channels": 4, "depth": 2, "normalize": True},
    "tasnet": {"N": 8, "B": 6, "H": 10, "X": 2, "R": 2},
}


@pytest.fixture(autouse=True)
def cpu():
    paddle.set_device("cpu")


def noise(*shape: int, seed: int = 0) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def separate(model, mix: paddle.Tensor) -> np.ndarray:
    model.eval()
    with paddle.no_grad():
        return model(mix).numpy()


# -------------------------------------------------------------------------------------------------------- the original


@pytest.mark.parametrize(
    "name",
    [
        *(f"demucs_time_{part}" for part in ("small", "small_lstm", "small_noglu", "small_norewrite", "train")),
        *("demucs_v1_small", "demucs_v2_small", "tasnet_small"),
    ],
)
def test_golden(shared_parity, name):
    results = run_case(golden.load(shared_parity / f"{name}.npz"), adapters())
    assert all(result.ok for result in results), results


class Shapes:
    """Builds networks without memory for their weights: as the description of a program that is never run."""

    def __init__(self, monkeypatch):
        for module in (demucs, demucs_classic):
            monkeypatch.setattr(module, "torch_init_", lambda model, seed: None)
            monkeypatch.setattr(module, "rescale_module", lambda model, reference: None)
        monkeypatch.setattr(tasnet, "_xavier_normal_", lambda model, seed: None)

    def of(self, layer, config) -> dict[str, list[int]]:
        """Tensors in the original's layout."""
        program = paddle.static.Program()
        paddle.enable_static()
        try:
            with paddle.static.program_guard(program, paddle.static.Program()):
                named = [
                    (n, list(p.shape)) for n, p in layer(config, "net").named_parameters() if "dropout_state" not in n
                ]
        finally:
            paddle.disable_static()
        turned = ("linear.weight", "basis_signals.weight")
        return {name: shape[::-1] if name.endswith(turned) else shape for name, shape in named}


def total(shapes: dict[str, list[int]]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes.values())


MDX_A = {"rewrite": False}
V2_STYLE = {"dconv_mode": 0, "lstm_layers": 2, "gelu": False}


@pytest.mark.parametrize(
    ("options", "tensors", "parameters", "listing"),
    [
        ({}, 284, 133_753_064, "repro_time"),
        (MDX_A, 252, 88_984_040, "mdx_A_time"),
        (V2_STYLE, 82, 265_713_288, "demucs_v2_style"),
    ],
)
def test_published_networks_have_the_original_s_tensors(monkeypatch, options, tensors, parameters, listing):
    shapes = Shapes(monkeypatch).of(demucs.Demucs, DemucsConfig(**options))
    assert (len(shapes), total(shapes)) == (tensors, parameters)
    path = SHARED / "spec" / "state_dicts" / f"{listing}.txt"
    if path.is_file():
        assert [f"{name}\t{shape}" for name, shape in shapes.items()] == path.read_text().splitlines()


def test_published_networks_of_the_first_generations(monkeypatch):
    shapes = Shapes(monkeypatch)
    assert total(shapes.of(demucs_classic.DemucsV1, DemucsV1Config(channels=100))) == 648_548_208
    assert total(shapes.of(demucs_classic.DemucsV1, DemucsV1Config())) == 265_679_496
    assert total(shapes.of(demucs_classic.DemucsV2, DemucsV2Config(channels=48))) == 149_462_504
    convolutions = 2 * 256 * 20 + 256 * 256 + 256 * 1024 + 256 * 40 + 40 * (2 * 256 * 512 + 512 * 3)
    assert total(shapes.of(tasnet.ConvTasNet, TasNetConfig(X=10))) == convolutions + 2 * 256 + 40 * (4 * 512 + 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_go_out_and_in_under_the_original_s_names(name):
    first, second = models.create(name, **NETWORKS[name]), models.create(name, **NETWORKS[name], seed=1)
    assert len(first.state_dict()) == len(list(first.named_parameters()))
    load_reference_state(second, reference_state(first))
    for key, value in first.state_dict().items():
        assert (second.state_dict()[key].numpy() == value.numpy()).all(), key
    assert models.describe(name, **NETWORKS[name]) == first.description


# ------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("samples", [1, 2, 63, 64, 65, 1001])
def test_resampling_is_that_of_the_signal_path(samples):
    x = noise(2, 3, samples)
    np.testing.assert_allclose(upsample2(x).numpy(), sinc_resample(x.numpy(), 1, 2), atol=2e-6)
    np.testing.assert_allclose(downsample2(x).numpy(), sinc_resample(x.numpy(), 2, 1), atol=2e-6)


def test_the_loudness_of_a_long_mixture_is_exact():
    mix = 0.1 * noise(2, 2, 1_000_001) + 0.02
    mono = mix.numpy().astype(np.float64).mean(axis=1)
    mean, deviation = loudness(mix)
    np.testing.assert_allclose(mean.numpy().ravel(), mono.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(deviation.numpy().ravel(), mono.std(axis=1, ddof=1), rtol=1e-6)
    assert [float(each.item()) for each in loudness(paddle.full([1, 2, 1], 0.5))] == [0.5, 0.0]


def test_any_length_comes_back():
    model = models.create("demucs", **NETWORKS["demucs"])
    for samples in (1, 2, 999):
        stems = separate(model, noise(1, 2, samples))
        assert stems.shape == (1, 2, 2, samples) and np.isfinite(stems).all()
    assert np.isfinite(separate(model, paddle.zeros([1, 2, 500]))).all()


def test_the_stems_of_a_louder_mixture_are_louder():
    model, mix = models.create("demucs", **NETWORKS["demucs"]), noise(1, 2, 800)
    np.testing.assert_allclose(separate(model, 8 * mix), 8 * separate(model, mix), atol=2e-3)


@pytest.mark.parametrize(
    ("name", "options", "samples", "expected"),
    [
        ("demucs", {}, 441000, 441002),
        ("demucs", {}, 1, 4778),
        ("demucs", {"resample": False}, 441000, 443732),
        ("tasnet", {}, 77, 77),
    ],
)
def test_valid_lengths(name, options, samples, expected):
    shape = {"demucs": {"channels": 1, "norm_starts": 99, "dconv_mode": 0}, "tasnet": {"N": 1, "B": 1, "H": 1}}[name]
    assert models.create(name, **shape, **options).valid_length(samples) == expected


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("demucs_v1", {}),
        ("demucs_v1", {"upsample": True, "stride": 2}),
        ("demucs_v2", {}),
        ("demucs_v2", {"context": 1}),
    ],
)
def test_the_first_generations_give_the_middle_of_a_valid_length(name, options):
    model = models.create(name, **NETWORKS[name], **options)
    for samples in (1, 700):
        length = model.valid_length(samples)
        stems = separate(model, noise(1, 2, length))
        assert stems.shape[:3] == (1, 4, 2) and samples <= stems.shape[3] <= length


def test_trimming():
    x = paddle.arange(7.0)
    assert center_trim(x, 4).tolist() == [1, 2, 3, 4] and center_trim(x, 7) is x
    with pytest.raises(ValueError, match="7 places"):
        center_trim(x, 8)


@pytest.mark.parametrize("samples", [20, 29, 30, 101])
def test_conv_tasnet_is_silent_after_the_last_filter(samples):
    stems = separate(models.create("tasnet", **NETWORKS["tasnet"]), noise(2, 2, samples))
    assert stems.shape == (2, 4, 2, samples)
    assert not stems[..., samples - samples % 10 :].any() and stems[..., samples - samples % 10 - 1].any()


@pytest.mark.parametrize("taps", [2, 3])
def test_causal_blocks_do_not_see_the_future(taps):
    options = NETWORKS["tasnet"] | {"causal": True, "norm_type": "cLN", "P": taps}
    model, mix = models.create("tasnet", **options), noise(1, 2, 400)
    changed = mix.clone()
    changed[:, :, 200:] = 0
    assert (separate(model, mix)[..., :180] == separate(model, changed)[..., :180]).all()
    with pytest.raises(ValueError, match="at least 20 samples"):
        model(noise(1, 2, 19))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in NETWORKS),
        ("demucs_v1", {"upsample": True, "stride": 2}),
        ("tasnet", {"norm_type": "cLN", "mask_nonlinear": "softmax", "causal": True}),
        ("tasnet", {"norm_type": "BN"}),
    ],
)
def test_every_way_of_computing_gives_the_same(monkeypatch, name, options):
    """oneDNN, Paddle's own operators, and those that a card has: results and gradients."""
    model, mix = models.create(name, **NETWORKS[name], **options), noise(2, 2, 400)
    mix = noise(2, 2, model.valid_length(400))

    def compute() -> list[np.ndarray]:
        model.clear_gradients()
        output = model(mix)
        (output * noise(*output.shape, seed=1)).sum().backward()
        return [output.numpy(), *(p.grad.numpy() for p in model.parameters() if not p.stop_gradient)]

    expected = compute()
    monkeypatch.setattr(onednn, "usable", lambda x: False)
    results = [compute()]
    monkeypatch.setattr(card, "holds", lambda x: True)
    results.append(compute())
    for result in results:
        for ours, other in zip(result, expected, strict=True):
            np.testing.assert_allclose(ours, other, rtol=0, atol=2e-5 * max(1.0, np.abs(other).max()))
