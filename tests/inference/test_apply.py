"""``apply_model`` on arrays: chunks, context, shifts, bags; the rules written down plainly are the reference."""

import numpy as np
import pytest

from inference import Cancelled
from inference.apply import apply_model
from runtime.errors import UserError
from tests.inference.waves import FakeBag, FakeWave, plainly


@pytest.fixture
def mix():
    return np.random.default_rng(0).standard_normal((1, 2, 1777)).astype(np.float32)


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=0, atol=3e-6)


@pytest.mark.parametrize(
    "model",
    [FakeWave(), FakeWave(unit=64), FakeWave(fixed=True), FakeWave(fills=True)],
    ids=["any", "unit", "fixed", "fills"],
)
@pytest.mark.parametrize(
    "options",
    [{}, {"overlap": 0.0}, {"overlap": 0.77, "transition_power": 2.0}, {"segment": 0.123, "overlap": 0.1}],
    ids=str,
)
@pytest.mark.parametrize("samples", [1, 399, 400, 1777])
def test_chunks(model, options, samples, mix):
    mix = mix[..., :samples]
    power = options.get("transition_power", 1.0)
    wanted = {key: value for key, value in options.items() if key != "transition_power"}
    close(apply_model(model, mix, shifts=0, **options), plainly(model, mix, power=power, **wanted))


@pytest.mark.parametrize("model", [FakeWave(), FakeWave(unit=64)], ids=["any", "unit"])
def test_whole_song(model, mix):
    close(apply_model(model, mix, shifts=0, split=False), plainly(model, mix, split=False))
    assert model.lengths[0] == model.valid_length(1777)


@pytest.mark.parametrize("split", [True, False])
def test_shifts_are_delays_averaged(mix, split):
    model = FakeWave(unit=8)
    passes = [plainly(model, mix, delay, split) for delay in (500, 0, 123)]
    close(apply_model(model, mix, 3, split, offsets=[0, 500, 377]), np.mean(passes, axis=0))


def test_shifts_follow_the_seed(mix):
    one, same, other = (apply_model(FakeWave(), mix, 2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_bag_is_a_weighted_mean_and_draws_for_each_network(mix):
    models = [FakeWave(), FakeWave(unit=64, gain=2, segment=0.3), FakeWave(fixed=True, gain=0.5)]
    weights = [[1.0, 0.0], [0.5, 0.25], [0.2, 0.8]]
    parts = [plainly(model, mix, delay) for model, delay in zip(models, (200, 0, 499), strict=True)]
    w = np.array(weights)[:, None, :, None, None]
    expected = (w * np.stack(parts)).sum(axis=0) / w.sum(axis=0)
    close(apply_model(FakeBag(models, weights), mix, offsets=[300, 500, 1]), expected)


def test_batches_and_threads_change_nothing(mix):
    mixes = np.concatenate([mix, mix[..., ::-1] * 0.5])
    expected = apply_model(FakeWave(unit=8), mixes)
    for options in ({"batch": 3}, {"num_workers": 3}, {"batch": 2, "num_workers": 2}):
        np.testing.assert_array_equal(apply_model(FakeWave(unit=8), mixes, **options), expected)
    close(apply_model(FakeWave(unit=8), mixes[1:]), expected[1:])


def test_paddle_in_paddle_out(mix):
    import paddle

    out = apply_model(FakeWave(), paddle.to_tensor(mix))
    assert isinstance(out, paddle.Tensor)
    np.testing.assert_array_equal(out.numpy(), apply_model(FakeWave(), mix))


def test_nothing_of_nothing():
    assert apply_model(FakeWave(), np.zeros((1, 2, 0), np.float32)).shape == (1, 2, 2, 0)


def test_the_network_keeps_its_mode(mix):
    model = FakeWave()
    model.train()
    apply_model(model, mix)
    assert model.training


def test_progress_and_cancel(mix):
    shares = []
    apply_model(FakeWave(), mix, shifts=2, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 4
    asked = iter([False, False, True])
    with pytest.raises(Cancelled):
        apply_model(FakeWave(), mix, cancel=lambda: next(asked))


def test_refusals(mix):
    fixed = FakeWave(fixed=True, name="short")
    with pytest.raises(UserError, match=r"short takes segments of 0.4 s at most, not 0.5 s"):
        apply_model(fixed, mix, segment=0.5)
    with pytest.raises(UserError, match="no whole song: leave --no-split out"):
        apply_model(fixed, mix, split=False)
    with pytest.raises(UserError, match="leaves no step"):
        apply_model(FakeWave(), mix, overlap=0.999)
    for wrong in ({"shifts": -1}, {"overlap": 1.0}, {"transition_power": 0.5}, {"batch": 0}, {"num_workers": -1}):
        with pytest.raises(ValueError, match="shifts and num_workers"):
            apply_model(fixed, mix, **wrong)
    with pytest.raises(ValueError, match="axes"):
        apply_model(fixed, mix[0])
    with pytest.raises(ValueError, match="1 offsets from 0 to 500"):
        apply_model(fixed, mix, offsets=[501])
