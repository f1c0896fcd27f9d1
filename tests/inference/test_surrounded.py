"""Chunks of which only the middle counts: the stream by itself, and the separator with Apollo."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from dsp.overlap_add import inner_window
from inference import Separator
from inference.surrounded import Surrounded, SurroundedStream
from runtime.errors import UserError

SIZE, HOP, MARGIN = 400, 290, 40
OPTIONS = {"sr": 8000, "win": 20, "feature_dim": 16, "layer": 2, "segment": 1.5}


def unchanged(batch):
    return batch[:, None]


def hearing(reach):
    """Two stems of a network that hears exactly ``reach`` samples to both sides, and nothing outside of its chunk."""

    def run(batch):
        near = sliding_window_view(np.pad(batch, [(0, 0), (0, 0), (reach, reach)]), 2 * reach + 1, axis=-1)
        loudest = np.abs(near).max(axis=-1)
        return np.stack([batch * loudest, near[..., 0] - near[..., -1]], axis=1)

    return run


def separated(stream, mix, size=313):
    blocks = [stream.push(mix[:, start : start + size]) for start in range(0, mix.shape[1] + 1, size)]
    return np.concatenate([*blocks, *stream.finish()], axis=-1)


@pytest.mark.parametrize("samples", [0, 1, MARGIN, HOP, SIZE - 1, SIZE, SIZE + 1, SIZE + HOP, SIZE + HOP + 1, 5003])
@pytest.mark.parametrize(
    ("hop", "margin"), [(HOP, MARGIN), (SIZE - 2 * MARGIN, MARGIN), (70, MARGIN), (SIZE, 0), (7, 190)]
)
def test_the_song_might_as_well_be_one_chunk(noise, samples, hop, margin):
    mix, how = noise(2, samples), Surrounded(SIZE, hop, margin, unit=10, batch=3)
    (same,) = separated(SurroundedStream(unchanged, 1, 2, how), mix)
    assert (same.shape, same.dtype) == (mix.shape, np.float32)
    np.testing.assert_allclose(same, mix, rtol=1e-6, atol=0)
    run = hearing(margin)
    expected = run(mix[None])[0] if samples else np.zeros((2, 2, 0))
    np.testing.assert_allclose(separated(how.stream(run, 2, 2), mix), expected, rtol=2e-6, atol=1e-7)


def test_a_network_that_hears_further_than_the_margin_shows_it(noise):
    mix, how = noise(2, 3000), Surrounded(SIZE, HOP, MARGIN)
    run = hearing(MARGIN + 30)
    assert np.abs(separated(how.stream(run, 2, 2), mix) - run(mix[None])[0]).max() > 0.01


@pytest.mark.parametrize(("batch", "jobs"), [(1, 1), (3, 1), (2, 2)])
def test_blocks_of_any_size_give_the_same_bits(noise, batch, jobs):
    mix, how = noise(2, 3001), Surrounded(SIZE, HOP, MARGIN, unit=16, batch=batch, jobs=jobs)
    expected, *others = (
        separated(how.stream(hearing(50), 2, 2), mix, size) for size in (1, SIZE, SIZE + 1, 1000, 3001)
    )
    for stems in others:
        np.testing.assert_array_equal(stems, expected)


def test_what_is_held_does_not_grow_and_the_last_chunk_is_no_longer_than_it_must(noise):
    taken, given, lengths = 0, 0, []

    def run(batch):
        lengths.append(batch.shape[-1])
        return unchanged(batch)

    stream = SurroundedStream(run, 1, 2, Surrounded(SIZE, HOP, MARGIN, unit=16))
    for seed in range(200):
        taken += 97
        given += stream.push(noise(2, 97, seed)).shape[-1]
        assert taken - given <= SIZE + 97
    assert sum(final.shape[-1] for final in stream.finish()) == taken - given
    assert lengths == [SIZE] * (len(lengths) - 1) + [-(-(taken - (len(lengths) - 1) * HOP) // 16) * 16]


def test_windows_add_up_to_one():
    for hop in (200, 290, 320):
        window = inner_window(SIZE, hop, MARGIN).astype(np.float64)
        total = np.zeros(SIZE + 10 * hop)
        for start in range(0, 10 * hop, hop):
            total[start : start + SIZE] += window
        np.testing.assert_allclose(total[SIZE : 8 * hop], 1, atol=1e-6)
    with pytest.raises(ValueError, match="leave gaps"):
        inner_window(SIZE, 321, MARGIN)


# -------------------------------------------------------------------------------------------------------------- Apollo


@pytest.fixture(scope="module")
def apollo():
    """A small network whose every frame, band and channel has a say in what comes out."""
    import paddle

    import models

    model = models.create("apollo", **OPTIONS)
    generator = np.random.default_rng(3)
    for parameter in model.parameters():
        noise = paddle.to_tensor(generator.standard_normal(parameter.shape).astype(np.float32))
        parameter.set_value(parameter * 3 if parameter.ndim > 1 else parameter + 0.3 * noise)
    model.eval()
    return model


def whole(model, mix):
    import paddle

    with paddle.no_grad():
        return model(paddle.to_tensor(mix[None])).numpy()[0, 0]


@pytest.fixture(scope="module")
def song(apollo):
    """A song of whole frames and what the network makes of it in one piece."""
    mix = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 400 * apollo.unit)).astype(np.float32)
    return mix, whole(apollo, mix)


def test_nothing_is_heard_beyond_the_margin(apollo, song):
    mix, expected = song
    other, middle = mix.copy(), mix.shape[1] // 2
    other[:, middle] += 1
    changed = np.abs(whole(apollo, other) - expected).max(axis=0)
    (places,) = np.nonzero(changed > 1e-5 * np.abs(expected).max())
    reach = max(middle - places[0], places[-1] - middle)
    assert 0.8 * apollo.description.context < reach <= apollo.description.context


@pytest.mark.parametrize(
    "options", [{}, {"batch": 3}, {"overlap": 0.6}, {"overlap": 0.3}, {"segment": 0.8}], ids=lambda each: str(each)
)
def test_chunks_are_what_they_are_in_the_whole_song(apollo, song, options):
    mix, expected = song
    restored = Separator.from_model(apollo, **options).separate(mix)["restored"]
    error = ((restored - expected) ** 2).sum() / (expected**2).sum()
    assert 10 * np.log10(error) < -100


def test_chunks_without_a_margin_are_not(apollo, song):
    mix, expected = song
    restored = Separator.from_model(apollo, overlap=0).separate(mix)["restored"]
    assert np.abs(restored - expected).max() > 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("window", ["normalised", "reference", "reference:linear"])
@pytest.mark.parametrize(
    ("channels", "rate", "samples"), [(1, 8000, 13001), (3, 11025, 9001), (2, 8000, 0), (2, 8000, 7)]
)
def test_length_rate_and_channels_are_the_inputs(apollo, noise, window, channels, rate, samples):
    mix, separator = noise(channels, samples), Separator.from_model(apollo, window=window)
    stems = separator.separate(mix, rate, residual=True)
    assert list(stems) == ["restored", "residual"] and separator.sources == ("restored",)
    assert all((stem.shape, stem.dtype) == (mix.shape, np.float32) for stem in stems.values())
    np.testing.assert_allclose(sum(stems.values()), mix, rtol=0, atol=1e-6)
    pieces = (mix[:, start : start + 3131] for start in range(0, samples, 3131))
    blocks = [block["restored"] for block in separator.stream(pieces, channels, rate)]
    if samples:
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), stems["restored"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"window": "reference:hann"},
            "reference:hann is none of normalised, reference, reference:linear, which apollo",
        ),
        ({"window": "reference:linear", "overlap": 0.6}, "overlap by half at most, not by 0.6"),
        ({"segment": 0.01}, "segment=0.01 s is less than a frame"),
        ({"split": False}, "split has no meaning"),
    ],
)
def test_refusals(apollo, options, sentence):
    with pytest.raises(UserError, match=sentence):
        Separator.from_model(apollo, **options)


def test_other_networks_have_no_such_window():
    import models

    model = models.create(
        "bsrnn_vocals",
        sr=8000,
        n_fft=256,
        hop_length=64,
        fc_dim=8,
        rnn_dim=6,
        num_layers=1,
        mlp_dim=10,
        bandsplits=[[1000, 250]],
        segment_samples=4096,
    )
    with pytest.raises(UserError, match="window=reference:linear is none of"):
        Separator.from_model(model, window="reference:linear")
