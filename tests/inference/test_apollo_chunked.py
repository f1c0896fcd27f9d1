"""The ways in which Apollo's originals cut a song."""

import numpy as np
import pytest

from inference.apollo_chunked import cross_faded, overlapped


def unchanged(chunks):
    assert chunks.dtype == np.float32
    return chunks


def counted(sizes: list[int]):
    def run(chunks):
        sizes.append(len(chunks))
        return chunks

    return run


SONG = np.random.default_rng(0).standard_normal((2, 2711)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("size", "overlap"), [(1000, 250), (1000, 0), (700, 350), (2711, 100), (5000, 100)])
def test_a_network_that_changes_nothing_changes_nothing_cross_faded(size, overlap, batch):
    np.testing.assert_allclose(cross_faded(unchanged, SONG, size, overlap, batch), SONG, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("size", "overlap"), [(1000, 4), (1000, 2), (500, 3), (3000, 4)])
def test_a_network_that_changes_nothing_changes_nothing_overlapped(size, overlap, batch):
    y = overlapped(unchanged, SONG, size, overlap, batch)
    weighed = slice(1 if batch > 1 and size == 3000 else 0, None)  # a batch of several fades in even at the beginning
    np.testing.assert_allclose(y[:, weighed], SONG[:, weighed], rtol=0, atol=1e-5)
    assert y.shape == SONG.shape


def test_chunks_come_in_batches():
    sizes: list[int] = []
    cross_faded(counted(sizes), SONG, 1000, 250, 2)
    assert sizes == [2, 2]
    sizes.clear()
    overlapped(counted(sizes), SONG, 3000, 3, 2)
    assert sizes == [2, 1]


@pytest.mark.parametrize("case", ["chunked", "chunked_fork", "chunked_fork_batch"])
def test_golden(shared_parity, case):
    from tests.parity import __main__ as parity
    from tests.parity import golden

    found = parity.run_case(golden.load(shared_parity / f"apollo_{case}.npz"), parity.adapters())
    assert found and all(each.ok for each in found), parity.report(case, found)
