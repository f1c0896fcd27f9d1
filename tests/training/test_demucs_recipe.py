"""Losses, optimisers, averages and scores of the Demucs family, against numbers of Demucs 4.1.0 under PyTorch 2."""

import math
import threading
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from paddle import nn

from runtime.errors import UserError
from training import xp
from training.demucs_options import check
from training.demucs_test import song_scores, summary
from training.ema import EMA
from training.recipes.demucs import DemucsRecipe, source_losses
from training.svd import SVDPenalty
from training.tracks import mean_scores


def configuration(*overrides):
    return xp.compose(overrides).cfg


def shares(*weights):
    return paddle.to_tensor(np.array(weights, np.float32) / sum(weights))


def test_losses_are_weighted_means_over_the_sources():
    random = np.random.default_rng(2)
    estimates, stems = (paddle.to_tensor(random.standard_normal((3, 2, 2, 50)).astype(np.float32)) for _ in range(2))
    squares, roots = source_losses(estimates, stems, "mse")
    assert float((squares * shares(1, 0.25)).sum()) == pytest.approx(2.0808265, rel=1e-6)
    assert float((roots * shares(1, 0.25)).sum()) == pytest.approx(1.4416845, rel=1e-6)
    distances, same = source_losses(estimates, stems, "l1")
    assert float((distances * shares(1, 0.25)).sum()) == pytest.approx(1.1703738, rel=1e-6)
    assert same is not None and np.array_equal(same.numpy(), distances.numpy())


class Parts(nn.Layer):
    """A weight of the rest, and one in the transformer."""

    def __init__(self):
        super().__init__()
        self.encoder, self.crosstransformer = nn.Layer(), nn.Layer()
        for layer, values in ((self.encoder, [1.0, -2.0, 3.0]), (self.crosstransformer, [0.5, -1.5, 2.5])):
            start = nn.initializer.Assign(np.array(values, np.float32))
            layer.weight = layer.create_parameter([3], default_initializer=start)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "adam",
            [
                [0.9703576, -1.9700038, 2.9700050],
                [0.5588344, -1.4417030, 2.4400263],
                [0.0970438, -0.1983531, 0.2970001],
            ],
        ),
        (
            "adamw",
            [
                [0.9674711, -1.9775448, 2.9610391],
                [0.5498210, -1.5060070, 2.5149105],
                [0.0970438, -0.1983531, 0.2970001],
            ],
        ),
    ],
)
def test_transformer_and_bits_have_their_own_rate_and_decay(kind, expected):
    recipe = DemucsRecipe(
        configuration(
            "model=htdemucs",
            f"optim.optim={kind}",
            "optim.lr=1e-2",
            "optim.momentum=0.8",
            "optim.beta2=0.95",
            "optim.weight_decay=0.1",
            "htdemucs.t_lr=2e-2",
            "htdemucs.t_weight_decay=0.3",
        )
    )
    model = Parts()
    model.bits = model.create_parameter([3])
    model.bits.set_value(np.array([0.1, -0.2, 0.3], np.float32))
    recipe.quantiser = SimpleNamespace(logits=[model.bits])
    optimizer = recipe.optimizer(model)
    parameters = [model.encoder.weight, model.crosstransformer.weight, model.bits]
    for step in range(3):
        for parameter, sign in zip(parameters, (1.0, -1.0, 0.5), strict=True):
            gradient = paddle.to_tensor(np.array([1.0 + step, -0.1 * step, 0.01], np.float32) * sign)
            (parameter * gradient).sum().backward()
        optimizer.set_lr(1e-2)
        optimizer.step()
        optimizer.clear_grad()
    for parameter, values in zip(parameters, expected, strict=True):
        assert parameter.numpy() == pytest.approx(values, abs=3e-7)


@pytest.mark.parametrize("every", ["step", "epoch"])
def test_an_unbiased_average_forgets_where_it_began(every):
    layer = nn.Linear(2, 1, bias_attr=False)
    layer.weight.set_value(np.array([[1.0], [-2.0]], np.float32))
    average = EMA(layer, 0.9, unbiased=True, every=every)
    expected = [(1.0, [0, 0.5]), (1.9, [0.5263158, -0.02631579]), (2.71, [1.8081181, -0.5701107])]
    for step, (count, values) in enumerate(expected):
        layer.weight.set_value(np.array([[step * step], [0.5 - step]], np.float32))
        average.update()
        assert average.count == pytest.approx(count)
        assert average.arrays()["weight"].ravel() == pytest.approx(values, abs=1e-6)
    other = EMA(layer, 0.9, unbiased=True, every=every)
    other.restore(average.arrays(), average.count)
    layer.weight.set_value(np.array([[9.0], [-2.5]], np.float32))
    for one in (average, other):
        one.update()
        assert one.arrays()["weight"].ravel() == pytest.approx([3.8993893, -1.1312882], abs=1e-6)
    with other.applied():
        assert layer.weight.numpy().ravel() == pytest.approx([3.8993893, -1.1312882], abs=1e-6)
    assert layer.weight.numpy().ravel().tolist() == [9.0, -2.5]


class Gains(nn.Layer):
    """Stems that are shares of the mixture."""

    def __init__(self):
        super().__init__()
        self.share = self.create_parameter([4, 1, 1], default_initializer=nn.initializer.Constant(0.25))
        self.description = SimpleNamespace(segment=700)

    def valid_length(self, samples):
        return samples + 10

    def forward(self, mixture):
        return mixture.unsqueeze(1) * self.share


def test_loss_and_scores_with_penalties():
    recipe = DemucsRecipe(
        configuration("weights=[1,1,2,0]", "svd.penalty=0.5", "svd.min_size=0", "quant.qat=4", "test.metric=nsdr")
    )
    model = recipe.model = Gains()
    recipe.quantiser = SimpleNamespace(disturbed=nullcontext, size=lambda: paddle.full([], 7.0))
    recipe.svd = SVDPenalty(penalty=0.5, min_size=0.0, dim=1)
    random = np.random.default_rng(0)
    stems = random.standard_normal((2, 4, 2, 1500)).astype(np.float32)
    loss, terms = recipe.loss(model, {"stems": stems, "place": (0, 0)})
    each = np.abs(0.25 * stems.sum(axis=1, keepdims=True) - stems).mean(axis=(0, 2, 3))
    reco = np.average(each, weights=[1, 1, 2, 0])
    assert float(terms["reco"]) == pytest.approx(reco, rel=1e-5)
    assert float(terms["reco_other"]) == pytest.approx(each[2], rel=1e-5)
    assert float(terms["penalty"]) == pytest.approx(0.25, rel=1e-5)  # four shares of 1/4: the norm is 1/2
    assert float(loss) == pytest.approx(reco + 0.5 * 0.25, rel=1e-5)
    scores = recipe.measure(model, stems[0].sum(axis=0), stems[0])
    assert scores.keys() == set(recipe.scores)
    error = np.abs(0.25 * stems[0].sum(axis=0) - stems[0]).mean(axis=(1, 2))
    assert scores["loss"] == scores["reco"] == pytest.approx(np.average(error, weights=[1, 1, 2, 0]), rel=1e-6)
    ratio = np.square(stems[0, 1]).sum() / np.square(stems[0, 1] - 0.25 * stems[0].sum(axis=0)).sum()
    assert scores["nsdr_bass"] == pytest.approx(10 * np.log10(ratio), abs=1e-5)
    assert scores["ms"] == 7.0


def test_test_scores_are_means_and_medians_of_songs():
    random = np.random.default_rng(2)
    estimates, stems = (random.standard_normal((3, 2, 2, 50)).astype(np.float32) for _ in range(2))
    songs = [
        song_scores(stem, estimate, ["a", "b"], 50, False) for stem, estimate in zip(stems, estimates, strict=True)
    ]
    expected = np.array([[-3.26910521, -2.71528366], [-3.86415919, -2.38463271], [-3.20774198, -2.67931275]])
    assert [[song["nsdr"]["a"], song["nsdr"]["b"]] for song in songs] == pytest.approx(expected)
    result = summary(songs, ["a", "b"])
    assert result["nsdr_a"] == pytest.approx(expected[:, 0].mean())
    assert result["nsdr_med_b"] == pytest.approx(np.median(expected[:, 1]))
    assert result["nsdr"] == pytest.approx(expected.mean())
    assert result["nsdr_med"] == pytest.approx(np.median(expected, axis=0).mean())


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_songs_are_measured_once_whoever_does_it(processes):
    values = np.random.default_rng(0).standard_normal(4).tolist()
    barrier, gathered, results, seen = threading.Barrier(processes), [None] * processes, {}, []

    def add(rank, array):
        gathered[rank] = array
        barrier.wait()
        total = sum(gathered)
        barrier.wait()
        return total

    def measure(value):
        seen.append(value)
        return {"loss": value, "half": value / 2}

    def work(rank):
        meet = partial(add, rank, 0.0)
        group = SimpleNamespace(rank=rank, size=processes, meet=meet, all_reduce_sum=partial(add, rank))
        results[rank] = mean_scores(values, ("loss", "half"), measure, nn.Linear(1, 1), group, lambda: False)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(values)
    assert {result["loss"] for result in results.values()} == {math.fsum(values) / 4}
    assert {result["half"] for result in results.values()} == {math.fsum(values) / 8}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lr=0", r"optim\.lr=0"),
        ("optim.loss=l3", r"l1 or mse"),
        ("optim.optim=sgd", r"adam or adamw"),
        ("weights=[1,1]", r"weights=\[1, 1\]"),
        ("weights=[0,0,0,0]", r"weights="),
        ("ema.batch=[0.9,1.5]", r"ema\.batch"),
        ("max_batches=0", r"max_batches=0"),
        ("svd.proba=0", r"svd\.proba"),
        ("test.metric=sdr", r"loss or nsdr"),
        ("dset.shift=-1", r"dset\.shift=-1"),
        ("dset.segment=0", r"dset\.segment=0"),
        ("dset.samplerate=0", r"dset\.samplerate=0"),
        ("dset.valid_samples=0", r"dset\.valid_samples=0"),
        ("dset.wav2_weight=1", r"dset\.wav2_weight=1.*below 1"),
        ("batch_size=6", r"group_size=4 does not divide the 6 examples"),
    ],
)
def test_impossible_values_are_named(override, message):
    with pytest.raises(UserError, match=message):
        check(configuration(override))


@pytest.mark.parametrize("override", ["test.split=false", "valid_apply=false"])
def test_a_hybrid_transformer_is_judged_in_segments(override):
    check(configuration(override))
    with pytest.raises(UserError, match=r"leave test\.split and valid_apply on"):
        check(configuration("model=htdemucs", override))


def test_published_experiments_have_possible_values():
    for argv in xp.published().values():
        check(configuration(*argv), processes=4)


def test_a_batch_is_shared_out_to_processes_in_whole_groups():
    check(configuration("batch_size=8"), processes=2)
    with pytest.raises(UserError, match="batch_size=8 cannot be shared out to 3 processes"):
        check(configuration("batch_size=8"), processes=3)
    with pytest.raises(UserError, match="group_size=4 does not divide the 2 examples"):
        check(configuration("batch_size=8"), processes=4)
    check(configuration("batch_size=8", "augment.remix.proba=0"), processes=4)


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=demucs", "demucs.channels=4", "demucs.depth=3", "demucs.dconv_lstm=2", "demucs.dconv_attn=2"),
        (
            "model=htdemucs",
            "htdemucs.channels=8",
            "htdemucs.nfft=1024",
            "htdemucs.t_layers=2",
            "htdemucs.t_heads=2",
            "htdemucs.bottom_channels=16",
        ),
    ],
)
def test_penalties_reach_every_weight_of_the_networks(overrides):
    """However a network computes, its weights are looked up when it does."""
    recipe = DemucsRecipe(
        configuration(
            *overrides, "dset.samplerate=8000", "quant.diffq=1e-30", "quant.min_size=0.0005", "svd.penalty=1e-3"
        )
    )
    model = recipe.build_model()
    model.train()
    stems = np.random.default_rng(0).standard_normal((1, 4, 2, 4000)).astype(np.float32)
    recipe.loss(model, {"stems": stems, "place": (0, 0)})[0].backward()
    assert len(recipe.quantiser.weights) >= 10
    for weight in recipe.quantiser.weights:
        if weight.parameter.stop_gradient:
            continue  # unused in this network
        assert weight.parameter.grad is not None, weight.name
        assert np.abs(weight.logits.grad.numpy()).max() > 1e-20, weight.name  # far more than the size's own gradient
