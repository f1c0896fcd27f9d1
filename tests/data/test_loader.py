"""Batches prepared ahead: order, errors, memory, ending early."""

import threading
import time

import numpy as np
import pytest

from data.loader import BatchLoader, LoadError
from data.sampler import EpochPlan, ValidationPlan
from runtime.errors import UserError


class Numbers:
    """Item i is filled with i + 100·epoch; later items are ready sooner, so that order is the loader's merit."""

    def __init__(self, length: int = 24, fail: dict[int, Exception] | None = None):
        self.length, self.fail = length, fail or {}
        self.filled: list[int] = []
        self.threads: set[int] = set()

    @property
    def shapes(self):
        return {"mixture": (2, 3), "targets": (4, 2, 3)}

    def fill(self, epoch, index, out):
        self.filled.append(index)
        self.threads.add(threading.get_ident())
        if index in self.fail:
            raise self.fail[index]
        time.sleep(0.0005 * (index % 3))
        for array in out.values():
            array[...] = index + 100 * epoch
        return {"song": f"song {index}", "start": index}

    def song_of(self, epoch, index):
        return f"song {index}"


def contents(loader) -> list[tuple[list[float], list[str]]]:
    return [(batch["targets"][:, 0, 0, 0].tolist(), batch["songs"]) for batch in loader]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("prefetch", [1, 2, 50])
def test_batches_come_in_the_order_of_the_plan(workers, prefetch):
    plan = EpochPlan(24, 5, 3, batch_size=4)
    loader = BatchLoader(Numbers(), plan, workers=workers, prefetch=prefetch)
    expected = [([index + 300.0 for index in batch], [f"song {index}" for index in batch]) for batch in plan]
    assert contents(loader) == expected and len(loader) == 6
    assert contents(loader) == expected  # a loader can be iterated again


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_from_a_batch(workers):
    plan = EpochPlan(24, 5, 3, batch_size=4)
    whole = contents(BatchLoader(Numbers(), plan, workers=workers))
    loader = BatchLoader(Numbers(), plan, start=4, workers=workers)
    assert len(loader) == 2 and contents(loader) == whole[4:]
    assert contents(BatchLoader(Numbers(), plan, start=6, workers=workers)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_shapes_and_the_smaller_last_batch(workers):
    batches = list(BatchLoader(Numbers(7), ValidationPlan(7, batch_size=3), workers=workers))
    assert [batch["mixture"].shape for batch in batches] == [(3, 2, 3), (3, 2, 3), (1, 2, 3)]
    assert [batch["starts"] for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert all(batch["targets"].dtype == np.float32 for batch in batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_that_is_kept_stays_as_it_is(workers):
    plan = ValidationPlan(200, batch_size=4)
    whole, parts = [], []
    for batch in BatchLoader(Numbers(200), plan, workers=workers):
        (whole if len(whole) < 20 else parts).append(batch["mixture"] if len(whole) < 20 else batch["mixture"][1:, 0])
    assert [array[0, 0, 0] for array in whole] == [4 * k for k in range(20)]
    assert [array[0, 0] for array in parts] == [4 * k + 1 for k in range(20, 50)]


@pytest.mark.parametrize("workers", [0, 2])
def test_memory_of_a_batch_that_is_gone_is_used_again(workers):
    places = [
        batch["mixture"].ctypes.data
        for batch in BatchLoader(Numbers(400), ValidationPlan(400, batch_size=4), workers=workers)
    ]
    assert len(places) == 100 and len(set(places)) <= 6


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unexpected_error_names_segment_and_song(workers):
    dataset = Numbers(fail={9: ZeroDivisionError("division by zero")})
    loader, seen = BatchLoader(dataset, ValidationPlan(24, batch_size=4), workers=workers), []
    with pytest.raises(LoadError, match=r"segment 9 .* song 9: division by zero") as caught:
        for batch in loader:
            seen.append(batch["starts"][0])
    assert seen == [0, 4]  # everything before the failure arrived
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_user_error_stays_what_it_is(workers):
    dataset = Numbers(fail={2: UserError("x.cache is damaged; run again")})
    with pytest.raises(UserError, match=r"^x.cache is damaged; run again$"):
        list(BatchLoader(dataset, ValidationPlan(24, batch_size=4), workers=workers))


def test_leaving_early_stops_the_threads():
    dataset = Numbers(10_000)
    before = threading.active_count()
    for _ in BatchLoader(dataset, ValidationPlan(10_000, batch_size=4), workers=3, prefetch=3):
        break
    assert threading.active_count() == before
    done = len(dataset.filled)
    time.sleep(0.05)
    assert len(dataset.filled) == done < 100


def test_workers_share_the_work():
    dataset = Numbers(60)
    list(BatchLoader(dataset, ValidationPlan(60, batch_size=30), workers=3))
    assert len(dataset.threads) == 3 and threading.get_ident() not in dataset.threads


def test_waiting_is_measured_as_a_share(monkeypatch):
    now = 0.0
    monkeypatch.setattr("data.loader.time.perf_counter", lambda: now)

    class Slow(Numbers):
        def fill(self, epoch, index, out):
            nonlocal now
            now += 1.0
            return super().fill(epoch, index, out)

    loader = BatchLoader(Slow(8), ValidationPlan(8, batch_size=2))
    assert loader.waited == 0
    for _ in loader:
        now += 6.0  # the network computes
    assert loader.waited_seconds == 8.0 and loader.waited == pytest.approx(8 / 32)
