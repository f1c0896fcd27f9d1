"""The output contract of the separator on arrays and streams."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dsp.stft import SpleeterSTFT
from inference import Cancelled, Options, Separator
from inference.spectral import ratio_masks
from inference.wiener import wiener
from runtime.errors import UserError
from tests.parity import golden

HOP = 128


def streamed(separator, mix, rate, size=313, **options):
    pieces = (mix[:, start : start + size] for start in range(0, mix.shape[1], size))
    blocks = list(separator.stream(pieces, len(mix), rate, **options))
    return {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}


def check_contract(separator, mix, rate):
    """Shape, sum, and the same bits twice and streamed."""
    stems = separator.separate(mix, rate, residual=True)
    assert list(stems) == [*separator.sources, "residual"]
    for stem in stems.values():
        assert stem.shape == mix.shape
        assert stem.dtype == np.float32
    np.testing.assert_allclose(sum(stems.values()), mix, rtol=0, atol=1e-6)  # full scale is 1: -120 dB
    if mix.shape[1]:
        for again in (separator.separate(mix, rate, residual=True), streamed(separator, mix, rate, residual=True)):
            assert all(np.array_equal(again[name], stem) for name, stem in stems.items())


@pytest.mark.parametrize("samples", [0, 1, HOP - 1, HOP, HOP + 1, 7919, 64 * HOP - 512, 20000])
def test_any_length(small_model, noise, samples):
    check_contract(Separator.from_model(small_model), noise(2, samples), 8000)


@pytest.mark.parametrize("channels", [1, 3, 6, 9])
def test_any_layout(small_model, noise, channels):
    check_contract(Separator.from_model(small_model), noise(channels, 3001), 8000)


@pytest.mark.parametrize("rate", [7999, 11025, 44100, 48000, 192000])
@pytest.mark.parametrize("samples", [0, 1, HOP + 1, 9973])
def test_any_rate(small_model, noise, rate, samples):
    check_contract(Separator.from_model(small_model), noise(2, samples), rate)


@pytest.mark.parametrize(
    "options",
    [
        {"overlap": 0.5},
        {"overlap": 0.3, "batch": 3},
        {"segment": 2.1},
        {"shifts": 3},
        {"mwf": True},
        {"mask_extension": "average", "exponent": 1.0},
        {"mwf": True, "shifts": 2, "overlap": 0.25, "batch": 2},
    ],
    ids=lambda options: "-".join(options),
)
def test_any_option(small_model, noise, options):
    check_contract(Separator.from_model(small_model, **options), noise(3, 9973), 11025)


@pytest.mark.parametrize("engine", ["eager", "program"])
@pytest.mark.parametrize(
    "name", ["2stems_small", "2stems_small_average", "2stems_small_mwf", "4stems_small", "5stems_small"]
)
def test_equals_the_original(shared_parity, name, engine):
    import models
    import pretrained
    from models.spleeter_config import from_official

    case = golden.load(shared_parity / f"spleeter_{name}.npz")
    model = models.create("spleeter_2stems", **from_official(case.config))
    pretrained.load_reference_state(model, case.state)
    separator = Separator.from_model(
        model,
        engine,
        exponent=case.config["separation_exponent"],
        mask_extension=case.config["mask_extension"],
        mwf=case.config.get("MWF", False),
    )
    for stem, waveform in separator.separate(case.inputs["waveform"].T).items():
        comparison = case.compare(f"wav_{stem}", waveform.T)
        assert comparison.ok, comparison


def test_is_masked_segments_of_the_network(small_model, noise):
    import paddle

    mix = noise(2, 12345)
    stft = SpleeterSTFT(512, 128)
    spectrum = stft.forward(mix)
    frames = spectrum.shape[1]
    magnitude = np.pad(np.abs(spectrum[..., :192]), [(0, 0), (0, -frames % 64), (0, 0)])
    with paddle.no_grad():
        parts = [
            small_model(paddle.to_tensor(magnitude[None, :, start : start + 64])).numpy()[0]
            for start in range(0, frames, 64)
        ]
    magnitudes = np.concatenate(parts, axis=2)[:, :, :frames]
    masked = ratio_masks(magnitudes, 2, 257) * spectrum
    filtered = np.pad(wiener(magnitudes, spectrum[..., :192]), [(0, 0), (0, 0), (0, 0), (0, 65)])
    for mwf, expected in [(False, masked), (True, filtered)]:
        stems = Separator.from_model(small_model, mwf=mwf).separate(mix)
        for i, stem in enumerate(stems.values()):
            np.testing.assert_allclose(stem, stft.inverse(expected[i], 12345), rtol=0, atol=2e-6)


@pytest.mark.parametrize("rate", [4000, 8000, 44100, 48000])
def test_resampling_does_not_move_or_scale(keep_all, rate):
    time = np.arange(3 * rate) / rate
    mix = np.stack([np.sin(2 * np.pi * 440 * time), np.cos(2 * np.pi * 1000 * time)]).astype(np.float32)
    stems = Separator.from_model(keep_all, shifts=1).separate(mix, rate)
    inside = slice(rate // 5, -rate // 5)  # the jump at the ends has bands that the network does not hold
    np.testing.assert_allclose(stems["vocals"][:, inside], mix[:, inside], rtol=0, atol=2e-6)
    assert np.abs(stems["accompaniment"]).max() < 1e-6


def test_high_bands_go_to_the_residual(keep_all):
    time = np.arange(30000) / 48000
    mix = np.sin(2 * np.pi * 9000 * time)[None].astype(np.float32) * np.hanning(30000).astype(np.float32)
    stems = Separator.from_model(keep_all).separate(mix, 48000, residual=True)
    assert np.abs(stems["vocals"]).max() < 1e-4
    np.testing.assert_allclose(stems["residual"], mix, atol=2e-4)


def test_mono_is_the_mean_of_a_duplicated_channel(small_model, noise):
    separator = Separator.from_model(small_model)
    mono = noise(1, 5000)
    alone, double = separator.separate(mono), separator.separate(np.repeat(mono, 2, axis=0))
    for name, stem in alone.items():
        np.testing.assert_allclose(stem[0], double[name].mean(axis=0), atol=1e-7)


def test_surround_is_separated_in_pairs(small_model, noise):
    separator = Separator.from_model(small_model)
    mix = noise(6, 4000)
    stems = separator.separate(mix)
    for group in ([0, 1], [2], [3], [4, 5]):
        part = separator.separate(mix[group])
        for name, stem in part.items():
            np.testing.assert_array_equal(stems[name][group], stem)


def test_shifts_follow_the_seed(small_model, noise):
    mix = noise(2, 9000)
    one, same, other = (
        Separator.from_model(small_model, shifts=2, seed=seed).separate(mix)["vocals"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-6


def test_progress_and_cancel(small_model, noise):
    separator = Separator.from_model(small_model)
    for options in ({}, {"mwf": True}):
        shares = []
        Separator.from_model(small_model, **options).separate(noise(2, 400_000), progress=shares.append)
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        assert len(shares) > 5
    asked = iter([False, False, True])
    with pytest.raises(Cancelled):
        separator.separate(noise(2, 400_000), cancel=lambda: next(asked))


def test_stream_delivers_before_the_end(small_model, noise):
    taken = []

    def blocks():
        for number in range(40):
            taken.append(number)
            yield noise(2, 8000, number)

    next(iter(Separator.from_model(small_model).stream(blocks(), 2, 8000)))
    assert len(taken) < 5


@pytest.mark.parametrize("engine", ["eager", "program"])
def test_threads_may_share_a_separator(small_model, noise, engine):
    separator = Separator.from_model(small_model, engine)
    mixes = [noise(2, 40_000, seed) for seed in range(4)]
    expected = [separator.separate(mix)["vocals"] for mix in mixes]
    with ThreadPoolExecutor(4) as pool:
        for want, stems in zip(expected, pool.map(separator.separate, mixes), strict=True):
            np.testing.assert_array_equal(stems["vocals"], want)


def test_keeps_the_mode_of_the_model(small_model, noise):
    small_model.train()
    try:
        Separator.from_model(small_model).separate(noise(2, 100))
        assert small_model.training
    finally:
        small_model.eval()


def test_refuses_what_is_not_music(small_model, noise):
    separator = Separator.from_model(small_model)
    mix = noise(2, 1000)
    mix[1, 500] = np.nan
    with pytest.raises(UserError, match="not numbers"):
        separator.separate(mix)
    with pytest.raises(ValueError, match="axes"):
        separator.separate(np.zeros(100, np.float32))
    for channels in (1, 3):
        with pytest.raises(ValueError, match=r"\[2 channels, samples\]"):
            list(separator.stream([noise(channels, 100)], 2))
    with pytest.raises(ValueError, match="positive"):
        separator.separate(noise(2, 100), 0)
    with pytest.raises(ValueError, match="not of int16"):
        separator.separate(np.ones((2, 100), np.int16))


@pytest.mark.parametrize(
    "options",
    [
        {"segment": 0},
        {"segment": float("inf")},
        {"segment": float("nan")},
        {"overlap": 1.0},
        {"shifts": -1},
        {"seed": -1},
        {"batch": 0},
        {"mask_extension": "mirror"},
        {"exponent": 0},
        {"exponent": float("nan")},
    ],
)
def test_refuses_options_out_of_range(options):
    with pytest.raises(UserError, match=next(iter(options))):
        Options(**options)


def test_defaults_come_from_the_configuration(small_model):
    configured = {"exponent": 1.0, "mask_extension": "average", "mwf": True}
    options = Separator.from_model(small_model, separation=configured).options
    assert (options.exponent, options.mask_extension, options.mwf) == (1.0, "average", True)
    options = Separator.from_model(small_model, separation=configured, mwf=False, mask_extension="zeros").options
    assert (options.exponent, options.mask_extension, options.mwf) == (1.0, "zeros", False)
