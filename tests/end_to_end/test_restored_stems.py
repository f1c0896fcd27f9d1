"""From the mixture to the restored vocals and their pitch, as people run it: separator.py --restore --pitch."""

import json

import numpy as np
import pytest
import soundfile

import models
import separator
from models.tensors import tensors
from run_scripts import rmvpe_infer
from runtime import checkpoint
from runtime.errors import UserError
from tests.end_to_end.small_spleeter import SMALL_SPLEETER

APOLLO = {"sr": 8000, "win": 20, "feature_dim": 16, "layer": 1, "segment": 1}
PITCH = {"n_blocks": 1, "inter_layers": 1, "en_out_channels": 2}


def save(folder, network, options, gain=1.0):
    model = models.create(network, **options)
    state = {"step": 1, "network": network, "config": {"network": network, "model": options}, "saved_at": 1.0}
    arrays = {name: value.numpy() * np.float32(gain) for name, value in tensors(model).items()}
    checkpoint.save(folder / "best", {"model": arrays}, state)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run of each network, and two songs."""
    folder = tmp_path_factory.mktemp("restored")
    save(folder / "spleeter", "spleeter_2stems", SMALL_SPLEETER)
    save(folder / "exps" / "apollo" / "0a1b2c3d", "apollo", APOLLO)
    save(folder / "louder", "apollo", {**APOLLO, "sr": 4000, "win": 40}, 8.0)
    save(folder / "runs" / "Hybrid" / "rmvpe" / "tiny" / "0a1b2c3d", "rmvpe", PITCH)
    rng = np.random.default_rng(0)
    (folder / "songs").mkdir()
    soundfile.write(folder / "songs" / "one.wav", rng.uniform(-0.3, 0.3, (27001, 2)), 11025)
    soundfile.write(folder / "songs" / "two.flac", rng.uniform(-0.3, 0.3, (16001, 1)), 8000)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def run(output, *words, song="songs", network="spleeter"):
    """Separates on the CPU in eager mode; returns the report."""
    words = [str(song), "-n", network, "-o", str(output), "-d", "cpu", "--json", f"{output}.json", *map(str, words)]
    assert separator.main(words) == 0
    with open(f"{output}.json", encoding="utf-8") as file:
        return json.load(file)


def read(path):
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


def test_one_command_does_what_three_do(here, tmp_path, capsys):
    out = tmp_path / "stems"
    report = run(out, "--engine", "eager", "--restore", "--pitch", "--residual", "--float32")
    said = capsys.readouterr().out
    assert "restoration: apollo, exps/apollo/0a1b2c3d/best/step-00000001" in said and "of vocals\n" in said
    assert "of vocals_restored\n" in said
    assert (report["restoration"]["stems"], report["pitch"]["stem"]) == (["vocals"], "vocals_restored")
    assert {report["device"], report["restoration"]["device"], report["pitch"]["device"]} == {"cpu"}
    plain = tmp_path / "plain"
    run(plain, "--engine", "eager", "--pitch", "--residual", "--float32")
    for song, facts in zip(("one", "two"), report["files"], strict=True):
        assert list(facts["outputs"]) == ["vocals", "accompaniment", "vocals_restored", "residual", "pitch"]
        run(tmp_path / song, "--float32", song=out / song / "vocals.wav", network="apollo")
        restored = read(out / song / "vocals_restored.wav")
        np.testing.assert_array_equal(restored, read(tmp_path / song / "vocals" / "restored.wav"), strict=True)
        assert np.abs(restored - read(out / song / "vocals.wav")).max() > 0.01
        vocals = str(out / song / "vocals_restored.wav")
        assert rmvpe_infer.main(["-i", vocals, "-o", str(tmp_path / f"{song}.csv"), "-d", "cpu"]) == 0
        followed = (out / song / "pitch.csv").read_bytes()
        assert followed == (tmp_path / f"{song}.csv").read_bytes()
        assert followed != (plain / song / "pitch.csv").read_bytes()
        for stem in ("vocals", "accompaniment", "residual"):
            np.testing.assert_array_equal(read(out / song / f"{stem}.wav"), read(plain / song / f"{stem}.wav"))


def test_a_common_gain_holds_for_restored_stems_and_leaves_the_sum_alone(here, tmp_path, capsys):
    words = ["--engine", "eager", "--restore", "--restore-model", "louder", "--residual"]
    exact = run(tmp_path / "exact", *words, "--float32", song="songs/one.wav")["files"][0]
    assert "the separation at 8000: restored stems hold nothing above 2000 Hz" in capsys.readouterr().err
    assert exact["gain_db"] == 0 and exact["peaks"]["vocals_restored"] > 1
    (facts,) = run(tmp_path / "whole", *words, song="songs/one.wav")["files"]
    gain = 10 ** (facts["gain_db"] / 20)
    assert gain == pytest.approx(1 / exact["peaks"]["vocals_restored"], rel=1e-3)
    assert not any(facts["clipped"].values())
    for name, path in facts["outputs"].items():
        np.testing.assert_allclose(read(path), gain * read(exact["outputs"][name]), rtol=0, atol=5e-5)
    parts = [np.rint(32768 * read(facts["outputs"][name])) for name in ("vocals", "accompaniment", "residual")]
    np.testing.assert_allclose(sum(parts), 32768 * gain * read("songs/one.wav"), rtol=0, atol=0.51)
    (facts,) = run(tmp_path / "each", *words[:-1], "--clip-mode", "rescale", song="songs/one.wav")["files"]
    assert facts["gains_db"]["vocals"] == 0 > facts["gains_db"]["vocals_restored"]


def test_a_restored_stem_is_a_stem(here, tmp_path):
    words = ["--engine", "eager", "--two-stems", "vocals", "--restore", "no_vocals", "--format", "flac"]
    words += ["--pitch", "--pitch-format", "npy"]
    words += ["--offset", "0.4", "--duration", "1.5", "--filename", "{track}-{stem}.{ext}", "--skip-existing"]
    report = run(tmp_path / "out", *words, song="songs/one.wav")
    assert (report["restoration"]["stems"], report["pitch"]["stem"]) == (["no_vocals"], "vocals")
    names = {"no_vocals.flac", "no_vocals_restored.flac", "pitch.npy", "vocals.flac"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"one-{name}" for name in names}
    assert {soundfile.info(path).frames for path in (tmp_path / "out").glob("*.flac")} == {round(1.5 * 11025)}
    assert run(tmp_path / "out", *words, song="songs/one.wav")["files"][0]["skipped"]
    (tmp_path / "out" / "one-no_vocals_restored.flac").unlink()
    assert not run(tmp_path / "out", *words, song="songs/one.wav")["files"][0]["skipped"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["songs", "-n", "spleeter", "--restore", "drums"], "--restore drums: the stems that are made are vocals, acc"),
        (["songs", "-n", "spleeter", "--restore", "vocal,vocals"], "--restore names vocals twice"),
        (["songs", "-n", "spleeter", "--stems", "accompaniment", "--restore"], "--restore vocals: the stems that are"),
        (["songs", "-n", "spleeter", "--residual", "--restore", "residual"], "--restore residual: the stems that are"),
        (["songs", "-n", "spleeter", "--restore-model", "louder"], "--restore-model goes with --restore"),
        (["songs", "-n", "exps/apollo/0a1b2c3d", "--restore"], "this network restores songs itself: leave it out"),
        (["songs", "-n", "spleeter", "--restore", "--restore-model", "gone.bin"], "no file or folder gone.bin"),
        (["songs", "-n", "spleeter", "--restore", "--restore-model", "spleeter"], "which restores nothing: apollo"),
        (["-n", "spleeter", "--restore", "songs"], "before --restore, which took songs for a stem"),
        (["songs", "-n", "apollo,bsrnn_vocals"], "does not run together with others"),
    ],
)
def test_one_sentence_for_what_is_wrong(here, tmp_path, words, sentence):
    with pytest.raises(UserError, match=sentence):
        separator.main([*words, "-o", str(tmp_path), "-d", "cpu"])
    assert not list(tmp_path.iterdir())


def test_without_weights(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--restore: there are no weights for apollo: .* \(--restore-model\)"):
        separator.main([str(here / "songs"), "-n", str(here / "spleeter"), "--restore", "-d", "cpu"])
