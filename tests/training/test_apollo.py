"""Apollo in the training loop: two networks step by step, runs in parts, whole files, the best weights."""

import json
import os
import signal
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
import soundfile

from pretrained import load_reference_state, reference_state
from run_scripts import run_apollo
from runtime import checkpoint, config
from runtime.device import Device
from runtime.distributed import Group
from runtime.errors import UserError
from runtime.launch import requeue_status
from sdaa_emulator import environment
from tests.end_to_end.test_train import python
from tests.pretrained import torch_writer
from tests.sdaa.cards import needs_compiler
from tests.training.runs import assert_equal, outcome, train
from training import experiment, recipes
from training.adversarial import AdversarialTrainer
from training.apollo_data import in_pieces
from training.gradients import trainable
from training.interrupts import StopRequests
from training.recipes.apollo import ApolloRecipe
from training.state import State, model_arrays
from training.stream import Stream
from training.trainer import best_steps

SEED = 614020


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Folders ``train`` and ``valid`` of noises and what a low-pass leaves of them."""
    folder, random = tmp_path_factory.mktemp("apollo"), np.random.default_rng(3)
    for split, count in (("train", 3), ("valid", 2)):
        for number in range(count):
            original = 0.1 * random.standard_normal((9000 + 500 * number, 2))
            codec = np.stack([np.convolve(x, np.hanning(9) / 4, "same") for x in original.T], axis=1)
            song = folder / split / f"song{number}"
            song.mkdir(parents=True)
            for name, x in (("original", original), ("codec", codec)):
                soundfile.write(song / f"{name}.wav", x, 16000, subtype="FLOAT")
    return folder


@pytest.fixture
def settings(pairs, tmp_path):
    """``settings("train.lr=1", folder="other")``: overrides of a run below the test's folder."""

    def make(*overrides: str, folder: str = "model") -> list[str]:
        places = [f"data.{split}.folders=[{pairs}/{split}]" for split in ("train", "valid")]
        formats = [f"data.{split}.codec_format=wav" for split in ("train", "valid")]
        return [*places, *formats, f"data.cache={pairs}/cache", f"model_dir={tmp_path / folder}", *overrides]

    return make


@pytest.fixture
def configure(settings):
    return lambda *overrides, **more: config.load("apollo/tiny", settings(*overrides, **more))


# ------------------------------------------------------------------------------------------------ the steps

BY_HAND = (
    *("train.steps=4", "train.batch_size=1", "data.samples_per_epoch=2", "train.valid_every=100"),
    *("train.clip=0.02", "train.epsilon=1e-4", "train.schedule.every=1", "train.schedule.factor=0.5"),
    *("train.discriminator.clip=0.03", "train.discriminator.epsilon=1e-4", "train.discriminator.schedule.factor=0.7"),
    *("train.weight_decay=0.1", "train.check_every=1", "train.discriminator.schedule.every=1"),
)


def by_hand(cfg, processes: int) -> tuple[dict, dict]:
    """The tensors of both networks after the steps of ``cfg``, by NumPy over gradients of the recipe's losses."""
    recipe = recipes.create(cfg)
    data, _ = recipes.datasets(cfg, recipes.index(cfg))
    replicas = [(recipe.build_model(), recipe.opponent().model) for _ in range(processes)]
    states = [State(model, recipe.optimizer(model)) for model, _ in replicas]
    streams = [Stream(data, state, SEED, 1, rank, processes) for rank, state in enumerate(states)]
    kinds = (cfg.train, cfg.train.discriminator)
    moments = [{name: [0.0, 0.0] for name in trainable(network)} for network in replicas[0]]

    def update(which: int, step: int, epoch: int) -> None:
        networks, keys = [replica[which] for replica in replicas], kinds[which]
        every = [trainable(network) for network in networks]
        slopes = {
            name: np.mean([values[name].grad.numpy().astype(np.float64) for values in every], axis=0)
            for name in every[0]
        }
        norm = sum((slope**2).sum() for slope in slopes.values()) ** 0.5
        assert norm > keys.clip  # so the limit acts
        rate = keys.lr * keys.schedule.factor ** (epoch // keys.schedule.every)
        for name, slope in slopes.items():
            slope, both = slope * keys.clip / norm, moments[which][name]
            for k, power in enumerate((1, 2)):
                both[k] = keys.betas[k] * both[k] + (1 - keys.betas[k]) * slope**power
            first, second = (both[k] / (1 - keys.betas[k] ** step) for k in (0, 1))
            weight = every[0][name].numpy().astype(np.float64) * (1 - rate * keys.weight_decay)
            weight -= rate * first / (np.sqrt(second) + keys.epsilon)
            for values in every:
                values[name].set_value(weight.astype(np.float32))
        for network in networks:
            network.clear_gradients()

    for step in range(1, cfg.train.steps + 1):
        epoch = states[0].epoch
        batches = [stream.next() for stream in streams]
        for (model, critic), batch in zip(replicas, batches, strict=True):
            recipe.discriminator_loss(critic, recipe.output(model, batch).detach(), batch).backward()
        update(1, step, epoch)
        for (model, critic), batch in zip(replicas, batches, strict=True):
            recipe.generator_loss(critic, recipe.output(model, batch), batch)[0].backward()
            critic.clear_gradients()
        update(0, step, epoch)
    return tuple(model_arrays(network) for network in replicas[0])


@pytest.mark.parametrize(
    ("device", "processes"), [("cpu", 1), ("cpu", 2), pytest.param("sdaa", 2, marks=needs_compiler)]
)
def test_steps_are_those_of_two_optimisers_one_after_the_other(settings, device, processes):
    """Limits, weight decay, rates by epoch and, with two processes, the mean of the gradients included.

    On two emulated cards it is a crash if the host touches their memory.
    """
    overrides = settings(*BY_HAND, f"train.processes={processes}")
    cfg = config.load("apollo/tiny", overrides)
    expected = by_hand(cfg, processes)
    if processes == 1:
        assert train(cfg) == 0
    else:
        command = ["-m", "train", "-c", "apollo/tiny", "--device", device, "-npn", "2", *overrides]
        cards = environment(cards=2, strict=True) if device == "sdaa" else {}
        python("run_scripts/run_apollo.py", *command, **cards)
    groups = outcome(cfg)[0]
    for group, arrays in zip(("model", "discriminator"), expected, strict=True):
        assert groups[group].keys() == arrays.keys()
        for name, value in arrays.items():
            assert np.abs(groups[group][name] - value).max() < 5e-6, (group, name)


def test_several_batches_make_one_update(configure):
    """The generator's gradient is the mean of theirs; the discriminator stands still."""
    still = "train.discriminator.lr=0", "train.discriminator.weight_decay=0", "train.steps=1", "train.epsilon=1e-3"
    cfg = configure(*still, "train.accumulate=2", "train.batch_size=1", "train.valid_every=100", "train.weight_decay=0")
    recipe = recipes.create(cfg)
    data, _ = recipes.datasets(cfg, recipes.index(cfg))
    model, critic = recipe.build_model(), recipe.opponent().model
    state = State(model, recipe.optimizer(model))
    stream = Stream(data, state, SEED, 1)
    batches = [stream.next() for _ in range(2)]
    with paddle.no_grad():  # as many passes, for each brings the singular vectors nearer
        for batch in batches:
            recipe.discriminator_loss(critic, recipe.output(model, batch), batch)
    for batch in batches:
        (recipe.generator_loss(critic, recipe.output(model, batch), batch)[0] * 0.5).backward()
    state.optimizer.step()
    assert train(cfg) == 0
    groups = outcome(cfg)[0]
    for name, value in model_arrays(model).items():
        assert np.abs(groups["model"][name] - value).max() < 1e-6, name
    start = model_arrays(recipe.opponent().model)
    assert all((groups["discriminator"][name] == start[name]).all() for name in trainable(critic))


def test_a_gradient_that_is_not_finite_changes_neither_network(configure):
    cfg = configure("train.max_bad_steps=1")

    class Broken(ApolloRecipe):
        def discriminator_loss(self, discriminator, output, batch):
            return super().discriminator_loss(discriminator, output, batch) * float("nan")

    state = AdversarialTrainer.begin(cfg, recipe := Broken(cfg), recipe.build_model(), Device("cpu", 0, "test"))
    before = [model_arrays(network) for network in (state.model, state.opponent.model)]
    data, _ = recipes.datasets(cfg, recipes.index(cfg))
    item = data.item(0, 0)
    batch = {name: item[name][None] for name in ("codec", "original")} | {"songs": [item["song"]]}
    stream, journal = SimpleNamespace(next=lambda: batch), SimpleNamespace(warn=lambda message: None)
    trainer = AdversarialTrainer(cfg, recipe, state, stream, None, Group(), journal, StopRequests(), Path(), {})
    with pytest.raises(UserError, match=f"stopped after 1 updates.*discriminator.*{item['song']}"):
        trainer.update()
    for network, arrays in zip((state.model, state.opponent.model), before, strict=True):
        after = model_arrays(network)
        assert all((after[name] == arrays[name]).all() for name in trainable(network))


# ------------------------------------------------------------------------------------------------ runs


def test_the_best_weights_are_kept(configure):
    cfg = configure("train.valid_every=1", "train.steps=5", "train.keep_best=2", "train.early_stop.patience=null")
    assert train(cfg) == 0
    run = config.run_folder(cfg, cfg.model_dir)
    history = outcome(cfg)[1]["history"]
    expected = best_steps(history, 2)
    assert {int(path.name[5:]) for path in checkpoint.steps(run / "top")} == expected.keys()
    assert json.loads((run / "best_k_models.json").read_text()) == {
        f"top/step-{step:08d}": loss for step, loss in expected.items()
    }
    assert history[0]["valid"].keys() == {"loss", "snr", "sisdr", "sdsdr"}
    assert all(line["valid"]["loss"] == -line["valid"]["sisdr"] for line in history)


def begun(cfg) -> tuple[list[dict], str]:
    """The arrays of both networks that a run begins with, and where it says they are from."""
    state, origin = experiment.begin(cfg, recipes.create(cfg), Device("cpu", 0, "test"), Path("nowhere"), {})
    return [model_arrays(network) for network in (state.model, state.opponent.model)], origin


def test_a_new_run_begins_with_both_networks_of_another(configure):
    """A run's folder stands for its best weights, with the discriminator of that time; older ones may have none."""
    first = configure("train.steps=4", "train.valid_every=2")
    assert train(first) == 0
    run = config.run_folder(first, first.model_dir)
    best = checkpoint.best(run)
    found, origin = begun(configure(f"train.init={run}"))
    for arrays, group in zip(found, ("model", "discriminator"), strict=True):
        assert_same(arrays, checkpoint.load(best, [group])[0][group])
    assert origin.startswith(f"{best} (checkpoint, ") and origin.endswith(f"; discriminator: from {best}")
    groups, state = checkpoint.load(best, ["model"])
    alone = checkpoint.save(run / "alone", groups, state)
    found, origin = begun(configure(f"train.init={alone}"))
    assert origin.startswith(f"{alone} (checkpoint, ") and origin.endswith("; discriminator: from scratch")
    assert_same(found[1], model_arrays(recipes.create(first).opponent().model))


def test_a_new_run_begins_with_both_networks_of_the_forks_checkpoint(configure, tmp_path):
    recipe, random = recipes.create(cfg := configure()), np.random.default_rng(7)
    networks = {"audio_model": recipe.build_model(), "discriminator": recipe.opponent().model}
    states = {
        kind: {name: random.standard_normal(array.shape).astype(np.float32) for name, array in state.items()}
        for kind, state in ((kind, reference_state(network)) for kind, network in networks.items())
    }
    module = {f"{kind}.{name}": array for kind, state in states.items() for name, array in state.items()}
    content = {"epoch": 3, "pytorch-lightning_version": "2.1", "state_dict": OrderedDict(module)}
    torch_writer.save(content, source := tmp_path / "epoch=3-val_loss=-1.5.ckpt")
    found, origin = begun(configure(f"train.init={source}"))
    for network, arrays, state in zip(networks.values(), found, states.values(), strict=True):
        load_reference_state(network, state)
        assert_same(arrays, model_arrays(network))
    assert origin.endswith(f"; discriminator: from {source}")
    with pytest.raises(UserError, match=r"do not fit apollo.*; such weights need model\.feature_dim=16; or .* without"):
        begun(configure(f"train.init={source}", "model.feature_dim=32"))
    with pytest.raises(UserError, match=r"the discriminator in .*\.ckpt cannot be taken: .* missing"):
        begun(configure(f"train.init={source}", "discriminator.window=[32,64,128]"))
    assert cfg.discriminator.window == [32, 128]


def assert_same(arrays: dict, expected: dict) -> None:
    assert arrays.keys() == expected.keys()
    assert all(array.tobytes() == expected[name].tobytes() for name, array in arrays.items())


def test_weights_that_cannot_be_had_are_named(configure, monkeypatch, tmp_path):
    with pytest.raises(
        UserError, match=r"start from, my\.ckpt, cannot be had: there is no file .*my\.ckpt; or .* without"
    ):
        begun(configure("train.init=my.ckpt"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"-lm True.*save the file as saved_models/apollo/pytorch_model\..*-lm False"):
        begun(configure("train.init=published"))


def test_sigterm_saves_and_the_same_command_goes_on(settings, capsys, monkeypatch):
    """Bit for bit: both networks, their optimisers, the singular vectors and the order of the pieces.

    The signal comes between the updates of the two networks; the step is finished first.
    """
    usual = ("train.steps=5", "train.valid_every=2", "train.clip=0.1", "train.schedule.every=1", "data.workers=2")
    usual += ("train.visualdl=true", "train.audio_seconds=0.1")
    whole = config.load("apollo/tiny", settings(*usual, folder="whole"))
    assert train(whole) == 0
    overrides = settings(*usual, folder="stopped")
    command = ["-m", "train", "-c", "apollo/tiny", "--device", "cpu", *overrides]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    judge, calls = ApolloRecipe.generator_loss, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return judge(*arguments)

    monkeypatch.setattr(ApolloRecipe, "generator_loss", interrupted)
    assert run_apollo.main(command) == requeue_status()
    stopped = config.load("apollo/tiny", overrides)
    assert outcome(stopped)[1]["step"] == 3 and f"status {requeue_status()}" in capsys.readouterr().out
    assert run_apollo.main(command) == 0 and "resumed from" in capsys.readouterr().out
    assert_equal(outcome(stopped), outcome(whole))
    assert_equal(outcome(stopped, "best"), outcome(whole, "best"))
    assert outcome(whole)[0].keys() == {"model", "optimizer", "discriminator", "discriminator_optimizer"}
    assert outcome(whole, "best")[0].keys() == {"model", "discriminator"}
    heard(whole)


def heard(cfg) -> None:
    """What VisualDL has to play of a run of four validations."""
    from visualdl import LogReader

    (log,) = (config.run_folder(cfg, cfg.model_dir) / "logs").glob("vdlrecords.*.log")
    reader = LogReader(file_path=str(log))
    assert set(reader.get_tags()["audio"]) == {f"audio/{name}" for name in ("original", "codec", "restored")}
    assert [record.id for record in reader.get_data("audio", "audio/restored")] == [2, 4, 5]


def test_pieces_of_a_song_are_the_whole(configure):
    recipe = recipes.create(cfg := configure())
    model = recipe.build_model()
    model.eval()
    x = np.random.default_rng(0).standard_normal((2, 16321)).astype(np.float32)
    whole = recipe.restored(model, x)
    unit = model.config.stride
    parts = in_pieces(lambda piece: recipe.restored(model, piece), x, 40 * unit, model.config.reach)
    assert parts.shape == whole.shape == x.shape and cfg.model.sr == 16000
    assert np.abs(parts - whole).max() < 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.metric=sdr", "choose snr, sisdr, sdsdr"),
        ("train.amp=true", "float32"),
        ("data.segment=0.05", "over half of 2048 samples"),
        ("data.train.folders=[]", "data.train.folders is empty"),
        ("data.valid.folders=[nowhere]", "nowhere is not a folder"),
    ],
)
def test_what_cannot_be_is_refused(configure, change, message):
    with pytest.raises(UserError, match=message):
        train(configure(change))
