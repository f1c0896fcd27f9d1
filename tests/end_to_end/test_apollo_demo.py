"""`make demo-apollo`: the chain of commands over songs, and that what it trains restores what the codec has cut off."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data import mixtures
from data.index import load_stem, read_index
from data.scan import build_index
from dsp import audio
from run_scripts import run_apollo, run_apollo_demo
from run_scripts.run_demo import Commands
from runtime.errors import UserError

TINY = ["model.feature_dim=16", "model.sr=16000", "data.segment=0.2", "discriminator.window=[256]", "train.ema=0"]
TINY += ["train.steps=20", "train.schedule.steps=20", "train.schedule.warmup=5", "train.loss_curve=false"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Songs of noise, of which half is a voice: as much of it above the codec's cut-off as below."""
    folder, random = tmp_path_factory.mktemp("songs"), np.random.default_rng(0)
    for name in ("train/one", "train/two", "test/three"):
        (folder / name).mkdir(parents=True)
        voice, rest = 0.07 * random.standard_normal((2, 2 * 44100, 2))
        for stem, track in (("vocals", voice), ("accompaniment", rest), ("mixture", voice + rest)):
            soundfile.write(folder / name / f"{stem}.wav", track, 44100, subtype="FLOAT")
    build_index(folder)
    return folder


def test_mixtures_of_a_data_set(dataset, tmp_path):
    assert mixtures.main([str(dataset), str(tmp_path), "--splits", "test", "train"]) == 0
    index = read_index(dataset)
    for song in index.songs:
        music, rate = audio.read(tmp_path / song.split / f"{song.name}.wav")
        assert rate == song.sample_rate and (music == load_stem(index, song, "mixture")).all()
    with pytest.raises(UserError, match="the split 'valid' has no songs"):
        mixtures.write_mixtures(dataset, tmp_path, ["valid"])
    with pytest.raises(UserError, match=r"lies in the data set .*, which is never changed"):
        mixtures.write_mixtures(dataset, dataset / "mixtures")


def test_the_demo_restores_and_goes_on(dataset, tmp_path, monkeypatch, capsys):
    """Its commands, in this process: with a network that learns in seconds."""

    def command(self, *arguments):
        if arguments[0] == "-m":
            assert mixtures.main(list(arguments[2:])) == 0
        else:
            assert arguments[0] == "run_scripts/run_apollo.py" and run_apollo.main(list(arguments[1:])) == 0

    monkeypatch.setattr(Commands, "command", command)
    words = ["--folder", str(tmp_path), "--dataset", str(dataset), "device=cpu", *TINY]
    assert run_apollo_demo.main(words) == 0
    said = capsys.readouterr().out
    rows = re.findall(r"^(codec|untrained|trained) +(\S+) +(\S+) +(\S+) *$", said, re.MULTILINE)
    assert [row[0] for row in rows] == ["codec", "untrained", "trained"]
    codec, untrained, trained = (float(row[1]) for row in rows)
    assert trained < codec - 5 and trained < untrained - 5
    (picture,) = tmp_path.glob("*/evaluation/trained/*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    (summary,) = tmp_path.glob("*/evaluation/trained/summary.json")
    assert json.loads(summary.read_text())["restored"]["lsd_high"]["mean"] == pytest.approx(trained, abs=0.01)
    assert run_apollo_demo.main(words) == 0
    again = capsys.readouterr().out
    assert "0 pairs written, 2 were there" in again and "scored already" in again and "step  " not in again
