"""Scores of restored songs as people get them: the mode validate."""

import json
from collections import OrderedDict

import numpy as np
import pytest
import scipy.signal
import soundfile
from matplotlib.image import imread

import models
from inference import restoration_scores
from metrics.log_spectral import cutoff
from metrics.restoration import UNITS
from metrics.restoration import restoration_scores as scores_of
from pretrained import reference_state
from run_scripts import apollo_validate
from runtime.errors import UserError
from tests.pretrained import torch_writer

RATE = 8000


def write_song(folder, seed, samples, channels=2, codec="codec.flac", lowpass=None):
    generator = np.random.default_rng(seed)
    music = generator.uniform(-0.3, 0.3, (samples, channels))
    folder.mkdir(parents=True)
    soundfile.write(folder / "original.wav", music, RATE)
    left = music[:-7] * 0.5 + generator.uniform(-0.1, 0.1, (samples - 7, channels))
    if lowpass:
        left = scipy.signal.sosfiltfilt(scipy.signal.butter(12, lowpass, fs=RATE, output="sos"), left, axis=0)
    soundfile.write(folder / codec, left, RATE)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three songs, a folder that is none, and weights."""
    folder = tmp_path_factory.mktemp("apollo")
    write_song(folder / "valid" / "one", 0, 12000, lowpass=2000)
    write_song(folder / "valid" / "two", 1, 9000, channels=1)
    write_song(folder / "valid" / "three.4", 2, 8000, codec="codec_wav.wav")
    write_song(folder / "valid" / "both", 3, 100)
    soundfile.write(folder / "valid" / "both" / "codec.wav", np.zeros((100, 2)), RATE)
    model = models.create("apollo", sr=RATE, win=20, feature_dim=16, layer=1)
    torch_writer.save(OrderedDict(reference_state(model)), folder / "plain.pt")
    return folder


@pytest.fixture
def command(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    return lambda *more: apollo_validate.main(
        ["-m", "plain.pt", "-i", "valid", "-o", str(tmp_path), "-d", "cpu", *more]
    )


def test_all_metrics_and_results(place, tmp_path, command, capsys):
    assert command("--metrics", *UNITS, "--save_results", "--plot", "--segments", "0.8") == 0
    said = capsys.readouterr()
    assert "both is left out: it has 1 files original.* and 2 codec.*" in said.err + said.out
    results = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "songs").iterdir()}
    assert results.keys() == {"one", "two", "three.4"}
    for name, result in results.items():
        folder = place / "valid" / name
        codec = next(folder.glob("codec*"))
        original, compressed, own = (
            soundfile.read(path, dtype="float32", always_2d=True)[0].T
            for path in (folder / "original.wav", codec, tmp_path / f"{name}_restored.wav")
        )
        assert own.shape == (2, compressed.shape[1]) and result["longer"] == -7
        original, compressed = (np.broadcast_to(each, (2, each.shape[1])) for each in (original, compressed))
        edge = cutoff(original, compressed)
        assert result["cutoff"] == pytest.approx(edge and edge * RATE)
        for which, sound in (("scores", own), ("codec", compressed)):
            expected = scores_of(UNITS, original, sound, compressed, edge)
            assert result[which] == pytest.approx({**expected, **({} if edge else {"lsd_high": None})})
        picture = imread(tmp_path / f"{name}.png")
        assert picture.shape[0] > 300 and picture.shape[1] > 900 and picture.std() > 0.1
    assert {name: bool(result["cutoff"]) for name, result in results.items()} == {
        "one": True,
        "two": False,
        "three.4": False,
    }
    assert results["one"]["cutoff"] == pytest.approx(2100, rel=0.1)
    assert "lsd_high leaves them out: three.4, two" in said.out and f"{results['one']['cutoff']:.0f} Hz" in said.out
    summary = json.loads((tmp_path / "summary.json").read_text())
    text = (tmp_path / "results.txt").read_text()
    for metric in UNITS:
        values = [result["scores"][metric] for result in results.values() if result["scores"][metric] is not None]
        assert len(values) == (1 if metric == "lsd_high" else 3)
        assert summary["restored"][metric] == pytest.approx(
            {"mean": np.mean(values), "std": np.std(values), "songs": len(values)}
        )
        assert f"{metric}: {np.mean(values):.4f} (Std: {np.std(values):.4f})" in text
        assert f"{metric}: {np.mean(values):.4f} (Std: {np.std(values):.4f})" in said.out


def test_goes_on_where_it_stopped(tmp_path, command, monkeypatch):
    scored = []
    own = restoration_scores._score

    def watched(job, separator, name, *files):
        scored.append(name)
        return own(job, separator, name, *files)

    monkeypatch.setattr(restoration_scores, "_score", watched)

    def run(*more):
        scored.clear()
        assert command(*more) == 0
        return set(scored)

    every = {"one", "two", "three.4"}
    assert run() == every and not list(tmp_path.glob("*.wav"))
    assert run() == set()
    (tmp_path / "songs" / "two.json").unlink()
    (tmp_path / "songs" / "one.json").write_text("{")
    assert run() == {"one", "two"}
    assert run("--metrics", "l1_freq") == every
    assert run("--metrics", "sdr", "l1_freq") == set()  # what is there already is kept
    assert run("--overlap", "2") == every
    assert run("--overlap", "2", "--save_results") == every
    (tmp_path / "two_restored.wav").unlink()
    assert run("--overlap", "2", "--save_results") == {"two"}
    assert run("--overlap", "2", "--plot") == every  # and lsd_high
    (tmp_path / "one.png").unlink()
    assert run("--overlap", "2", "--plot") == {"one"}
    assert run("--overlap", "2", "--restart") == every


def test_several_processes_give_the_same_scores(tmp_path, command):
    assert command() == 0
    alone = json.loads((tmp_path / "summary.json").read_text())
    assert command("-npn", "2", "--restart") == 0
    shared = json.loads((tmp_path / "summary.json").read_text())
    assert shared["restored"]["sdr"] == pytest.approx(alone["restored"]["sdr"], abs=1e-4)


def test_a_song_that_cannot_be_done_fails_alone(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    for name in ("good", "bad", "short"):
        write_song(tmp_path / "songs" / name, 5, 100 if name == "short" else 9000)
    (tmp_path / "songs" / "bad" / "codec.flac").write_bytes(b"nothing")
    out = tmp_path / "out"
    options = ["-m", "plain.pt", "-i", str(tmp_path / "songs"), "-o", str(out), "--metrics", "l1_freq"]
    assert apollo_validate.main(options) == 1
    summary = json.loads((out / "summary.json").read_text())
    assert summary["songs"] == 1 and summary["failed"].keys() == {"bad", "short"}
    assert "needs more than 1024 samples" in summary["failed"]["short"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "required: -i FOLDER"),
        (["-i", "missing"], "missing: there is no such folder"),
        (["-i", "valid/one"], "no folder in valid/one has one file original"),
        (["-i", "valid", "--metrics", "pesq"], "pesq"),
        (["-i", "valid", "--overlap", "0"], "0 is not a whole number from 1"),
        (["-i", "valid", "--window", "hann"], "window='hann' is none of"),
    ],
)
def test_what_cannot_be_is_a_sentence(place, monkeypatch, arguments, sentence):
    monkeypatch.chdir(place)
    with pytest.raises(UserError, match=sentence):
        apollo_validate.main(["-m", "plain.pt", *arguments])
