"""The way of RMVPE's training by its one command: train, stop, resume, go back, several processes."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from data import voice
from run_scripts import run_rmvpe
from runtime import checkpoint, config
from runtime.errors import UserError
from tests.end_to_end.inside import inside
from tests.end_to_end.test_train import ROOT, checkpoint_of, python, started

SCRIPT = "run_scripts/run_rmvpe.py"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with ``songs``: three to learn from and one to be judged by."""
    folder = tmp_path_factory.mktemp("rmvpe")
    voice.write(folder / "songs", songs=4, seconds=1.5, seed=3, test=1)
    return folder


def rmvpe(*arguments, **how):
    """The command in this process."""
    return inside(run_rmvpe.main, ROOT, *arguments, **how)


def settings(folder: Path, runs: str = "runs") -> list[str]:
    return ["-c", "rmvpe/tiny", "--dataset", f"{folder}/songs", "--logdir", f"{folder}/{runs}", "--device", "cpu"]


def test_help_needs_no_paddle(tmp_path):
    (tmp_path / "paddle.py").write_text("raise ImportError('paddle was imported')")
    said = python(SCRIPT, "--help", PYTHONPATH=str(tmp_path)).stdout
    assert all(f"\n  {mode} " in said for mode in ("prepare", "train", "infer", "evaluate"))
    said = python(SCRIPT, "-m", "train", "--help", PYTHONPATH=str(tmp_path)).stdout
    flags = (
        "--logdir --hop_length --learning_rate --batch_size --validation_interval --clip_grad_norm --nproc_per_node "
        "--iterations --learning_rate_decay_steps --learning_rate_decay_rate --resume_iteration --model_name --device "
        "--seed"
    )
    assert all(f" {flag}" in said for flag in flags.split())


def test_every_option_of_the_original_reaches_the_configuration():
    words = (
        "--logdir L --hop_length 320 --learning_rate 0.001 --batch_size 16 --validation_interval 2000 "
        "--clip_grad_norm 1 --nproc_per_node 2 --iterations 200000 --learning_rate_decay_steps 100 "
        "--learning_rate_decay_rate 0.9 --model_name E2E --device cpu --seed 5"
    )
    cfg = run_rmvpe.settled(run_rmvpe.parse(words.split()))
    train = cfg.train
    assert (cfg.model_dir, cfg.model.hop_length, cfg.network, cfg.model.timbre_filter, cfg.device) == (
        *("L", 320, "rmvpe_e2e", "used", "cpu"),
    )
    assert (train.lr, train.batch_size, train.valid_every, train.save_every, train.clip, train.processes) == (
        *(0.001, 16, 2000, 2000, 1, 2),
    )
    assert (train.steps, train.schedule.every, train.schedule.factor, train.seed) == (200000, 100, 0.9, 5)
    usual = run_rmvpe.settled(run_rmvpe.parse(["--device", "cpu"]))
    assert config.signature(usual) == config.signature(config.load("rmvpe/base"))


def test_cards_are_counted_up_to_four(monkeypatch):
    for visible, device, expected in (("0,1", "auto", 2), ("0,1,2,3,4,5", "auto", 4), ("0,1", "cpu", 1)):
        monkeypatch.setattr("runtime.device.visible_count", lambda kind, cards=visible: len(cards.split(",")))
        assert run_rmvpe.settled(run_rmvpe.parse(["--device", device])).train.processes == expected, device
    monkeypatch.setattr("runtime.device.visible_count", lambda kind: 4)
    assert run_rmvpe.settled(run_rmvpe.parse(["train.processes=1", "--device", "auto"])).train.processes == 1
    assert run_rmvpe.settled(run_rmvpe.parse(["--nproc_per_node", "2"])).train.processes == 2


def test_train_goes_on_and_back(place):
    first = rmvpe("-m", "train", "--iterations", 20, *settings(place)).stdout
    for part in ("a frame each 10 ms", "from scratch, seed 37", "rpa", "vfa", "finished at step 20"):
        assert part in first
    (run,) = (path.parent for path in (place / "runs").rglob("history.jsonl"))
    expected = {"config.yaml", "history.jsonl", "losses.csv", "loss.png", "train.log", "checkpoints", "best"}
    assert expected <= {path.name for path in run.iterdir()}
    assert len((run / "losses.csv").read_text().splitlines()) == 21
    assert json.loads((run / "history.jsonl").read_text().splitlines()[0])["step"] == 10

    arrays = checkpoint.load(checkpoint.latest(run))[0]
    back = rmvpe("-m", "train", "--iterations", 20, "--resume_iteration", 10, *settings(place)).stdout
    assert "gone back to step 10" in back and "step 20/20" in back
    again = checkpoint.load(checkpoint.latest(run))[0]
    assert all(
        value.tobytes() == again[group][key].tobytes() for group in arrays for key, value in arrays[group].items()
    )
    failed = rmvpe("-m", "train", "--resume_iteration", 15, *settings(place), status=1).stderr
    assert "no checkpoint of step 15 to go on from; those that there are: 10, 20" in failed
    assert "step 22/22" in rmvpe("-m", "train", "--iterations", 22, *settings(place)).stdout


STOPPABLE = ["-m", "train", "--seed", "7", "--iterations", "24", "--validation_interval", "4"]


@pytest.fixture(scope="module")
def whole(place) -> str:
    """A run that nobody stopped."""
    rmvpe(*STOPPABLE, *settings(place, "whole"))
    return "whole"


@pytest.mark.parametrize(("asked", "status"), [(signal.SIGTERM, 75), (signal.SIGKILL, -9)])
def test_stop_and_go_on(place, whole, asked, status):
    """Stopped or killed, the same command goes on, and the result is that of a run that nobody stopped."""
    stopped = f"stopped{status}"
    words = [*STOPPABLE, *settings(place, stopped)]
    with started(SCRIPT, *words) as running:
        for line in running.stdout:
            if line.startswith("step  6/"):
                running.send_signal(asked)
                break
        running.stdout.read()
    assert running.returncode == status and 4 <= checkpoint_of(place, stopped)[1]["step"] < 24
    assert "resumed from" in rmvpe(*words).stdout
    (one, numbers), (other, others) = checkpoint_of(place, whole), checkpoint_of(place, stopped)
    for group, arrays in one.items():
        for name, array in arrays.items():
            assert array.tobytes() == other[group][name].tobytes(), name
    histories = [[{**line, "seconds": 0} for line in each["history"]] for each in (numbers, others)]
    assert histories[0] == histories[1] and len(histories[0]) == 6
    curves = [next((place / name).rglob("losses.csv")).read_text() for name in (whole, stopped)]
    assert curves[0] == curves[1]


def test_two_processes_are_one_that_accumulates_two_batches(place):
    """Batch normalisation sees the examples of one process: so not the joined batch, but two in turn.

    The weights are the same. Running statistics are those of the first process, and one process learns them of both.
    """
    common = ["-m", "train", "--iterations", 4, "--validation_interval", 2, "model.dropout=0", "train.clip=0.1"]
    said = python(SCRIPT, *common, "--batch_size", 2, "--nproc_per_node", 2, *settings(place, "two")).stdout
    assert "2 a process × 2 processes × 1 accumulated = 4 segments" in said and "finished at step 4" in said
    rmvpe(*common, "--batch_size", 2, "train.accumulate=2", *settings(place, "one"))
    (one, _), (two, _) = checkpoint_of(place, "one"), checkpoint_of(place, "two")
    weights = [name for name in one["model"] if "running_" not in name]
    assert max(float(np.abs(one["model"][name] - two["model"][name]).max()) for name in weights) <= 1e-5
    losses = [
        np.loadtxt(next((place / name).rglob("losses.csv")), delimiter=",", skiprows=1) for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_demo(place, tmp_path):
    small = ["train.steps=4", "train.valid_every=2", "data.samples_per_epoch=16", "model.en_de_layers=2"]
    where = ["--folder", tmp_path, "--dataset", place / "songs"]
    said = python("run_scripts/run_rmvpe_demo.py", *where, *small, "model.en_out_channels=2").stdout
    assert "step 0  " in said and "trained  " in said and "CPU minutes of training" in said
    assert len(list((tmp_path / "pitch").glob("*.csv"))) == len(list((tmp_path / "pitch").glob("*.png"))) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "say with -m what to do"),
        (["-m", "predict"], 2, "there is no such mode"),
        (["-m", "train", "--itterations", "3"], 2, "did you mean --iterations"),
        (["-m", "train", "--model_name", "E3E"], 2, "E2E0"),
        (["-m", "train", "--hop_length", "0"], 2, "not a whole number from 1 on"),
        (["-m", "train", "--dataset", "/nowhere", "--device", "cpu"], 1, "run_rmvpe.py -m prepare"),
        (["-m", "train", "train.learning_rate=1"], 1, "unknown key train.learning_rate"),
        (["-m", "train", "--resume_iteration", "100", "--device", "cpu"], 1, "no checkpoint of step 100"),
    ],
)
def test_bad_input_gives_one_sentence(arguments, status, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        run_rmvpe.main(arguments)
    assert caught.value.status == status and says in str(caught.value) and "\n" not in str(caught.value)
