"""BandSplitRNN in the training loop: its loss, its scores, its steps, and runs that are stopped and resumed."""

from pathlib import Path
from shutil import copytree

import numpy as np
import paddle
import pytest

import models
from data.index import read_index
from data.synthetic import write_songs
from pretrained import reference_state
from runtime import config
from runtime.errors import UserError
from tests.pretrained import torch_writer
from tests.training.adam_by_hand import adam_by_hand
from tests.training.runs import assert_equal, outcome, train
from training import bsrnn_data, recipes
from training.gradients import trainable
from training.prepare import check_numbers, prepare, way_out
from training.recipes.bsrnn import BSRNNRecipe, bands_used, chunk_sdr, losses
from training.state import State, model_arrays
from training.stream import Stream

FOLDER = config.CONFIGS / "bsrnn"


@pytest.fixture(scope="module")
def songs(tmp_path_factory) -> list[str]:
    """Overrides for synthetic songs, two to learn from and one for validation, whose lists and cache are made."""
    folder = tmp_path_factory.mktemp("bsrnn")
    write_songs(folder / "songs", songs=3, seconds=2.5, seed=3, sample_rate=8000, splits={"valid": 1})
    places = [
        f"data.dataset={folder / 'songs'}",
        f"train_dataset.txt_dir={folder / 'lists'}",
        f"data.index={folder / 'lists' / 'index.jsonl'}",
        f"data.cache={folder / 'cache'}",
    ]
    bsrnn_data.settle(config.load("bsrnn/tiny", places), processes=1)
    return places


@pytest.fixture
def configure(songs, tmp_path):
    """``configure("train.lr=1", folder="other")``: a configuration of a run below the test's folder."""

    def make(*overrides: str, folder: str = "model"):
        return config.load("bsrnn/tiny", [*songs, f"model_dir={tmp_path / folder}", *overrides])

    return make


def pairs(count: int, samples: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    target, rest = rng.standard_normal((2, count, 2, samples)).astype(np.float32) * np.float32(0.1)
    return target + rest, target


# ------------------------------------------------------------------------------------------------ loss and scores


def test_the_loss_is_three_mean_differences(configure):
    recipe = BSRNNRecipe(configure())
    model = recipe.build_model()
    mixture, target = pairs(3)
    loss, terms = losses(model, paddle.to_tensor(mixture), paddle.to_tensor(target))
    wave = model(paddle.to_tensor(mixture)).numpy()[:, 0]
    _, spectrum = model(paddle.to_tensor(mixture), spectrum=True)
    apart = np.abs(spectrum.numpy() - model.transform(paddle.to_tensor(target)).numpy())  # [B, C, 2, F, T]
    expected = {"real": apart[:, :, 0].mean(), "imag": apart[:, :, 1].mean(), "wave": np.abs(wave - target).mean()}
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)
    assert float(loss) == pytest.approx(sum(expected.values()), rel=1e-5)

    with paddle.no_grad():
        scores = recipe.validate(model, {"mixture": mixture, "target": target})
    assert tuple(scores) == BSRNNRecipe.scores and all(value.shape == (3,) for value in scores.values())
    assert scores["loss"].mean() == pytest.approx(float(loss), rel=1e-6)
    error = ((wave - target) ** 2).sum(axis=(1, 2), dtype=np.float64)
    energy = (target**2).sum(axis=(1, 2), dtype=np.float64)
    assert scores["usdr"] == pytest.approx(10 * np.log10(energy / error), rel=1e-4)
    assert scores["csdr"] == pytest.approx(scores["usdr"], rel=1e-3)  # an example of half a second is one frame


def test_silence_has_a_finite_loss_and_gradient(configure):
    model = BSRNNRecipe(configure()).build_model()
    silence = paddle.zeros([2, 2, 4096])
    loss, _ = losses(model, silence, silence)
    loss.backward()
    assert float(loss) == pytest.approx(0, abs=1e-6)
    assert all(np.isfinite(value.grad.numpy()).all() for value in trainable(model).values())


def test_the_sdr_of_frames_is_their_median_without_silent_ones():
    rng = np.random.default_rng(1)
    target = rng.standard_normal((2, 35))
    target[:, 10:20] = 0
    estimate = target + np.repeat([0.1, 0.2, 0.4, 9.0], [10, 10, 10, 5])
    ratios = [10 * np.log10((target[:, k : k + 10] ** 2).sum() / (20 * e**2)) for k, e in ((0, 0.1), (20, 0.4))]
    assert chunk_sdr(target, estimate, 10) == pytest.approx(np.mean(ratios))
    assert np.isnan(chunk_sdr(np.zeros((2, 20)), np.ones((2, 20)), 10))
    assert np.isfinite(chunk_sdr(target, estimate, 100))


# ------------------------------------------------------------------------------------------------ the steps


def test_six_steps_are_adam_with_clip_schedule_and_average(configure):
    """Beside the same in NumPy, double precision, over gradients of the recipe's loss."""
    cfg = configure(
        "train.steps=6",
        "train.clip=0.1",
        "train.schedule.kind=epoch",
        "train.schedule.warmup_epochs=1",
        "train.schedule.alpha=0.5",
        "train.schedule.factor=0.7",
        "train.valid_every=100",
        "augmentations=cropgainmix",
    )
    recipe, index = recipes.create(cfg), read_index(cfg.data.index)
    data, _ = recipes.datasets(cfg, index)
    model = recipe.build_model()
    state = State(model, recipe.optimizer(model))
    stream = Stream(data, state, 42, 2, drop_last=True, finish=recipes.finish(cfg, 0, 1))
    rates = (1e-3 * (0.5 if state.epoch == 0 else 0.7 ** (state.epoch - 1)) for _ in range(6))
    weights, average = adam_by_hand(model, lambda: recipe.loss(model, stream.next())[0], rates, clip=0.1, decay=0.9)
    assert state.epoch >= 2
    before = model_arrays(recipe.build_model())
    assert train(cfg) == 0
    arrays = outcome(cfg)[0]
    for name, expected in weights.items():
        assert np.abs(arrays["model"][name] - expected).max() < 5e-6, name
        assert np.abs(arrays["ema"][name] - average[name]).max() < 5e-6, name
    assert max(np.abs(arrays["model"][name] - before[name]).max() for name in weights) > 1e-3


EVERYTHING = (
    "augmentations=cropgainmix",
    "train_dataset.silent_prob=0.3",
    "train_dataset.mix_prob=0.5",
    "train_dataset.mix_tgt_too=true",
    "train.schedule.kind=epoch",
    "train.schedule.warmup_epochs=2",
    "train.clip=0.1",
    "train.valid_every=0",
    "data.workers=2",
)


def test_a_run_in_two_parts_equals_one(configure):
    whole = configure(*EVERYTHING, "train.steps=7", folder="whole")
    parts = [configure(*EVERYTHING, f"train.steps={steps}", folder="parts") for steps in (3, 7)]
    assert [train(cfg) for cfg in (whole, *parts)] == [0, 0, 0]
    assert_equal(outcome(parts[1]), outcome(whole))
    assert_equal(outcome(parts[1], "best"), outcome(whole, "best"))
    history = outcome(whole)[1]["history"]
    assert history and {"loss", "real", "imag", "wave", "usdr", "csdr"} == history[0]["valid"].keys()


def test_a_run_goes_on_with_its_own_list_only(configure, songs, tmp_path):
    lists = tmp_path / "lists"
    copytree(Path(config.load("bsrnn/tiny", songs).train_dataset.txt_dir), lists)
    first, longer = (configure(f"train_dataset.txt_dir={lists}", f"train.steps={steps}") for steps in (1, 2))
    assert train(first) == 0
    path = lists / "vocals_train.txt"
    path.write_text("".join(reversed(path.read_text("utf-8").splitlines(keepends=True))), "utf-8")
    with pytest.raises(UserError, match="was trained on other songs"):
        train(longer)


def test_it_learns(configure):
    cfg = configure("train.steps=40", "train.lr=1e-2", "train.valid_every=20", "train_dataset.mix_prob=0")
    model = BSRNNRecipe(cfg).build_model()
    _, valid = recipes.datasets(cfg, read_index(cfg.data.index))
    examples = [valid.item(0, k) for k in range(len(valid))]
    batch = {name: np.stack([each[name] for each in examples]) for name in ("mixture", "target")}
    with paddle.no_grad():
        before = BSRNNRecipe(cfg).validate(model, batch)["usdr"].mean()
    assert train(cfg) == 0
    assert outcome(cfg)[1]["history"][-1]["valid"]["usdr"] > before + 1


def test_cached_and_decoded_songs_give_the_same(configure):
    cached, decoded = configure("data.payload=float32"), configure("data.source=decode")
    bsrnn_data.settle(cached, processes=1)
    index = read_index(cached.data.index)
    one, other = (bsrnn_data.salient_segments(cfg, index)[0] for cfg in (cached, decoded))
    for k in range(len(one)):
        assert np.abs(one.item(3, k)["mixture"] - other.item(3, k)["mixture"]).max() < 1e-6


# ------------------------------------------------------------------------------------------------ configurations


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_every_configuration_describes_a_network_and_a_training(name):
    cfg = config.load(f"bsrnn/{name}")
    check_numbers(cfg)
    assert bands_used(cfg).startswith("network: bsrnn_vocals")
    assert cfg.train.schedule.kind in ("epoch", "cosine", "constant")


@pytest.mark.parametrize("group", ["model", "schedule", "augmentations", "sad"])
def test_every_file_of_a_group_can_be_chosen(group):
    for path in (FOLDER / group).glob("*.yaml"):
        check_numbers(config.load("bsrnn/base", [f"{group}={path.stem}"]))


def test_the_recipes_that_are_documented():
    cfg = config.load("bsrnn/base")
    assert (cfg.train.ema, cfg.train.clip, cfg.train.early_stop.patience, cfg.train.epochs) == (0.9999, 5.0, 10, 250)
    bass = config.load("bsrnn/base", ["train_dataset.target=bass", "model=bandsplitrnnbass"])
    assert (bass.network, bass.model.target) == ("bsrnn_bass", "bass")
    assert bands_used(bass) == "network: bsrnn_bass, 30 bands (bass)"
    other = config.load("bsrnn/base", ["train_dataset.target=other"])
    assert bands_used(other) == "network: bsrnn_other, 41 bands (V7)"
    strange = config.load("bsrnn/base", ["train_dataset.target=drums"])
    assert "41 bands (V7); the usual ones of this target are model=bandsplitrnndrums" in bands_used(strange)
    paper = config.load("bsrnn/base", ["schedule=paper"])
    assert (paper.train.batch_size, paper.train.epochs, paper.data.batches_per_epoch) == (2, 100, 10000)
    assert paper.train.schedule.warmup_epochs == 0 and paper.train.schedule.every == 2


def test_an_epoch_may_count_batches(configure, songs):
    cfg = configure("data.batches_per_epoch=5", "train.batch_size=3", "train.processes=2")
    learnt, judged = bsrnn_data.salient_segments(cfg, read_index(cfg.data.index))
    assert len(learnt) == 30 and judged is not None


def test_every_key_is_explained_beside_it():
    lines = (FOLDER / "base.yaml").read_text(encoding="utf-8").split("machine_only:")[0].splitlines()
    keys = [line for line in lines if line.strip() and not line.lstrip().startswith(("#", "-")) and ":" in line]
    known = ("model.target", "model.is_mono")
    unexplained = [line for line in keys if "#" not in line and not line.rstrip().endswith(":")]
    assert len(unexplained) <= len(known), unexplained


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train_dataset.target=piano", "bsrnn_piano"),
        ("data.source=disk", "cache or decode"),
        ("model.segment_samples=16384", "shorter than the 16384"),
        ("train_dataset.silent_prob=2", "silent_prob"),
        ("augmentations=none", "there is no augmentations of this name"),
        ("data.batches_per_epoch=0", "batches_per_epoch=0: it must be at least 1"),
        ("train.batch_size=1000", "do not fill one batch"),
    ],
)
def test_what_cannot_be_is_said_early(configure, override, message):
    with pytest.raises(UserError, match=message):
        prepare(cfg := configure(override))
        train(cfg)


def test_lists_of_the_user_are_left_alone(configure, tmp_path):
    (tmp_path / "lists").mkdir()
    original = Path(configure().train_dataset.txt_dir, "vocals_train.txt").read_text().splitlines(keepends=True)
    (tmp_path / "lists" / "vocals_train.txt").write_text("".join(original[:2]))
    cfg = configure(f"train_dataset.txt_dir={tmp_path / 'lists'}", "train.steps=1")
    index = bsrnn_data.settle(cfg, processes=1)
    learnt, judged = bsrnn_data.salient_segments(cfg, index)
    assert (len(learnt), judged is not None) == (2, True)
    assert (tmp_path / "lists" / "vocals_train.txt").read_text() == "".join(original[:2])
    assert train(cfg) == 0
    with (tmp_path / "lists" / "vocals_train.txt").open("a") as handle:
        handle.write(original[2])
    with pytest.raises(UserError, match="other songs"):
        train(cfg)


def test_weights_of_another_size_say_what_they_need(tmp_path):
    sizes = {"fc_dim": 8, "rnn_dim": 4, "mlp_dim": 6, "num_layers": 1}
    torch_writer.save(reference_state(models.create("bsrnn_vocals", t_timesteps=9, **sizes)), tmp_path / "vocals.pt")
    cfg = config.load("bsrnn/base", [f"model.{key}={value}" for key, value in sizes.items()])
    found = way_out(cfg, tmp_path / "vocals.pt")
    assert found == "such weights need model.t_timesteps=9; or train from scratch without them"
    cfg = config.load("bsrnn/base", ["train.init=published", "model.t_timesteps=263", "model.mlp_dim=6"])
    said = "such weights need model.t_timesteps=9 model.fc_dim=8 model.rnn_dim=4 model.num_layers=1; "
    assert way_out(cfg, tmp_path / "vocals.pt") == said + "or train from scratch with -lm False"
    assert way_out(cfg, tmp_path) == "or train from scratch with -lm False"
