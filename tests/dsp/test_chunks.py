"""Separating a song in memory, against the separator's own way through files and memory."""

from types import SimpleNamespace

import numpy as np
import pytest

from dsp.chunks import Chunking, centred, separated
from inference.chunked import ArraySong, Member, WaveNetwork
from inference.chunked import Chunking as Streamed
from inference.chunked import separated as streamed


def network(chunk):
    """Two stems that depend on all of the chunk: ``[C, N] -> [2, C, N]``."""
    return np.stack([chunk - chunk.mean(), np.cumsum(chunk, axis=-1) / chunk.shape[-1]]).astype(np.float32)


@pytest.mark.parametrize("delays", [(0,), (3, 11)])
@pytest.mark.parametrize("size", [None, 64])
@pytest.mark.parametrize("overlap", [0.0, 0.25])
@pytest.mark.parametrize("longer", [0, 7])
def test_it_is_what_the_separator_does(size, overlap, longer, delays):
    song = np.random.default_rng(0).standard_normal((2, 301)).astype(np.float32)
    ours = separated(song, network, Chunking(size, lambda n: n + longer, overlap), delays)
    description = SimpleNamespace(channels=2, sample_rate=1, segment=64, fixed_length=False, name="", sources="ab")
    model = SimpleNamespace(description=description, valid_length=lambda n: n + longer)
    whole = WaveNetwork.of(model, lambda batch: np.stack([network(one) for one in batch]))
    member = Member(whole, np.ones(2), delays)
    blocks = streamed(ArraySong(song[None]), [member], Streamed(split=size is not None, overlap=overlap))
    assert ours.shape == (2, 2, 301) and ours.dtype == np.float32
    assert ours == pytest.approx(np.concatenate(list(blocks), axis=-1)[0], abs=1e-6)


def test_a_chunk_has_real_surroundings():
    song = np.arange(1, 11, dtype=np.float32)[None]
    assert centred(song, 4, 2, 5).tolist() == [[4, 5, 6, 7, 8]]
    assert centred(song, 0, 3, 8).tolist() == [[0, 0, 1, 2, 3, 4, 5, 6]]
    assert centred(song, 8, 2, 5).tolist() == [[8, 9, 10, 0, 0]]
    assert centred(song, 0, 10, 13).tolist() == [[0, *range(1, 11), 0, 0]]
