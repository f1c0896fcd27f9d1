"""Experiments of the Demucs family stop and go on: every bit is as if they never stopped."""

import multiprocessing
import os
import signal

import numpy as np
import pytest

import models
import pretrained
from data import wave_tracks
from data.synthetic import write_songs
from data.workers import open_pool
from pretrained.package import write_package
from runtime import checkpoint
from runtime.errors import UserError
from runtime.launch import requeue_status
from tests.training.demucs_runs import EVERYTHING, experiment, outcome, train
from tests.training.runs import assert_equal
from training import demucs, demucs_data, xp_store
from training.recipes.demucs import DemucsRecipe
from training.xp_network import exported


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Three songs to learn from, two for validation, two to test on."""
    folder = tmp_path_factory.mktemp("demucs") / "songs"
    write_songs(folder, songs=7, seconds=2.0, seed=3, sample_rate=8000, splits={"valid": 2, "test": 2})
    return folder


class Interrupted(DemucsRecipe):
    """Sends a signal to its own process while it computes a loss, or the scores of a validation song."""

    number, at, during = signal.SIGTERM, 4, "loss"
    done = 0

    def loss(self, model, batch):
        self._count("loss")
        return super().loss(model, batch)

    def measure(self, model, mixture, stems):
        self._count("measure")
        return super().measure(model, mixture, stems)

    def separate(self, model, mixture, overlap, split, delays=(0,)):
        if overlap:
            self._count("test")
        return super().separate(model, mixture, overlap, split, delays)

    def _count(self, what):
        if what == self.during:
            Interrupted.done += 1
            if Interrupted.done == self.at:
                os.kill(os.getpid(), self.number)


STOPS = (("loss", 2), ("loss", 1), ("measure", 3), ("loss", 2), ("test", 1))


@pytest.mark.parametrize(("quant", "stops"), [("quant.diffq=1e-3", STOPS), ("quant.qat=6", STOPS[2:3])])
def test_stopped_in_steps_validation_and_test_it_equals_an_uninterrupted_run(
    songs, tmp_path, monkeypatch, quant, stops
):
    options = (*EVERYTHING, "quant.diffq=null", quant, "epochs=2")
    whole, stopped = (experiment(songs, tmp_path / name, *options) for name in ("whole", "stopped"))
    assert train(whole) == 0
    with monkeypatch.context() as patch:
        patch.setattr(demucs, "DemucsRecipe", Interrupted)
        for during, at in stops:
            Interrupted.during, Interrupted.at, Interrupted.done = during, at, 0
            assert train(stopped) == requeue_status()
    assert train(stopped) == 0
    assert_equal(outcome(stopped), outcome(whole))
    assert_equal(outcome(stopped, "best"), outcome(whole, "best"))
    numbers = outcome(whole)[1]
    assert (numbers["step"], numbers["epoch"], numbers["position"]) == (6, 2, 0)
    assert train(stopped) == 0  # finished: nothing changes any more
    assert_equal(outcome(stopped), outcome(whole))


def test_loader_threads_and_processes_change_nothing(songs, tmp_path, monkeypatch):
    """Interrupted they leave no process behind, and go on where they were."""
    options = ("epochs=2", "max_batches=2", "augment.repitch.proba=0.7", "test.every=9")
    calm = experiment(songs, tmp_path / "calm", *options)
    busy = experiment(songs, tmp_path / "busy", *options, "misc.num_workers=3", "misc.num_prints=1")
    assert calm.signature == busy.signature
    assert demucs_data.stretchers(calm.cfg) == 0 < demucs_data.stretchers(busy.cfg) <= 3
    assert train(calm) == 0
    opened = []
    with monkeypatch.context() as patch:
        patch.setattr(wave_tracks, "open_pool", lambda count: opened.append(open_pool(count)) or opened[-1])
        patch.setattr(demucs, "DemucsRecipe", Interrupted)
        Interrupted.during, Interrupted.at, Interrupted.done = "loss", 3, 0
        assert train(busy) == requeue_status()
    assert len(opened) == 1 and not multiprocessing.active_children()
    assert train(busy) == 0
    assert_equal(outcome(calm), outcome(busy))
    assert not multiprocessing.active_children()


def test_history_holds_every_candidate_and_the_best_one(songs, tmp_path):
    one = experiment(songs, tmp_path, *EVERYTHING, "epochs=3", "save_every=1", "optim.lr=3e-3")
    assert train(one) == 0
    lines = xp_store.history(one)
    assert len(lines) == 3 and xp_store.is_done(one)
    candidates = {"main", "ema_batch_0", "ema_batch_1", "ema_epoch_0"}
    best = []
    for line in lines:
        valid = line["valid"]
        assert candidates <= valid.keys()
        assert valid["nsdr"] == max(valid[name]["nsdr"] for name in candidates) == valid[valid["bname"]]["nsdr"]
        best.append(valid["nsdr"])
        assert valid["best"] == max(best) and valid["penalty"] > 0
        assert {"loss", "reco", "ms", "penalty", "grad", "reco_drums"} <= line["train"].keys()
    assert ["test" in line for line in lines] == [False, True, True]
    assert {"nsdr", "nsdr_med", "nsdr_vocals"} <= lines[-1]["test"].keys()
    assert [path.name for path in checkpoint.steps(one.folder / "epochs")] == ["step-00000003", "step-00000006"]
    groups, state = outcome(one, "best")
    assert state["step"] == 3 * (1 + int(np.argmax(best)))
    assert not [name for name in groups["model"] if name.endswith("_diffq")] and groups["quantiser"]
    for name in groups["quantiser"]:  # at most 2^8 values, which are what is published
        assert np.unique(groups["model"][name.removesuffix("_diffq")]).size <= 256


def test_with_validation_songs_in_training_the_newest_weights_are_the_best_ones(songs, tmp_path, capsys):
    one = experiment(songs, tmp_path, "epochs=4", "max_batches=1", "dset.train_valid=true", "optim.lr=0.3")
    assert train(one) == 0
    scores = [line["valid"] for line in xp_store.history(one)]
    assert [score["best"] for score in scores] == [min(s["loss"] for s in scores[:k]) for k in range(1, 5)]
    assert scores[-1]["best"] < max(score["loss"] for score in scores)
    assert outcome(one, "best")[1]["step"] == 4
    assert train(one) == 0
    assert f"continue_from={one.signature}" in capsys.readouterr().out


def test_no_score_is_a_number(songs, tmp_path):
    optim = ("optim.lr=999", "optim.optim=adamw", "optim.weight_decay=1e18")
    one = experiment(songs, tmp_path, "epochs=1", "max_batches=1", *optim)
    with np.errstate(all="ignore"):
        assert train(one) == 0
    assert checkpoint.best(one.folder) is None and not np.isfinite(xp_store.history(one)[-1]["valid"]["loss"])
    assert "test" in xp_store.history(one)[-1]


def test_continuing_from_another_experiment(songs, tmp_path):
    first = experiment(songs, tmp_path, "epochs=1", "ema.batch=[0.9]")
    assert train(first) == 0
    nothing = ("epochs=1", "optim.lr=1e-12", f"continue_from={first.signature}")
    for options, kind in (((), "best"), (("continue_best=false", "continue_opt=true"), "checkpoints")):
        second = experiment(songs, tmp_path, *nothing, *options)
        assert train(second) == 0
        begun, source = outcome(second)[0], outcome(first, kind)[0]
        for name, array in source["model"].items():
            assert begun["model"][name] == pytest.approx(array, abs=1e-9)
        power = next(name for name in begun["optimizer"] if "beta1_pow" in name)
        expected = outcome(first)[0]["optimizer"][power] * 0.9**3 if "continue_opt=true" in options else 0.9**4
        assert begun["optimizer"][power] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UserError, match=r"continue_from=00000000: .* train it first$"):
        train(experiment(songs, tmp_path, "continue_from=00000000"))
    with pytest.raises(UserError, match="or begin with its published weights: continue_pretrained=955717e8"):
        train(experiment(songs, tmp_path, "continue_from=955717e8"))
    with pytest.raises(UserError, match="of another network"):
        train(experiment(songs, tmp_path, f"continue_from={first.signature}", "demucs.channels=8"))


def test_beginning_with_a_published_network(songs, tmp_path):
    source = experiment(songs, tmp_path, "epochs=1", "seed=7")
    assert train(source) == 0
    name, options = exported(source.cfg)
    network = models.create(name, **options)
    pretrained.load_weights(network, source.folder)  # a run's folder is as good as any weights
    (tmp_path / "repo").mkdir()
    write_package(tmp_path / "repo" / "1234abcd.safetensors", network, half=False)
    repo = f"pretrained_repo={tmp_path / 'repo'}"
    one = experiment(songs, tmp_path, "epochs=1", "optim.lr=1e-12", "continue_pretrained=1234abcd", repo)
    assert train(one) == 0
    begun = outcome(one)[0]["model"]
    for key, array in outcome(source, "best")[0]["model"].items():
        assert begun[key] == pytest.approx(array, abs=1e-9)
    (tmp_path / "repo" / "two.yaml").write_text("models: ['1234abcd', '1234abcd']")
    with pytest.raises(UserError, match="bag of 2 networks"):
        train(experiment(songs, tmp_path, "continue_pretrained=two", repo))


def test_a_look_at_the_network_and_at_one_batch(songs, tmp_path, capsys):
    assert train(experiment(songs, tmp_path, "misc.show=true")) == 0
    said = capsys.readouterr().out
    assert "size: 0.0 MB" in said and "field: " in said and not tmp_path.joinpath("xps").exists()
    one = experiment(songs, tmp_path, "epochs=2", "flag=debug")
    assert train(one) == 0
    assert outcome(one)[1]["step"] == 2


def test_songs_that_fill_no_batch(songs, tmp_path):
    with pytest.raises(UserError, match="do not fill one batch of 64"):
        train(experiment(songs, tmp_path, "batch_size=64"))


def test_other_songs_are_refused(songs, tmp_path):
    one = experiment(songs, tmp_path / "out", "epochs=1")
    assert train(one) == 0
    write_songs(tmp_path / "others", songs=4, seconds=1.5, seed=9, sample_rate=8000, splits={"valid": 1})
    with pytest.raises(UserError, match=f"other songs.*continue_from={one.signature}"):
        train(experiment(tmp_path / "others", tmp_path / "out", "epochs=1"))
