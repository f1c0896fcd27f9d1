"""Epoch plans: sharing out, repeating, resuming."""

import json
from collections import Counter

import pytest

from data.sampler import CROP, SHUFFLE, EpochPlan, ValidationPlan, generator


def test_generator_depends_on_every_number_and_on_nothing_else():
    addresses = [(0, SHUFFLE, 0), (1, SHUFFLE, 0), (0, CROP, 0), (0, SHUFFLE, 1), (0, SHUFFLE, 0, 1), (-1, SHUFFLE, 0)]
    draws = [generator(*address).random(4).tolist() for address in addresses]
    assert len({tuple(draw) for draw in draws}) == len(addresses)
    assert draws == [generator(*address).random(4).tolist() for address in addresses]


def test_neighbouring_samples_do_not_share_draws():
    assert not set(generator(0, CROP, 0, 1).random(1000)) & set(generator(0, CROP, 0, 2).random(1000))


@pytest.mark.parametrize(("length", "world", "batch_size"), [(1, 1, 4), (10, 1, 3), (17, 3, 2), (64, 4, 4), (2, 4, 5)])
def test_ranks_get_equally_many_batches_and_every_sample_is_used(length, world, batch_size):
    plans = [EpochPlan(length, 7, 2, rank, world, batch_size) for rank in range(world)]
    assert len({len(plan) for plan in plans}) == 1
    assert all(len(batch) == batch_size for plan in plans for batch in plan)
    counts = Counter(index for plan in plans for batch in plan for index in batch)
    assert set(counts) == set(range(length))
    assert max(counts.values()) - min(counts.values()) <= 1


def test_drop_last_leaves_out_the_remainder():
    plan = EpochPlan(17, 0, 0, batch_size=5, drop_last=True)
    indices = [index for batch in plan for index in batch]
    assert len(plan) == 3 and len(set(indices)) == 15


def test_processes_together_see_what_one_process_sees():
    alone = EpochPlan(40, 3, 1, batch_size=8)
    shared = [EpochPlan(40, 3, 1, rank, 4, 2) for rank in range(4)]
    for k in range(len(alone)):
        assert alone.batch(k) == [index for plan in shared for index in plan.batch(k)]


def test_every_epoch_and_seed_has_its_own_order():
    orders = {tuple(EpochPlan(50, seed, epoch).order) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    assert EpochPlan(5, 0, 3, shuffle=False).order.tolist() == [0, 1, 2, 3, 4]


def test_resuming_at_a_position():
    plan = EpochPlan(23, 1, 4, rank=1, world=2, batch_size=3)
    state = json.loads(json.dumps(plan.state(2)))
    again = EpochPlan(23, 1, state["epoch"], rank=1, world=2, batch_size=3)
    assert again.position(state) == 2
    assert [again.batch(k) for k in range(2, len(again))] == list(plan)[2:]


def test_resuming_with_other_processes_skips_whole_batches_only():
    state = EpochPlan(100, 1, 4, world=4, batch_size=5).state(3)
    assert EpochPlan(100, 1, 4, world=1, batch_size=5).position(state) == 12
    assert EpochPlan(100, 1, 4, world=8, batch_size=5).position(state) == 1
    with pytest.raises(ValueError, match="epoch 4"):
        EpochPlan(100, 1, 5).position(state)
    with pytest.raises(ValueError, match="100 samples"):
        EpochPlan(99, 1, 4).position(state)


@pytest.mark.parametrize(("length", "world", "batch_size"), [(0, 1, 2), (1, 3, 2), (10, 3, 2), (12, 2, 3)])
def test_validation_neither_loses_nor_repeats(length, world, batch_size):
    plans = [ValidationPlan(length, rank, world, batch_size) for rank in range(world)]
    indices = [index for plan in plans for batch in plan for index in batch]
    assert sorted(indices) == list(range(length))
    assert all(0 < len(batch) <= batch_size for plan in plans for batch in plan)


def test_impossible_plans():
    with pytest.raises(ValueError, match="rank 2"):
        EpochPlan(3, 0, 0, rank=2, world=2)
    with pytest.raises(ValueError, match="0 samples"):
        EpochPlan(0, 0, 0)
    with pytest.raises(ValueError, match="rank 1"):
        ValidationPlan(3, rank=1, world=1)
    with pytest.raises(IndexError):
        EpochPlan(3, 0, 0).batch(3)
    with pytest.raises(IndexError):
        ValidationPlan(3).batch(3)
