"""Restoration with Apollo as people run it: separator.py and the mode infer."""

import shutil
from collections import OrderedDict

import numpy as np
import pytest
import soundfile

import models
from pretrained import apollo, reference_state
from run_scripts import apollo_infer
from runtime import checkpoint
from runtime.errors import UserError
from tests.pretrained import torch_writer

OPTIONS = {"sr": 8000, "win": 20, "feature_dim": 16, "layer": 1}
RATE, SAMPLES = 8000, 17003


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two songs and a network in three forms: of the originals twice, and a run of ours."""
    folder = tmp_path_factory.mktemp("apollo")
    model = models.create("apollo", **OPTIONS)
    state = {name: array * np.float32(1.5) for name, array in reference_state(model).items()}
    torch_writer.save(OrderedDict(state), folder / "plain.pt")
    content = {"name": "apollo", "info": {"description": ""}, "config": OPTIONS, "state_dict": OrderedDict(state)}
    torch_writer.save(content, folder / "model_apollo.ckpt")
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    facts = {"step": 3, "network": "apollo", "config": {"network": "apollo", "model": OPTIONS}, "saved_at": 1.0}
    checkpoint.save(folder / "model" / "tiny" / "0a1b2c3d" / "best", {"model": arrays}, facts)
    (folder / "config.yml").write_text("model: {sr: 8000, win: 20, feature_dim: 16, layer: 1}\nexp: {name: x}\n")
    (folder / "other.yml").write_text("model: {sr: 16000, win: 20, feature_dim: 16, layer: 1}\n")
    (folder / "none.yml").write_text("model: {}\n")
    generator = np.random.default_rng(0)
    (folder / "songs").mkdir()
    soundfile.write(folder / "songs" / "one.two.wav", generator.uniform(-0.3, 0.3, (SAMPLES, 2)), RATE)
    soundfile.write(folder / "songs" / "mono.flac", generator.uniform(-0.3, 0.3, 22050), 22050)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def test_a_folder_of_songs_with_additions(here, tmp_path):
    arguments = ["-m", "plain.pt", "-i", "songs", "-o", str(tmp_path), "--segments", "1", "--batch_size", "2"]
    assert apollo_infer.main([*arguments, "--save_addition", "--format", "float32"]) == 0
    names = {f"{song}_{kind}.wav" for song in ("one.two", "mono") for kind in ("restored", "addition")}
    assert {path.name for path in tmp_path.iterdir()} == names
    for song, suffix in (("one.two", "wav"), ("mono", "flac")):
        music, rate = soundfile.read(here / "songs" / f"{song}.{suffix}")
        parts = [soundfile.read(tmp_path / f"{song}_{kind}.wav") for kind in ("restored", "addition")]
        assert all(part.shape == music.shape and own == rate for part, own in parts)
        np.testing.assert_allclose(parts[0][0] + parts[1][0], music, rtol=0, atol=1e-6)


def restored(folder, *arguments):
    command = ["-i", "songs/one.two.wav", "-o", str(folder), "--format", "float32", "-q", *map(str, arguments)]
    assert apollo_infer.main(command) == 0
    return soundfile.read(folder / "one.two_restored.wav", dtype="float32")[0]


def test_all_forms_of_weights_and_settings(here, tmp_path):
    first = restored(tmp_path, "-m", "plain.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["one.two_restored.wav"]
    np.testing.assert_array_equal(restored(tmp_path, "-m", "plain.pt", "-c", "config.yml"), first)
    np.testing.assert_array_equal(restored(tmp_path, "-m", "model_apollo.ckpt"), first)
    shorter = restored(tmp_path, "-m", "plain.pt", "--segments", "0.8", "--overlap", "2")
    np.testing.assert_allclose(shorter, first, rtol=0, atol=1e-5)
    reference = restored(tmp_path, "-m", "plain.pt", "--segments", "0.8", "--window", "reference")
    assert np.abs(reference - first).max() > 1e-3
    trained = restored(tmp_path)  # the run below model/
    assert np.abs(trained - first).max() > 1e-3
    np.testing.assert_array_equal(restored(tmp_path, "-m", "model/tiny/0a1b2c3d", "-c", "config.yml"), trained)


def test_the_runs_of_the_forks_configuration_come_first(here, tmp_path):
    ours = restored(tmp_path)
    arrays = {name: value.numpy() * 2 for name, value in models.create("apollo", **OPTIONS).state_dict().items()}
    facts = {"step": 1, "network": "apollo", "config": {"network": "apollo", "model": OPTIONS}, "saved_at": 1.0}
    run = here / "exps" / "apollo" / "0a1b2c3e"
    checkpoint.save(run / "best", {"model": arrays}, facts)
    theirs = restored(tmp_path)
    shutil.rmtree(here / "exps")
    assert np.abs(theirs - ours).max() > 1e-3


def test_weights_that_were_saved_come_before_runs(here, tmp_path, monkeypatch):
    first = restored(tmp_path, "-m", "plain.pt")
    monkeypatch.setattr(apollo, "SAVED", here / "plain.pt")
    np.testing.assert_array_equal(restored(tmp_path), first)


def test_separator_knows_the_network(here, tmp_path):
    import separator

    options = ["songs/one.two.wav", "-n", "apollo", "--weights", "plain.pt", "-o", str(tmp_path), "--float32"]
    assert separator.main([*options, "--residual", "--overlap", "0.4", "-q"]) == 0
    assert {path.name for path in (tmp_path / "one.two").iterdir()} == {"restored.wav", "addition.wav"}
    own = soundfile.read(tmp_path / "one.two" / "restored.wav", dtype="float32")[0]
    np.testing.assert_allclose(own, restored(tmp_path, "-m", "plain.pt"), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-m", "missing.ckpt"], "missing.ckpt"),
        (["-m", "plain.pt", "-c", "missing.yml"], "missing.yml"),
        (["-m", "plain.pt", "-c", "none.yml"], "none.yml has no options of an Apollo"),
        (["-m", "plain.pt", "-c", "other.yml"], "other.yml says sr=16000, win=20, but the bands"),
        (["-m", "model", "-c", "other.yml"], "other.yml says sr=16000, but .* has sr=8000"),
        (["-m", "plain.pt", "--overlap", "30"], "each sample can be in 1 … 20 chunks"),
        (["-m", "plain.pt", "--window", "reference:hann"], "reference:hann is none of"),
        (
            ["-m", "spleeter_2stems"],
            "spleeter_2stems is spleeter_2stems, which restores nothing: apollo, apollo_384 do",
        ),
        (["-m", "plain.pt", "--bitrates", "3"], "unknown option --bitrates"),
    ],
)
def test_what_cannot_be_is_a_sentence(here, tmp_path, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        apollo_infer.main(["-i", "songs", "-o", str(tmp_path), *arguments])


def test_without_weights(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no weights for apollo: train it, .* save the file as saved_models/apollo"):
        apollo_infer.main(["-i", str(place / "songs")])
