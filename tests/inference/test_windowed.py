"""Separation of overlapping chunks of a stream: the stream by itself, and the separator with such networks."""

import numpy as np
import pytest

from inference import Cancelled, Separator
from inference.options import Options
from inference.windowed import WINDOWS, WindowedStream, Windowing
from runtime.errors import UserError
from tests.inference.waves import FakeBag, FakeWave

SIZE, HOP = 400, 71
SHAPES = {
    "hann": lambda x: 0.5 - 0.5 * np.cos(x),
    "hamming": lambda x: 0.54 - 0.46 * np.cos(x),
    "blackman": lambda x: 0.42 - 0.5 * np.cos(x) + 0.08 * np.cos(2 * x),
    "bartlett": lambda x: 1 - np.abs(x / np.pi - 1),
}


def fake(gain=1.0, segment=SIZE / 1000, hop=HOP, **facts):
    return FakeWave(gain=gain, segment=segment, hop=hop, **facts)


def unchanged(batch):
    """The estimates of a network that gives everything to its only stem."""
    return batch[:, None]


def separated(stream, mix, size=313):
    blocks = [stream.push(mix[:, start : start + size]) for start in range(0, mix.shape[1] + 1, size)]
    return np.concatenate([*blocks, *stream.finish()], axis=-1)


def plainly(network, mix, size=SIZE, hop=HOP, window="normalised"):
    """What the stream computes, with everything in memory and window sums in float64."""
    length = mix.shape[1]
    places = range(hop - size, length, hop)
    padded = np.pad(mix, [(0, 0), (size, 2 * size)])
    angles = 2 * np.pi * np.arange(size) / size
    weights = {
        "normalised": np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2,
        "reference": np.full(size, hop / size),
        **{f"reference:{name}": shape(angles) for name, shape in SHAPES.items()},
    }[window]
    total, weight = 0, np.zeros(length + 3 * size)
    for start in places:
        now = slice(start + size, start + 2 * size)
        if np.isscalar(total):
            total = np.zeros((len(network.description.sources), len(mix), length + 3 * size))
        total[..., now] += weights * network.compute(padded[None, :, now])[0]
        weight[now] += weights
    inside = slice(size, size + length)
    return total[..., inside] / (weight[inside] if window == "normalised" else 1)


@pytest.mark.parametrize("samples", [0, 1, 2, HOP, SIZE - HOP, SIZE - 1, SIZE, SIZE + 1, 5003])
@pytest.mark.parametrize("hop", [SIZE, 300, 131, HOP])
def test_what_changes_nothing_changes_nothing(noise, samples, hop):
    mix = noise(2, samples)
    stream = WindowedStream(unchanged, 1, 2, Windowing(SIZE, hop, batch=3))
    (stem,) = separated(stream, mix)
    assert stem.shape == mix.shape
    assert stem.dtype == np.float32
    np.testing.assert_allclose(stem, mix, rtol=1e-6, atol=0)


@pytest.mark.parametrize("window", WINDOWS)
def test_every_window_by_hand(noise, window):
    mix, network = noise(2, 3001), fake()
    stems = separated(WindowedStream(network.compute, 2, 2, Windowing(SIZE, HOP, window, batch=4)), mix)
    np.testing.assert_allclose(stems, plainly(network, mix, window=window), rtol=0, atol=3e-6)


def test_the_level_that_the_references_window_gives_rises_and_falls():
    """5 or 6 chunks of 134144 samples every 23894 are divided by 5.614."""
    size, hop = 134144, 23894
    stream = WindowedStream(unchanged, 1, 1, Windowing(size, hop, "reference"))
    (level,) = separated(stream, np.ones((1, 200_000), np.float32))
    assert {round(float(value), 3) for value in np.unique(level.round(5))} == {0.891, 1.069}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("jobs", [1, 2])
def test_blocks_of_any_size_give_the_same_bits(noise, batch, jobs):
    mix, how = noise(2, 3001), Windowing(SIZE, HOP, batch=batch, jobs=jobs)
    expected, *others = (
        separated(WindowedStream(fake().compute, 2, 2, how), mix, size) for size in (1, 71, 400, 1000, 3001)
    )
    for stems in others:
        np.testing.assert_array_equal(stems, expected)


def test_a_buffer_may_be_used_again(noise):
    mix, stream = noise(2, 3000), WindowedStream(fake().compute, 2, 2, Windowing(SIZE, HOP, batch=3))
    buffer, stems = np.empty((2, 100), np.float32), []
    for block in np.split(mix, 30, axis=1):
        buffer[:] = block
        stems.append(stream.push(buffer))
    stems = np.concatenate([*stems, *stream.finish()], axis=-1)
    np.testing.assert_array_equal(
        stems, separated(WindowedStream(fake().compute, 2, 2, Windowing(SIZE, HOP, batch=3)), mix)
    )


def test_what_is_held_does_not_grow(noise):
    batch, taken, given, blocks = 3, 0, 0, []
    stream = WindowedStream(unchanged, 1, 2, Windowing(SIZE, HOP, batch=batch))
    for seed in range(200):
        block = noise(2, 97, seed)
        taken += block.shape[1]
        blocks.append(stream.push(block).shape[-1])
        given += blocks[-1]
        assert taken - given < SIZE + batch * HOP
    assert max(blocks) <= batch * HOP


def check_contract(separator, mix, rate):
    """Shape, sum, and the same bits twice and streamed."""
    stems = separator.separate(mix, rate, residual=True)
    assert list(stems) == [*separator.sources, "residual"]
    for stem in stems.values():
        assert (stem.shape, stem.dtype) == (mix.shape, np.float32)
    np.testing.assert_allclose(sum(stems.values()), mix, rtol=0, atol=1e-6)
    pieces = (mix[:, start : start + 313] for start in range(0, mix.shape[1], 313))
    blocks = list(separator.stream(pieces, len(mix), rate, residual=True))
    again = separator.separate(mix, rate, residual=True)
    for name, stem in stems.items():
        np.testing.assert_array_equal(again[name], stem)
        if blocks:
            np.testing.assert_array_equal(np.concatenate([block[name] for block in blocks], axis=1), stem)


BAG = FakeBag(
    [
        fake(sources=("vocals",)),
        fake(2.0, 0.3, 100, sources=("drums",)),
        fake(0.5, 0.5, 250, sources=("bass",), unit=64),
    ],
    [],
)


@pytest.mark.parametrize("model", [fake(), BAG], ids=["network", "bag"])
@pytest.mark.parametrize("samples", [0, 1, 299, 401, 5003])
@pytest.mark.parametrize("rate", [1000, 997, 44100])
def test_any_length_and_rate(noise, model, samples, rate):
    check_contract(Separator.from_model(model), noise(2, samples), rate)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_any_layout(noise, channels):
    check_contract(Separator.from_model(BAG, shifts=2, batch=2), noise(channels, 3001), 1000)


def test_the_song_has_no_say_in_the_level_of_a_chunk(noise):
    """What comes later in the song, however loud, changes nothing in chunks that do not hear it."""
    quiet, loud = noise(2, 6000), noise(2, 6000)
    loud[:, 3000:] *= 100
    stems = [Separator.from_model(fake()).separate(mix)["vocals"] for mix in (quiet, loud)]
    np.testing.assert_array_equal(stems[0][:, : 3000 - SIZE], stems[1][:, : 3000 - SIZE])


def test_members_of_a_bag_are_separated_as_if_alone(noise):
    mix = noise(2, 3001)
    stems = Separator.from_model(BAG).separate(mix)
    assert list(stems) == ["vocals", "drums", "bass"]
    for network in BAG.models:
        facts = network.description
        (expected,) = plainly(network, mix, facts.segment, facts.hop)
        np.testing.assert_allclose(stems[facts.sources[0]], expected, rtol=0, atol=3e-6)


def test_options_are_those_of_each_network(noise):
    mix = noise(2, 3001)
    segments = Separator.from_model(BAG, segment=0.2).separate(mix)
    overlaps = Separator.from_model(BAG, overlap=0.6).separate(mix)
    both = Separator.from_model(BAG, segment=0.2, overlap=0.6, window="reference").separate(mix)
    for network, share in zip(BAG.models, (HOP / SIZE, 1 / 3, 0.5), strict=True):
        (stem,), size = network.description.sources, network.description.segment
        sized = -(-200 // network.unit) * network.unit
        for stems, expected in (
            (segments, plainly(network, mix, sized, round(sized * share))),
            (overlaps, plainly(network, mix, size, int(0.4 * size))),
            (both, plainly(network, mix, sized, int(0.4 * sized), "reference")),
        ):
            np.testing.assert_allclose(stems[stem], expected[0], rtol=0, atol=3e-6)


def test_shifted_passes_are_averaged(noise):
    mix, network = noise(2, 2001), fake()
    separator = Separator.from_model(network, shifts=2, seed=7)
    delays = np.random.default_rng(7).integers(0, 500, 2, endpoint=True)
    passes = [plainly(network, np.pad(mix, [(0, 0), (delay, 0)]))[..., delay:] for delay in delays]
    stems = separator.separate(mix)
    np.testing.assert_allclose(np.stack(list(stems.values())), np.mean(passes, axis=0), rtol=0, atol=3e-6)


def test_only_what_is_needed_runs_and_comes_in_the_order_that_was_asked_for(noise):
    mix = noise(2, 2001)
    separator = Separator.from_model(BAG)
    expected = separator.separate(mix)
    for only in ([0], [2], [0, 2], [2, 0, 1]):
        for network in BAG.models:
            network.lengths.clear()
        blocks = [stems for stems, _ in separator.run([mix], 2, only=only)]
        for number, stem in zip(only, np.concatenate(blocks, axis=-1), strict=True):
            np.testing.assert_array_equal(stem, expected[separator.sources[number]])
        assert [bool(network.lengths) for network in BAG.models] == [number in only for number in range(3)]


def test_a_network_with_several_stems_gives_those_that_are_asked_for(noise):
    mix, separator = noise(2, 2001), Separator.from_model(fake())
    expected = separator.separate(mix)
    (only,) = np.concatenate([stems for stems, _ in separator.run([mix], 2, only=[1])], axis=-1)
    np.testing.assert_array_equal(only, expected["rest"])


def test_silence_stays_silence():
    stems = Separator.from_model(fake()).separate(np.zeros((2, 1500), np.float32), residual=True)
    assert not any(stem.any() for stem in stems.values())


def test_progress_cancel_and_no_space_on_disk(noise):
    separator, shares, mix = Separator.from_model(BAG), [], noise(2, 500_000)
    separator.separate(mix, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    count = iter(range(1000))
    with pytest.raises(Cancelled):
        separator.separate(mix, cancel=lambda: next(count) > 3)
    assert separator.scratch_bytes(1000, 2, 1000) == 0


def test_options_that_were_left_open():
    options = Separator.from_model(fake()).options
    assert (options.shifts, options.batch, options.window) == (0, 1, "normalised")
    assert Options().for_chunks(on_host=False).batch == 8


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mwf": True}, "mwf has no meaning for a network on overlapping chunks"),
        ({"split": False}, "split has no meaning"),
        ({"segment": 0.2}, "fake takes segments of 0.4 s and no others: leave --segment out"),
        ({"segment": 0.5}, "and no others"),
        ({"precision": "bf16"}, "float32 only"),
        ({"engine": "program"}, "leave --engine program out"),
        ({"window": "hann"}, "window='hann' is none of normalised, reference, reference:hann"),
    ],
)
def test_refusals(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Separator.from_model(fake(fixed=True), **options)


def test_a_fixed_length_may_be_said():
    Separator.from_model(fake(fixed=True), segment=0.4, overlap=0.5)


def test_an_overlap_that_leaves_no_step():
    with pytest.raises(UserError, match="leaves no step"):
        Separator.from_model(fake(), segment=0.01, overlap=0.95)


def test_windows_are_refused_where_songs_are_heard_as_a_whole(small_model):
    for model in (FakeWave(), small_model):
        with pytest.raises(UserError, match="window has no meaning"):
            Separator.from_model(model, window="normalised")


@pytest.mark.parametrize("name", ["bsrnn_separator_small", "bsrnn_separator_small_hann"])
def test_golden(shared_parity, name):
    from tests.parity import golden
    from tests.parity.cases_bsrnn_separator import CASES

    case = golden.load(shared_parity / f"{name}.npz")
    outputs = CASES[case.arch, case.op](case)
    assert set(outputs) == set(case.outputs)
    for key, value in outputs.items():
        assert case.compare(key, value).ok, key
