"""The way to Apollo's commands: one door, whose modes have command lines of their own, and what they make together."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dsp import audio
from run_scripts import run_apollo
from runtime.errors import UserError
from tests.conftest import SHARED
from tests.end_to_end.test_train import python

RATE = 16000
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


def test_a_folder_with_both_data_sets(tmp_path):
    place = tmp_path / "a, b"
    with pytest.raises(UserError, match=r"a, b has no folder train: .* -m generate -gt -o"):
        run_apollo.settled(run_apollo.parse(["--dataset", str(place)]))
    (place / "train").mkdir(parents=True)
    words = ["--dataset", str(place), "-c", "configs/apollo.yaml"]
    data = run_apollo.settled(run_apollo.parse(words))[0].data
    assert (data.train.folders, data.valid.folders) == ([f"{place}/train"], ["dataset/apollo/valid"])
    (place / "valid").mkdir()
    data = run_apollo.settled(run_apollo.parse([*words, "data.train.folders=[mine]"]))[0].data
    assert (data.train.folders, data.valid.folders) == (["mine"], [f"{place}/valid"])


def songs(folder: Path, count: int) -> Path:
    """Music of a second each where it is there, noise in its place elsewhere; for another ``count`` other songs."""
    found = sorted((SHARED / "audio" / "codec" / "apollo").glob("*/ori_wav.wav"))
    folder.mkdir()
    for k in range(count):
        if found:
            x, rate = audio.read(found[0], (count + k) * 30000, 48000)
        else:
            x, rate = 0.1 * np.random.default_rng(10 * count + k).standard_normal((2, 48000)), 44100
        soundfile.write(folder / f"song {k}.wav", x.T, rate)
    return folder


def test_from_songs_to_a_network_for_others(tmp_path, monkeypatch):
    """Pairs of real MP3 files, a network trained on them, its scores, a song restored, and the files for others."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)

    def command(mode: str, *words) -> None:
        assert run_apollo.main(["-m", mode, *map(str, words)]) == 0

    for split, flag, count in (("train", "-gt", 2), ("valid", "-gv", 1)):
        words = ["-th", 1, "--sample_rate", RATE, "--bitrates", "32k"]
        command("generate", "-i", songs(tmp_path / f"{split} songs", count), "-o", f"pairs/{split}", flag, *words)
    here = ["data.cache=cache", "--model-dir", "model", "--device", "cpu"]
    command("train", "-c", "apollo/tiny", "--dataset", "pairs", "--steps", 4, "train.valid_every=2", *here)
    (run,) = (path.parent for path in Path("model").rglob("best_k_models.json"))
    codec = Path("pairs", "valid", "song 0", "codec.mp3")
    command("validate", "-m", run, "-i", "pairs/valid", "-o", "scores", "-d", "cpu")
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    best = min(history, key=lambda line: line["valid"]["loss"])
    summary = json.loads(Path("scores", "summary.json").read_text())
    assert summary["restored"]["sdr"]["mean"] == pytest.approx(best["valid"]["snr"], abs=0.1)  # of each channel there
    command("infer", "-m", run, "-i", codec, "-o", "restored", "-d", "cpu", "--format", "float32")
    command("export", "-m", run, "-o", "release")
    name = f"apollo_ep_{best['epoch']}_val_loss_{best['valid']['loss']:.4f}"
    assert {path.name for path in Path("release").iterdir()} == {f"model_{name}.ckpt", f"config_{name}.yaml"}
    words = ["-m", f"release/model_{name}.ckpt", "-c", f"release/config_{name}.yaml", "-i", codec]
    command("infer", *words, "-o", "again", "-d", "cpu", "--format", "float32")
    one, other = (audio.read(Path(folder, "codec_restored.wav"))[0] for folder in ("restored", "again"))
    assert np.array_equal(one, other) and one.shape == audio.read(codec.with_name("original.wav"))[0].shape


def test_unknown_modes_and_classes_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such mode"):
        run_apollo.main(["-m", "trian"])
    (tmp_path / "mine.yaml").write_text("exp: {name: x}\nmodel: {_target_: my.Network}\n")
    with pytest.raises(UserError, match=r"model\._target_=my\.Network"):
        run_apollo.main(["-m", "train", "-c", str(tmp_path / "mine.yaml")])
