"""The output contract of the separator with networks on waveforms, and its equality with ``apply_model``."""

import numpy as np
import pytest
import soundfile

from inference import Cancelled, Separator, apply_model
from inference.files import separate_file
from inference.naming import select
from inference.waveform import Level
from runtime.errors import UserError
from tests.inference.waves import FakeBag, FakeWave

BAG = FakeBag([FakeWave(), FakeWave(unit=64, gain=2, segment=0.3)], [[1.0, 0.5], [0.0, 2.0]])


def streamed(separator, mix, rate, size=313, **options):
    pieces = (mix[:, start : start + size] for start in range(0, mix.shape[1], size))
    blocks = list(separator.stream(pieces, len(mix), rate, **options))
    return {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}


def applied(model, mix, **options):
    """``apply_model`` on the normalised mixture ``[C, N]``."""
    mono = mix.mean(axis=0, dtype=np.float64)
    mean, scale = mono.mean(), mono.std(ddof=1) + 1e-8
    return apply_model(model, ((mix - mean) / scale).astype(np.float32)[None], **options)[0] * scale + mean


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (FakeWave(unit=64), {}),
        (FakeWave(fixed=True), {"shifts": 3, "seed": 5}),
        (FakeWave(), {"shifts": 0, "overlap": 0.6, "segment": 0.2}),
        (FakeWave(unit=64), {"split": False}),
        (BAG, {"shifts": 2, "seed": 1}),
    ],
    ids=["default", "fixed", "segment", "whole", "bag"],
)
def test_equals_apply_model_on_the_normalised_mixture(model, options, noise):
    mix = noise(2, 7777) * 0.3 + 0.1
    stems = Separator.from_model(model, **options).separate(mix)
    for stem, expected in zip(stems.values(), applied(model, mix, **options), strict=True):
        np.testing.assert_allclose(stem, expected, rtol=0, atol=2e-6)


def check_contract(separator, mix, rate):
    """Shape, sum, and the same bits twice and streamed."""
    stems = separator.separate(mix, rate, residual=True)
    assert list(stems) == ["vocals", "rest", "residual"]
    for stem in stems.values():
        assert (stem.shape, stem.dtype) == (mix.shape, np.float32)
    np.testing.assert_allclose(sum(stems.values()), mix, rtol=0, atol=1e-6)
    if mix.shape[1]:
        for again in (separator.separate(mix, rate, residual=True), streamed(separator, mix, rate, residual=True)):
            for name, stem in stems.items():
                np.testing.assert_array_equal(again[name], stem)


@pytest.mark.parametrize("samples", [0, 1, 2, 299, 300, 401, 5003])
@pytest.mark.parametrize("rate", [1000, 997, 44100])
def test_any_length_and_rate(noise, samples, rate):
    check_contract(Separator.from_model(BAG), noise(2, samples), rate)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_any_layout(noise, channels):
    check_contract(Separator.from_model(FakeWave(unit=8), shifts=2), noise(channels, 3001), 1000)


def test_batches_and_jobs_change_nothing(noise):
    mix = noise(2, 3000)
    expected = Separator.from_model(BAG).separate(mix)
    for options in ({"batch": 3}, {"jobs": 2}, {"batch": 2, "jobs": 3}):
        stems = Separator.from_model(BAG, **options).separate(mix)
        assert all(np.array_equal(stems[name], expected[name]) for name in expected)


def test_jobs_on_a_real_network_change_nothing(noise):
    import models

    options = {"samplerate": 1000, "sources": ["vocals", "rest"], "channels": 8, "depth": 2, "segment": 1}
    model = models.create("demucs", **options, lstm_layers=1)
    mix = noise(2, 5000)
    model.train()
    expected = Separator.from_model(model).separate(mix)["vocals"]
    np.testing.assert_array_equal(Separator.from_model(model, jobs=3).separate(mix)["vocals"], expected)
    assert model.training


SHARES = {"experts": [[1.0, 0.0], [0.0, 1.0]], "one weighs": [[0.3, 0.0], [0.0, 2.0]], "both": [[1.0, 0.0], [0.7, 1.0]]}


@pytest.mark.parametrize("rate", [1000, 997])
@pytest.mark.parametrize("weights", SHARES.values(), ids=SHARES)
def test_networks_without_a_say_do_not_run(noise, tmp_path, weights, rate):
    bag = FakeBag([FakeWave(), FakeWave(unit=64, gain=2, segment=0.3)], weights)
    separator = Separator.from_model(bag, shifts=2, seed=1)
    path = tmp_path / "song.wav"
    soundfile.write(path, noise(3, 5003).T * 0.3, rate, subtype="FLOAT")

    def files(name, **wishes):
        for network in bag.models:
            network.lengths.clear()
        chosen = select(separator.sources, **wishes)
        report = separate_file(separator, path, tmp_path / name, "float32", selection=chosen)
        found = {stem: soundfile.read(file, dtype="float32")[0] for stem, file in report.outputs.items()}
        return found, [bool(network.lengths) for network in bag.models]

    stems, ran = files("all")
    assert ran == [True, True]
    for stem in separator.sources:
        needed = [bool(row[separator.sources.index(stem)]) for row in weights]
        for wishes in ({"stems": [stem]}, {"two_stems": stem, "other": "none"}):
            one, ran = files(stem, **wishes)
            assert list(one) == [stem] and ran == needed
            np.testing.assert_array_equal(one[stem], stems[stem])
        one, ran = files(stem, two_stems=stem, other="minus")  # which the other networks do not matter to
        assert ran == needed
        np.testing.assert_array_equal(one[stem], stems[stem])
        np.testing.assert_allclose(one[stem] + one[f"minus_{stem}"], noise(3, 5003).T * 0.3, rtol=0, atol=1e-6)
        one, ran = files(stem, two_stems=stem)
        assert ran == [True, True]
        for name, other in zip(one, sorted(separator.sources, key=lambda each: each != stem), strict=True):
            np.testing.assert_array_equal(one[name], stems[other])


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_silence_and_direct_current_stay_what_they_are(value):
    stems = Separator.from_model(FakeWave()).separate(np.full((2, 1500), value, np.float32), residual=True)
    np.testing.assert_allclose(stems["vocals"], value, rtol=0, atol=1e-6)
    assert all(np.isfinite(stem).all() for stem in stems.values())


def test_blocks_are_short_whatever_the_length(noise):
    separator = Separator.from_model(BAG)
    blocks = (noise(2, 1000, seed) for seed in range(50))
    assert max(block["vocals"].shape[1] for block in separator.stream(blocks, 2)) <= 900


def test_progress_and_cancel(noise):
    separator, shares, mix = Separator.from_model(BAG, shifts=2), [], noise(2, 20_000)
    separator.separate(mix, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len([share for share in shares if 0.1 < share < 0.9]) > 20
    count = iter(range(1000))
    with pytest.raises(Cancelled):
        separator.separate(mix, cancel=lambda: next(count) > 10)


def test_space_on_disk(noise):
    separator = Separator.from_model(BAG)
    assert separator.scratch_bytes(1000, 2, 1000) == 4 * 1000 * (2 + 2)
    assert separator.scratch_bytes(1000, 1, 2000) == 4 * 1000 * (1 + 1)


def test_level_is_mean_and_deviation():
    x = np.random.default_rng(0).standard_normal(1000) + 3
    level = Level()
    for part in np.split(x, [1, 5, 5, 700]):
        level.push(part)
    assert level.mean == pytest.approx(x.mean(), rel=1e-12)
    assert level.deviation == pytest.approx(x.std(ddof=1), rel=1e-12)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mwf": True}, "mwf has no meaning for a network on waveforms"),
        ({"mask_extension": "average"}, "mask_extension has no meaning"),
        ({"segment": 1.0}, "segments of 0.4 s at most"),
        ({"segment": 0.2, "split": False}, "exclude each other"),
        ({"precision": "bf16"}, "float32 only"),
        ({"engine": "program"}, "leave --engine program out"),
        ({"engine": "fast"}, "none of auto, program, eager"),
        ({"jobs": 0}, "jobs=0"),
    ],
)
def test_refusals(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Separator.from_model(FakeWave(fixed=True), **options)


def test_what_concerns_waveforms_is_refused_for_magnitudes(small_model):
    for options in ({"split": False}, {"jobs": 2}):
        with pytest.raises(UserError, match="no meaning for a network on magnitudes"):
            Separator.from_model(small_model, **options)


def test_a_whole_song_that_is_too_long(noise):
    separator = Separator.from_model(FakeWave(fixed=True), split=False, shifts=0)
    assert separator.separate(noise(2, 400))["vocals"].shape == (2, 400)
    with pytest.raises(UserError, match="leave --no-split out"):
        separator.separate(noise(2, 401))
