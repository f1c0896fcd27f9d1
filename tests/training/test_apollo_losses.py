"""Losses of Apollo and its discriminator by their definitions."""

import numpy as np
import paddle
import pytest

from runtime import config
from training import apollo_losses as losses
from training.recipes.apollo import ApolloRecipe


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tensors(*arrays: np.ndarray) -> list[paddle.Tensor]:
    return [paddle.to_tensor(each, stop_gradient=False) for each in arrays]


def test_verdicts_are_wanted_at_one_and_zero():
    real, fake = tensors(np.array([1.0, 0.5], np.float32), np.array([[2.0]], np.float32)), tensors(noise(2), noise(3))
    wanted = (0.125 + 1.0) / 2 + np.mean([np.square(each.numpy()).mean() for each in fake])
    assert float(losses.discriminator_loss(real, fake)) == pytest.approx(wanted, rel=1e-6)
    assert float(losses.adversarial_loss(real)) == pytest.approx((0.125 + 1.0) / 2, rel=1e-6)


def test_maps_are_compared_in_shares_of_the_real_ones_which_learn_nothing():
    fake, real = tensors(noise(1, 3), noise(2, 2)), tensors(noise(1, 3, seed=1), 4 * noise(2, 2, seed=1))
    value = losses.feature_matching([[fake[0]], [fake[1]]], [[real[0]], [real[1]]])
    shares = [np.abs(a.numpy() - b.numpy()).mean() / np.abs(b.numpy()).mean() for a, b in zip(fake, real, strict=True)]
    assert float(value) == pytest.approx(np.mean(shares), rel=1e-5)
    value.backward()
    assert real[0].grad is None and np.abs(fake[0].grad.numpy()).max() > 0


def test_magnitudes_are_compared_in_shares_of_the_targets():
    x = noise(1, 2, 4000)
    output, target = tensors(np.float32(1.25) * x, x)
    assert float(losses.frequency_error(output, target)) == pytest.approx(0.25, rel=1e-4)
    quiet = losses.frequency_error(output, paddle.zeros_like(output))
    assert np.isfinite(float(quiet))
    silent = losses.frequency_error(*tensors(np.zeros([1, 1, 3000], np.float32), np.zeros([1, 1, 3000], np.float32)))
    silent.backward()
    assert float(silent) == pytest.approx(0.0, abs=1e-3)


def test_waveforms_are_compared_in_shares_of_the_targets():
    target = paddle.to_tensor(np.random.default_rng(2).standard_normal((2, 2, 4096)).astype(np.float32))
    assert float(losses.waveform_error(0.75 * target, target)) == pytest.approx(0.25, rel=1e-5)
    assert float(losses.waveform_error(-target, target)) == pytest.approx(2, rel=1e-5)


def test_levels_are_compared_in_nepers_however_soft():
    target = 1e-2 * np.random.default_rng(4).standard_normal((1, 2, 8000)).astype(np.float32)
    one, half, silence = tensors(target, np.float32(0.5) * target, np.zeros_like(target))
    assert float(losses.level_error(half, one)) == pytest.approx(np.log(2), rel=0.05)  # the floor is below
    assert float(losses.level_error(silence, silence)) == 0
    distance = losses.level_error(silence, one)
    distance.backward()
    assert 3 < float(distance) < 7 and np.isfinite(silence.grad.numpy()).all()


@pytest.mark.parametrize("name", ["waveform", "levels"])
def test_a_configuration_may_add_distances(name):
    rng, found = np.random.default_rng(3), {}
    output = paddle.to_tensor(rng.standard_normal((1, 2, 4000)).astype(np.float32))
    batch = {"original": rng.standard_normal((1, 2, 4000)).astype(np.float32)}
    for weight in (0, 2):
        recipe = ApolloRecipe(config.load("apollo/tiny", [f"train.{name}={weight}"]))
        found[weight] = recipe.generator_loss(recipe.opponent().model, output, batch)
    (without, terms), (with_it, more) = found.values()
    assert set(more) - set(terms) == {name}
    assert float(with_it - without) == pytest.approx(2 * float(more[name]), rel=1e-4)


def test_the_generators_loss_is_the_sum_of_its_terms():
    output, target, verdict, one, other = tensors(
        noise(1, 1, 3000), noise(1, 1, 3000, seed=1), noise(4), noise(4, seed=2), noise(4, seed=3)
    )
    loss, terms = losses.generator_loss([verdict], [[one]], [[other]], output, target)
    assert float(loss) == pytest.approx(sum(float(term) for term in terms.values()), rel=1e-6)
    assert list(terms) == ["freq_mae", "adversarial", "features"]


def definition(kind: str, estimate: np.ndarray, target: np.ndarray) -> float:
    estimate, target = (x.astype(np.float64) - x.mean(dtype=np.float64) for x in (estimate, target))
    signal = target if kind == "snr" else target * np.vdot(estimate, target) / np.vdot(target, target)
    error = estimate - (signal if kind == "sisdr" else target)
    return -10 * np.log10(np.vdot(signal, signal) / np.vdot(error, error))


@pytest.mark.parametrize("kind", losses.SDR_KINDS)
def test_ratios_are_the_mean_of_the_channels(kind):
    target = noise(2, 3, 5000) + np.float32(0.3)
    estimate = np.float32(0.8) * target + np.float32(0.1) * noise(2, 3, 5000, seed=1)
    wanted = np.mean([definition(kind, estimate[b, c], target[b, c]) for b in range(2) for c in range(3)])
    assert float(losses.negative_sdr(*tensors(estimate, target), kind)) == pytest.approx(wanted, abs=1e-3)
    ratio = float(losses.negative_sdr(*tensors(estimate[:1, :1], target[:1, :1]), kind, take_log=False))
    assert ratio == pytest.approx(-(10 ** (-definition(kind, estimate[0, 0], target[0, 0]) / 10)), rel=1e-3)


def test_ratios_of_silence_are_finite():
    silence = np.zeros([1, 2, 100], np.float32)
    for kind in losses.SDR_KINDS:
        value = losses.negative_sdr(*tensors(silence, silence), kind)
        value.backward()
        assert np.isfinite(float(value))


def test_what_does_not_fit_is_an_error():
    x, y = tensors(noise(1, 2, 10), noise(1, 2, 9))
    with pytest.raises(ValueError, match="of one shape"):
        losses.negative_sdr(x, y)
    with pytest.raises(ValueError, match="kind='sdr' is not one of snr, sisdr, sdsdr"):
        losses.negative_sdr(x, x, "sdr")
