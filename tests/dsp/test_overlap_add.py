import numpy as np
import pytest

from dsp.overlap_add import OverlapAdd, chunks, demix, fade_window, rounded_window, transition_window


def noise(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def streamed(x, window, hop):
    """Cuts ``x [..., N]`` and puts it together again unchanged."""
    adder = OverlapAdd(window, hop)
    pieces = [adder.push(x[..., start : start + size]) for start, size in chunks(x.shape[-1], len(window), hop)]
    rest = adder.flush()
    return np.concatenate([*pieces, *([] if rest is None else [rest])], axis=-1) if pieces else x[..., :0]


def test_chunks_begin_at_every_hop_and_end_with_the_signal():
    assert list(chunks(10, 4, 3)) == [(0, 4), (3, 4), (6, 4), (9, 1)]
    assert list(chunks(3, 4, 4)) == [(0, 3)]
    assert list(chunks(0, 4, 4)) == []
    with pytest.raises(ValueError, match="hop"):
        chunks(10, 4, 5)


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_transition_window_is_demucs_triangle(size):
    window = transition_window(size)
    rising = [min(k + 1, size - k) for k in range(size)]
    assert np.allclose(window, np.array(rising) / max(rising))
    assert np.allclose(transition_window(size, 2.0), window**2)
    assert window.dtype == np.float32


def test_transition_power_below_one_is_refused():
    with pytest.raises(ValueError, match="power"):
        transition_window(8, 0.5)


def test_fades_are_left_out_at_the_ends_of_a_signal():
    assert fade_window(10, 3).tolist() == [0, 0.5, 1, 1, 1, 1, 1, 1, 0.5, 0]
    assert fade_window(10, 3, first=True)[:3].tolist() == [1, 1, 1]
    assert fade_window(10, 3, last=True)[-3:].tolist() == [1, 1, 1]
    assert fade_window(4, 0).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("length", [0, 1, 99, 100, 101, 1000, 1009])
@pytest.mark.parametrize("hop", [25, 75, 100])
@pytest.mark.parametrize("power", [1.0, 3.0])
def test_weighted_means_of_equal_chunks_change_nothing(length, hop, power):
    x = noise(2, 3, length)
    out = streamed(x, transition_window(100, power), hop)
    assert out.shape == x.shape
    assert np.abs(out - x).max(initial=0) < 1e-6


@pytest.mark.parametrize("hop", [30, 99, 100])
def test_rounded_windows_need_no_overlap(hop):
    window = rounded_window(100)
    assert window.dtype == np.float32
    assert (window > 0).all()
    assert np.allclose(window, window[::-1])
    x = noise(2, 1009)
    assert np.abs(streamed(x, window, hop) - x).max() < 1e-6


def test_sums_of_chunks_stay_sums():
    adder = OverlapAdd(np.full(4, 0.5), 2, mean=False)
    ones = np.ones(4, np.float32)
    assert [adder.push(ones).tolist() for _ in range(3)] == [[0.5, 0.5], [1, 1], [1, 1]]
    assert adder.flush().tolist() == [0.5, 0.5]


def test_every_sample_is_the_weighted_mean_of_its_chunks():
    window, hop, length = transition_window(8), 3, 20
    places = list(chunks(length, 8, hop))
    parts = [noise(2, size, seed=start) for start, size in places]
    total, weight = np.zeros((2, length)), np.zeros(length)
    for (start, size), part in zip(places, parts, strict=True):
        total[:, start : start + size] += part * window[:size]
        weight[start : start + size] += window[:size]
    adder = OverlapAdd(window, hop)
    out = np.concatenate([*(adder.push(part) for part in parts), adder.flush()], axis=1)
    assert np.allclose(out, total / weight, atol=1e-6)


def test_samples_come_out_as_soon_as_they_are_final():
    adder = OverlapAdd(np.ones(8, np.float32), 3)
    assert adder.push(noise(1, 8)).shape == (1, 3)
    assert adder.push(noise(1, 8)).shape == (1, 3)
    assert adder.push(noise(1, 2)).shape == (1, 3)
    assert adder.flush().shape == (1, 2)
    assert adder.flush() is None


def test_samples_without_weight_are_zero():
    adder = OverlapAdd(fade_window(10, 3), 10)
    out = adder.push(np.ones((1, 10), np.float32))
    assert out[0, 0] == 0
    assert np.isfinite(out).all()


def test_a_hop_longer_than_the_window_is_refused():
    with pytest.raises(ValueError, match="hop"):
        OverlapAdd(np.ones(4, np.float32), 5)


@pytest.mark.parametrize("mode", ["generic", "demucs"])
@pytest.mark.parametrize("length", [0, 1, 50, 100, 333, 1000])
@pytest.mark.parametrize(("num_overlap", "batch_size"), [(1, 1), (2, 3), (4, 2), (4, 100)])
def test_demix_with_a_network_that_changes_nothing(mode, length, num_overlap, batch_size):
    mix = noise(2, length)
    out = demix(mix, lambda batch: np.stack([batch, -batch], axis=1), 100, num_overlap, batch_size, mode)
    assert out.shape == (2, 2, length)
    differs = np.abs(out[0] - mix) > 1e-6
    # where a lone fade begins or ends a signal, the weight of one sample is 0, in the original too
    assert not (differs & (out[0] != 0)).any()
    assert differs.sum() <= 2 * 2 * (1 + length // 100)
    assert np.array_equal(out[1], -out[0])


def test_demix_gives_whole_chunks_to_the_network():
    shapes = []

    def network(batch):
        shapes.append(batch.shape)
        return batch[:, None]

    demix(noise(2, 333), network, 100, 2, 4, "generic")
    assert {shape[1:] for shape in shapes} == {(2, 100)}
    assert max(shape[0] for shape in shapes) == 4


def test_demix_refuses_an_unknown_mode():
    with pytest.raises(ValueError, match="mode"):
        demix(noise(2, 10), lambda batch: batch, 4, 2, mode="other")
