"""RMVPE in the training loop: its loss, its scores, its steps, and runs that are stopped, resumed and gone back in."""

import math
from pathlib import Path

import numpy as np
import paddle
import pytest

from data import voice
from dsp.salience import to_f0
from metrics.pitch import pitch_scores
from runtime import checkpoint, config
from runtime.errors import UserError
from tests.training.adam_by_hand import adam_by_hand
from tests.training.runs import assert_equal, outcome, train
from training import recipes
from training.curve import LossCurve, smoothed, thinned
from training.prepare import check_numbers, prepare
from training.recipes.rmvpe import METRICS, RMVPERecipe, cross_entropy
from training.rewind import rewind
from training.state import State, model_arrays
from training.stream import Stream

FOLDER = config.CONFIGS / "rmvpe"


@pytest.fixture(scope="module")
def songs(tmp_path_factory) -> Path:
    """A data set of sung songs: three to learn from, two to be judged by."""
    folder = tmp_path_factory.mktemp("rmvpe") / "songs"
    voice.write(folder, songs=5, seconds=1.5, seed=3, test=2)
    return folder


@pytest.fixture
def configure(songs, tmp_path):
    """``configure("train.lr=1", folder="other")``: a configuration of a run below the test's folder."""

    def make(*overrides: str, folder: str = "model", name: str = "rmvpe/tiny"):
        return config.load(name, [f"data.dataset={songs}", f"model_dir={tmp_path / folder}", *overrides])

    return make


# ------------------------------------------------------------------------------------------------ loss and scores


def test_the_loss_is_cross_entropy_of_probabilities(configure):
    recipe = RMVPERecipe(configure())
    model = recipe.build_model()
    learnt, _ = recipes.datasets(recipe.cfg, recipes.index(recipe.cfg))
    items = [learnt.item(0, k) for k in range(3)]
    batch = {name: np.stack([item[name] for item in items]) for name in ("mel", "target")}
    loss, terms = recipe.loss(model, batch)
    model.eval()  # batch normalisation has other statistics there
    with paddle.no_grad():
        p = model(paddle.to_tensor(batch["mel"])).numpy().astype(np.float64)
        judged, _ = recipe.loss(model, batch)
    y = batch["target"]
    assert float(judged) == pytest.approx(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(), rel=1e-5)
    assert terms == {} and math.isfinite(float(loss))


def test_the_loss_of_certain_logits_is_finite_and_still_pulls():
    logits = paddle.to_tensor([-200.0, -30.0, 0.0, 30.0, 200.0], stop_gradient=False)
    wrong = paddle.to_tensor([1.0, 1.0, 0.5, 0.0, 0.0])
    loss = cross_entropy(logits, wrong)
    loss.sum().backward()
    assert loss.numpy() == pytest.approx([200, 30, np.log(2), 30, 200])
    assert logits.grad.numpy() == pytest.approx([-1, -1, 0, 1, 1], abs=1e-6)


def test_scores_are_those_of_the_decoded_pitch(configure):
    cfg = configure("train.threshold=0.4")
    recipe = RMVPERecipe(cfg)
    model = recipe.build_model()
    model.eval()
    _, files = recipes.datasets(cfg, recipes.index(cfg))
    song = files[1]
    measured = recipe.validate(model, {"mel": song.mel[None], "target": song.target[None], "f0": song.f0[None]})
    assert tuple(measured) == RMVPERecipe.scores and all(values.shape == (1,) for values in measured.values())
    with paddle.no_grad():
        salience = model(paddle.to_tensor(song.mel[None]))[0].numpy()
    expected = pitch_scores(song.times, song.f0, song.times, to_f0(salience, 0.4)).as_array()
    assert [measured[name][0] for name in METRICS] == pytest.approx(expected.tolist())


# ------------------------------------------------------------------------------------------------ the steps


def test_six_steps_are_adam_with_clip_and_steps_of_the_rate(configure):
    """Beside the same in NumPy, double precision, over gradients of the recipe's loss; epsilon keeps noise small."""
    cfg = configure(
        "train.steps=6",
        "train.clip=0.1",
        "train.epsilon=1e-4",
        "train.schedule.kind=step",
        "train.schedule.every=2",
        "train.schedule.factor=0.5",
        "train.valid_every=100",
        "model.dropout=0",
    )
    recipe = recipes.create(cfg)
    data, _ = recipes.datasets(cfg, recipes.index(cfg))
    model = recipe.build_model()
    state = State(model, recipe.optimizer(model))
    stream = Stream(data, state, 37, 2, drop_last=True)
    rates = [5e-4 * 0.5 ** (step // 2) for step in range(6)]
    adam_by_hand(model, lambda: recipe.loss(model, stream.next())[0], rates, clip=0.1, epsilon=1e-4)
    assert train(cfg) == 0
    arrays = outcome(cfg)[0]["model"]
    for name, value in model_arrays(model).items():  # running statistics, too
        assert np.abs(arrays[name] - value).max() < 5e-6, name


def test_a_run_in_two_parts_equals_one(configure):
    """Dropout, changes of the data, the optimiser and the statistics of batch normalisation included."""
    common = "train.valid_every=3", "train.clip=0.1", "data.workers=2", "train.schedule.kind=step"
    common += ("train.schedule.every=2", "train.batch_size=3")
    whole = configure(*common, "train.steps=7", folder="whole")
    parts = [configure(*common, f"train.steps={steps}", folder="parts") for steps in (4, 7)]
    assert [train(cfg) for cfg in (whole, *parts)] == [0, 0, 0]
    assert_equal(outcome(parts[1]), outcome(whole))
    assert_equal(outcome(parts[1], "best"), outcome(whole, "best"))
    curves = [LossCurve(config.run_folder(cfg, cfg.model_dir)).losses() for cfg in (whole, parts[1])]
    assert curves[0] == curves[1] and [step for step, _ in curves[0]] == [1, 2, 3, 4, 5, 6, 7]
    assert {"loss", *METRICS} == outcome(whole)[1]["history"][0]["valid"].keys()


def test_going_back_to_an_earlier_checkpoint(configure):
    common = "train.valid_every=2", "train.keep=9"
    cfg = configure(*common, "train.steps=6")
    assert train(cfg) == 0
    run = config.run_folder(cfg, cfg.model_dir)
    before = outcome(cfg)
    assert before[1]["best_step"] == 6
    with pytest.raises(UserError, match=r"no checkpoint of step 5 .* there are: 2, 4, 6"):
        rewind(run, 5)
    rewind(run, 4)
    assert [path.name for path in checkpoint.steps(run / "checkpoints")] == ["step-00000002", "step-00000004"]
    assert len(list(run.glob("until-*/checkpoints/step-00000006"))) == 1 and checkpoint.best(run) is None
    assert train(cfg) == 0
    assert_equal(outcome(cfg), before)
    assert len(LossCurve(run).losses()) == 6


def test_it_learns(configure):
    cfg = configure("train.steps=60", "train.lr=1e-2", "train.valid_every=30", "model.dropout=0")
    assert train(cfg) == 0
    history = outcome(cfg)[1]["history"]
    assert history[-1]["train"]["loss"] < 0.1 * np.log(2) and history[-1]["valid"]["loss"] < 0.1
    run = config.run_folder(cfg, cfg.model_dir)
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")


# ------------------------------------------------------------------------------------------------ the loss curve


def test_a_curve_forgets_what_is_ahead_of_the_checkpoint(tmp_path):
    curve = LossCurve(tmp_path)
    curve.begin(0)
    for step in range(1, 6):
        curve.add(step, 1 / step)
    curve.close()
    with curve.numbers.open("a") as handle:
        handle.write("6,0.1")  # cut off
    assert len(curve.losses()) == 5
    curve.begin(3)
    curve.add(4, 0.5)
    assert curve.losses() == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.5)]
    curve.draw([{"step": 4, "valid": {"loss": 0.3}}])
    curve.close()
    assert curve.picture.is_file()


@pytest.mark.parametrize("count", [1, 2, 999, 1000, 1001, 5000])
def test_points_of_a_curve(count):
    points = np.stack([np.arange(1, count + 1), np.linspace(3, 1, count)], axis=1)
    assert smoothed(points).shape == points.shape
    assert smoothed(points)[:, 1].mean() == pytest.approx(points[:, 1].mean())
    few = thinned(points)
    assert len(few) <= 1000 and few[0, 0] <= 3.5 and (np.diff(few[:, 0]) > 0).all()


# ------------------------------------------------------------------------------------------------ configurations


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_every_configuration_describes_a_network_and_a_training(name):
    check_numbers(config.load(f"rmvpe/{name}"))


def test_the_recipe_that_is_documented():
    cfg = config.load("rmvpe/base")
    train = cfg.train
    assert (cfg.network, cfg.model.hop_length, cfg.model_dir, cfg.data.dataset, cfg.data.frames) == (
        *("rmvpe", 160, "runs/Hybrid", "dataset/Hybrid", 128),
    )
    assert (train.lr, train.batch_size, train.valid_every, train.clip, train.steps, train.seed) == (
        *(5e-4, 32, 50, 3, 100, 37),
    )
    assert (train.schedule.kind, train.schedule.every, train.schedule.factor) == ("step", 2000, 0.98)


def test_every_key_is_explained_beside_it():
    lines = (FOLDER / "base.yaml").read_text(encoding="utf-8").split("nullable:")[0].splitlines()
    keys = [line for line in lines if line.strip() and not line.lstrip().startswith(("#", "-")) and ":" in line]
    assert [line for line in keys if "#" not in line and not line.rstrip().endswith(":")] == []


def test_few_songs_fill_a_batch(configure):
    def length(*overrides: str) -> int:
        cfg = configure("data.samples_per_epoch=null", *overrides)
        return len(recipes.datasets(cfg, recipes.index(cfg))[0])

    assert (length("train.batch_size=2"), length("train.batch_size=16", "train.accumulate=2")) == (3, 32)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.dataset=/nowhere", "/nowhere has no folder train"),
        ("model.hop_length=320", "prepare the data set with the same --hop_length"),
        ("model.en_de_layers=8", "n_mels=128 must be a multiple of 256"),
        ("data.augment.volume=[1.0,0.0]", "augment.volume"),
        ("data.samples_per_epoch=0", "samples_per_epoch=0: it must be at least 1"),
        ("data.frames=0", "data.frames=0: it must be at least 1"),
        ("train.threshold=-1", "train.threshold=-1.0: it must be"),
        ("model.seed=x", "model.seed=x: it must be a whole number"),
    ],
)
def test_what_cannot_be_is_said_early(configure, override, message):
    with pytest.raises(UserError) as caught:
        prepare(configure(override))
    assert message in str(caught.value)


def test_without_songs_to_be_judged_by(songs, configure, tmp_path):
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "train").symlink_to(songs / "train")
    cfg = configure(f"data.dataset={tmp_path / 'few'}", "train.steps=2")
    assert train(cfg) == 0
    run = config.run_folder(cfg, cfg.model_dir)
    assert checkpoint.best(run) is None and (run / "loss.png").is_file()
