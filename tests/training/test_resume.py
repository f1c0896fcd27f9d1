"""N steps are k steps, a stop of any kind, and N − k steps: bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import checkpoint, config
from runtime.errors import UserError
from runtime.launch import requeue_status
from tests.training.runs import assert_equal, outcome, settings, train
from training import recipes
from training.recipes.spleeter import SpleeterRecipe

ROOT = Path(__file__).resolve().parents[2]

# everything that has a state of its own, and steps that begin inside an epoch
EVERYTHING = (
    "train.ema=0.9",
    "model.dropout=0.3",
    "model.batch_norm=batch",
    "train.accumulate=2",
    "train.clip=1.0",
    "train.schedule.kind=cosine",
    "train.schedule.steps=12",
    "train.schedule.warmup=3",
    "data.augment.gain=6",
    "data.augment.swap_channels=0.5",
    "data.augment.time_stretch=0.1",
    "train.valid_every=3",
)


@pytest.mark.parametrize("options", [(), EVERYTHING], ids=["plain", "everything"])
def test_a_run_in_two_parts_equals_one(configure, options):
    whole = configure(*options, "train.steps=9", folder="whole")
    assert train(whole) == 0
    parts = [configure(*options, f"train.steps={steps}", folder="parts") for steps in (4, 9)]
    assert [train(part) for part in parts] == [0, 0]
    assert config.run_folder(parts[0], "") == config.run_folder(parts[1], "")
    assert_equal(outcome(parts[1]), outcome(whole))
    if options:
        assert_equal(outcome(parts[1], "best"), outcome(whole, "best"))


def test_loader_threads_and_the_rhythm_of_saving_change_nothing(configure):
    calm = configure("train.steps=6", folder="calm")
    busy = configure("train.steps=6", "data.workers=2", "train.save_every=1", "train.log_every=5", folder="busy")
    assert train(calm) == train(busy) == 0
    assert_equal(outcome(calm), outcome(busy))


class Interrupted(SpleeterRecipe):
    """Sends a signal to its own process while it computes a loss, or a validation score."""

    number = signal.SIGTERM
    at, during = 4, "loss"

    def loss(self, model, batch):
        self._count("loss")
        return super().loss(model, batch)

    def validate(self, model, batch):
        self._count("validate")
        return super().validate(model, batch)

    def _count(self, what):
        if what == self.during:
            self.done = getattr(self, "done", 0) + 1
            if self.done == self.at:
                os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("number", "status", "during", "at"),
    [
        (signal.SIGTERM, requeue_status(), "loss", 4),
        (signal.SIGUSR1, requeue_status(), "loss", 1),
        (signal.SIGINT, 130, "loss", 5),
        (signal.SIGTERM, requeue_status(), "validate", 1),
    ],
)
def test_a_signal_saves_and_the_resumed_run_equals_an_uninterrupted_one(
    configure, uninterrupted, monkeypatch, capsys, number, status, during, at
):
    options = ("train.steps=7", "train.valid_every=2", "train.batch_size=1")
    whole = uninterrupted(*options)
    cfg = configure(*options, folder="stopped")
    Interrupted.number, Interrupted.during, Interrupted.at = number, during, at
    with monkeypatch.context() as patch:
        patch.setattr(recipes, "create", Interrupted)
        capsys.readouterr()
        assert train(cfg) == status
    step = outcome(cfg)[1]["step"]
    assert step == (at if during == "loss" else 2)
    assert f"step {step}" in (said := capsys.readouterr().out) and "saved" in said
    assert f"status {status}" in said
    assert train(cfg) == 0
    assert_equal(outcome(cfg), outcome(whole))


KILLER = """
import os, signal, sys
import runtime.checkpoint, runtime.atomic, safetensors.numpy
moment, step = sys.argv[1], sys.argv[2]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def now(path):
    return os.path.basename(path) == "step-" + step.zfill(8)

save_file, rename, rotate = safetensors.numpy.save_file, os.rename, runtime.checkpoint.rotate

def cut_short(arrays, path, *more):
    save_file(arrays, path, *more)
    if now_writing[0]:
        with open(path, "r+b") as handle:
            handle.truncate(path.stat().st_size // 2)
        die()

now_writing = [False]
save = runtime.checkpoint.save

def saving(folder, groups, state):
    now_writing[0] = state["step"] == int(step) and moment == "arrays"
    return save(folder, groups, state)

runtime.checkpoint.save = saving
safetensors.numpy.save_file = cut_short
if moment == "rename":
    os.rename = lambda a, b: die() if now(b) else rename(a, b)
if moment == "rotate":
    def rotating(folder, keep):
        if os.path.basename(folder) == "checkpoints" and os.path.exists(os.path.join(folder, "step-" + step.zfill(8))):
            die()
        return rotate(folder, keep)
    runtime.checkpoint.rotate = rotating
from run_scripts.run_spleeter import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize("moment", ["arrays", "rename", "rotate"])
def test_killed_while_it_saves(songs, configure, uninterrupted, tmp_path, moment):
    options = ("train.steps=6", "train.save_every=2", "train.keep=1", "train.valid_every=3", "train.ema=0.9")
    whole = uninterrupted(*options)
    cfg = configure(*options, "data.source=cache", folder="killed")
    arguments = ["-c", "spleeter/tiny", "-m", "fast_train", "--device", "cpu", *settings(songs), *options]
    killed = subprocess.run(
        [sys.executable, "-c", KILLER, moment, "4", *arguments, f"model_dir={tmp_path / 'killed'}"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = checkpoint.steps(config.run_folder(cfg, cfg.model_dir) / "checkpoints")
    assert left[-1].name == ("step-00000004" if moment == "rotate" else "step-00000002")
    assert train(cfg) == 0
    assert_equal(outcome(cfg), outcome(whole))
    assert_equal(outcome(cfg, "best"), outcome(whole, "best"))
    for kind in ("checkpoints", "best"):
        assert len(checkpoint.steps(config.run_folder(cfg, cfg.model_dir) / kind)) == 1  # train.keep, and one best
    history = (config.run_folder(cfg, cfg.model_dir) / "history.jsonl").read_text()
    assert history.count("\n") == 2


def test_another_configuration_is_another_run(configure):
    one, other = configure("train.lr=1e-3"), configure("train.lr=2e-3")
    longer = configure("train.lr=1e-3", "train.steps=50", "data.workers=1", "train.log_every=7")
    assert config.run_folder(one, "") != config.run_folder(other, "")
    assert config.run_folder(one, "") == config.run_folder(longer, "")


def test_damaged_checkpoints_and_other_songs_are_refused(configure, songs):
    cfg = configure("train.steps=2")
    train(cfg)
    last = checkpoint.latest(config.run_folder(cfg, cfg.model_dir))
    arrays = last / "optimizer.safetensors"
    content = arrays.read_bytes()
    arrays.write_bytes(content[:-10])
    with pytest.raises(UserError, match="damaged"):
        train(cfg)
    arrays.write_bytes(content)
    fewer = configure("train.steps=2", "data.samples_per_epoch=3")
    os.rename(config.run_folder(cfg, cfg.model_dir), config.run_folder(fewer, fewer.model_dir))
    with pytest.raises(UserError, match=r"other songs.*--restart"):
        train(fewer)
