"""Chunks of a song, cross-faded and averaged, against the same rules written down with everything in memory."""

import numpy as np
import pytest

from dsp.chunks import ArraySong, Chunking, centred, draw_delays, separated


def run(chunks):
    """Two stems that depend on all of the chunk: ``[B, C, N] -> [B, 2, C, N]``."""
    centre = chunks - chunks.mean(axis=-1, keepdims=True)
    return np.stack([centre, np.cumsum(chunks, axis=-1) / chunks.shape[-1]], axis=1).astype(np.float32)


def plainly(song, size, longer, overlap, delay):
    length = song.shape[-1] + delay
    size, hop = (size, int((1 - overlap) * size)) if size else (length, length)
    padded = np.pad(song, [(0, 0), (0, 0), (longer + delay, longer + size)]).astype(np.float32)
    total, weight = np.zeros((len(song), 2, song.shape[1], length)), np.zeros(length)
    triangle = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1))
    for start in range(0, length, hop):
        count = min(size, length - start)
        first = longer + start - longer // 2
        estimate = run(padded[..., first : first + count + longer])[..., longer // 2 :][..., :count]
        total[..., start : start + count] += triangle[:count] * estimate
        weight[start : start + count] += triangle[:count]
    return (total / weight)[..., delay:]


@pytest.mark.parametrize("delays", [(0,), (3, 11)])
@pytest.mark.parametrize("size", [None, 64])
@pytest.mark.parametrize("overlap", [0.0, 0.25])
@pytest.mark.parametrize("longer", [0, 7])
def test_it_follows_the_rules_however_it_is_computed(size, overlap, longer, delays):
    song = np.random.default_rng(0).standard_normal((2, 2, 301)).astype(np.float32)
    ways = ({}, {"batch": 3}, {"jobs": 2, "batch": 2})
    hows = [Chunking(size, lambda n: n + longer, overlap, **way) for way in ways]
    found = [np.concatenate(list(separated(ArraySong(song), run, how, delays)), axis=-1) for how in hows]
    assert found[0].shape == (2, 2, 2, 301) and found[0].dtype == np.float32
    expected = np.mean([plainly(song, size, longer, overlap, delay) for delay in delays], axis=0)
    assert found[0] == pytest.approx(expected, abs=2e-6)
    assert all(np.array_equal(other, found[0]) for other in found[1:])


def test_blocks_do_not_grow_with_the_song():
    class Endless:
        samples = 50_000

        def read(self, start, stop):
            assert stop - start == 100
            return np.ones((1, 1, stop - start), np.float32)

    blocks = list(separated(Endless(), run, Chunking(100, lambda n: 100, 0.25), (0, 37)))
    assert sum(block.shape[-1] for block in blocks) == 50_000
    assert max(block.shape[-1] for block in blocks) <= 200


def test_nothing_of_nothing():
    assert list(separated(ArraySong(np.zeros((1, 2, 0))), run, Chunking(10, int))) == []


def test_a_chunk_has_real_surroundings():
    song = ArraySong(np.arange(1, 11, dtype=np.float32))
    assert centred(song, 4, 2, 5).tolist() == [4, 5, 6, 7, 8]
    assert centred(song, 0, 3, 8).tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    assert centred(song, 8, 2, 5).tolist() == [8, 9, 10, 0, 0]
    assert centred(song, 0, 10, 13).tolist() == [0, *range(1, 11), 0, 0]


def test_delays_of_half_a_second_at_most():
    drawn = draw_delays(np.random.default_rng(0), 10, 1000)
    assert set(drawn) == set(range(6))
    assert draw_delays(np.random.default_rng(0), 10, 0) == (0,)
