"""The way to Apollo's commands: one door, whose modes have command lines of their own."""

import pytest

from run_scripts import run_apollo
from runtime.errors import UserError
from tests.end_to_end.test_train import python

SCRIPT = "run_scripts/run_apollo.py"


def test_help_needs_no_paddle(tmp_path):
    (tmp_path / "paddle.py").write_text("raise ImportError('paddle was imported')")
    said = python(SCRIPT, "--help", PYTHONPATH=str(tmp_path)).stdout
    assert all(f"\n  {mode} " in said for mode in (*run_apollo.MODES, "train"))
    said = python(SCRIPT, "-m", "train", "--help", PYTHONPATH=str(tmp_path)).stdout
    for flag in ("-m CKPT", "--model CKPT", "-c", "-npn", "-bs", "-seed", "--steps", "--epochs", "--restart"):
        assert flag in said


def test_the_originals_command_line_is_understood():
    options = run_apollo.parse(["-c", "configs/apollo.yaml", "-m", "best.ckpt", "train.lr=0.5"])
    cfg, notes = run_apollo.settled(options)
    assert (cfg.config_name, cfg.train.init, cfg.train.lr, cfg.train.epochs) == ("apollo", "best.ckpt", 0.5, 1000)
    assert any("float32" in note for note in notes)
    cfg, notes = run_apollo.settled(run_apollo.parse(["-c", "apollo/tiny"]))
    assert (cfg.config_name, cfg.train.init, notes) == ("apollo/tiny", "scratch", ())


def test_unknown_modes_and_classes_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such mode"):
        run_apollo.main(["-m", "trian"])
    (tmp_path / "mine.yaml").write_text("exp: {name: x}\nmodel: {_target_: my.Network}\n")
    with pytest.raises(UserError, match=r"model\._target_=my\.Network"):
        run_apollo.main(["-m", "train", "-c", str(tmp_path / "mine.yaml")])
