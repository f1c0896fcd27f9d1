"""What is settled, or refused, before a run starts."""

import re

import pytest

from data.synthetic import write_songs
from runtime import checkpoint, config
from runtime.errors import UserError
from tests.training.runs import outcome, train
from training.prepare import claim, prepare


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("train.batch_size=0", "train.batch_size=0"),
        ("train.lr=-1.0", "train.lr"),
        ("train.ema=1.0", "train.ema"),
        ("train.ema=nan", "train.ema=nan"),
        ("train.betas=[0.9]", "train.betas=[0.9]: it needs two numbers"),
        ("train.betas=[0.9,1.0]", "train.betas"),
        ("train.weight_decay=inf", "train.weight_decay=inf"),
        ("train.seed=-1", "train.seed=-1"),
        ("train.schedule.steps=0", "train.schedule.steps=0"),
        ("train.schedule.kind=linear", "train.schedule.kind=linear"),
        ("data.workers=-1", "data.workers=-1"),
        ("data.samples_per_epoch=0", "data.samples_per_epoch=0"),
        ("train.steps=null", "--steps"),
        ("model.segment_frames=100", "segment_frames=100"),
        ("data.index=/nowhere/index.jsonl", "/nowhere/index.jsonl"),
        ("model.conv_activation=GELU", "GELU"),
    ],
)
def test_impossible_settings_are_named(configure, override, names):
    with pytest.raises(UserError, match=re.escape(names)):
        prepare(configure(override))


def test_a_run_that_cannot_begin_leaves_no_folder(configure, tmp_path):
    with pytest.raises(UserError, match="process_data"):
        prepare(configure(f"data.cache={tmp_path / 'empty'}"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("train.loss=L3", "train.loss"),
        ("train.schedule.kind=linear", "train.schedule.kind"),
        ("data.source=tape", "data.source"),
        ("data.augment.time_stretch=3.0", "time_stretch"),
        ("model.segment_frames=512", "no segment of 512 frames"),
        ("model.instruments=[vocals,piano]", "piano"),
        ("data.cache=/nowhere", "process_data"),
    ],
)
def test_what_only_the_run_can_find_out(configure, override, names):
    with pytest.raises(UserError, match=names):
        train(configure(override))


def test_nothing_to_start_from_says_how_to_go_on(configure, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "published"))
    with pytest.raises(UserError, match=r"-lm True.*2stems.*unpack.*-lm False"):
        prepare(configure("train.init=published"), offline=True)
    with pytest.raises(UserError, match="no file or folder /nowhere/weights"):
        prepare(configure("train.init=/nowhere/weights"))


def test_weights_of_another_run_are_a_beginning(configure):
    first = configure("train.steps=3", "train.ema=0.5")
    train(first)
    source = checkpoint.latest(config.run_folder(first, first.model_dir))
    second = configure("train.steps=1", "train.lr=0.0", f"train.init={source}")
    train(second)
    (trained, _), (begun, numbers) = outcome(first), outcome(second)
    assert numbers["step"] == 1
    for name, array in begun["model"].items():
        assert (array == trained["ema"][name]).all()
    other = configure("train.steps=1", "model.filters=[3,3,3,3,3,3]", f"train.init={source}")
    with pytest.raises(UserError, match=r"do not fit.*; or train from scratch without them"):
        train(other)


def test_restart_sets_the_old_run_aside(configure, capsys):
    cfg = configure("train.steps=2")
    train(cfg)
    folder = config.run_folder(cfg, cfg.model_dir)
    assert prepare(cfg) == folder and checkpoint.latest(folder)
    assert prepare(cfg, restart=True) == folder and checkpoint.latest(folder) is None
    (old,) = folder.parent.glob(f"{folder.name}-until-*")
    assert checkpoint.latest(old) and str(old) in capsys.readouterr().out


def test_a_new_run_mentions_the_ones_beside_it(configure, capsys):
    cfg = configure("train.steps=2", "train.lr=0.5")
    train(cfg)
    capsys.readouterr()
    prepare(configure("train.steps=3", "train.lr=0.5"))
    assert "this is not the run" not in capsys.readouterr().out  # it goes on with it
    prepare(configure("train.lr=0.25"))
    said = capsys.readouterr().out
    assert f"{config.run_folder(cfg, cfg.model_dir)} (step 2), which has train.lr=0.5\n" in said


def test_one_training_at_a_time(configure):
    cfg = configure("train.steps=1")
    folder = config.run_folder(cfg, cfg.model_dir)
    with claim(folder), pytest.raises(UserError, match="another process is training"):
        train(cfg)
    assert train(cfg) == 0


def test_without_validation_songs_the_last_weights_count(configure, tmp_path, capsys):
    from data.layout import SplitRule
    from data.scan import build_index

    write_songs(tmp_path / "few", songs=2, seconds=2.5, seed=1, sample_rate=16000)
    build_index(tmp_path / "few", rule=SplitRule(valid_fraction=0.0))
    cfg = configure(f"data.dataset={tmp_path / 'few'}", "data.source=decode", "train.steps=2", "train.valid_every=1")
    assert train(cfg) == 0
    assert "no validation songs" in capsys.readouterr().err
    assert checkpoint.best(config.run_folder(cfg, cfg.model_dir)) is None


def test_an_empty_split(configure, songs, tmp_path):
    lines = (songs["dataset"] / "index.jsonl").read_text().replace('"split": "train"', '"split": "test"')
    header, *rest = lines.splitlines(keepends=True)
    index = tmp_path / "index.jsonl"
    index.write_text(header.replace('"root": "."', f'"root": "{songs["dataset"]}"') + "".join(rest))
    with pytest.raises(UserError, match="'train' has no songs"):
        train(configure(f"data.index={index}"))
