"""Demucs packages and bags: what a name means, and the command line with Demucs' spelling."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import separator as door
from inference import Separator, apply_model
from inference.planning import Plan, plan
from inference.repository import listing
from runtime.errors import UserError

SMALL = {"samplerate": 4000, "sources": ["vocals", "rest"], "channels": 8}
NETWORKS = {
    "0a0a0a0a": ("htdemucs", {"nfft": 512, "depth": 2, "segment": "1/2", "t_layers": 1, "t_heads": 2}),
    "1b1b1b1b": ("demucs", {"depth": 2, "segment": 1, "lstm_layers": 0}),
}


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """A folder with two small networks and a bag of both."""
    import models
    import pretrained

    folder = tmp_path_factory.mktemp("release_models")
    for number, (signature, (name, options)) in enumerate(NETWORKS.items()):
        model = models.create(name, **SMALL, **options, seed=number)
        pretrained.write_package(folder / f"{signature}.safetensors", model)
    (folder / "both.yaml").write_text(
        "models: [0a0a0a0a, 1b1b1b1b]\nweights: [[1.0, 0.5], [0.0, 1.0]]\nsegment: 0.75\n"
    )
    return folder


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("songs") / "one.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.4, 0.4, (7001, 2)), 4000)
    return path


def read(path):
    return soundfile.read(path, dtype="float32", always_2d=True)[0].T


def test_what_is_in_a_repository(repo):
    assert "both" in listing(repo)
    assert "htdemucs_ft" in listing()
    for name, sentence in (("bothh", "did you mean both"), ("955717e8", "no model 955717e8 in")):
        with pytest.raises(UserError, match=sentence):
            plan(name, repo=repo)
    with pytest.raises(UserError, match="no folder"):
        listing(repo / "nowhere")


def test_a_bag_missing_a_package(repo, tmp_path):
    (tmp_path / "half.yaml").write_text("models: [0a0a0a0a]\n")
    with pytest.raises(UserError, match="no package of 0a0a0a0a"):
        plan("half", repo=tmp_path)


def test_plans(repo, monkeypatch, tmp_path):
    found = plan("both", repo=repo)
    assert (found.network, found.bag, found.label) == ("htdemucs", "both", "both")
    assert found.description.sources == ("vocals", "rest")
    assert found.description.segment == 2000
    package = plan(repo / "1b1b1b1b.safetensors")
    assert (package.network, package.bag, package.label) == ("demucs", None, "1b1b1b1b")
    assert plan(None, repo / "1b1b1b1b.safetensors") == package
    with pytest.raises(UserError, match="weights of demucs, not of htdemucs"):
        plan("htdemucs", repo / "1b1b1b1b.safetensors")
    with pytest.raises(UserError, match="needs the name"):
        plan(repo=repo)
    with pytest.raises(UserError, match="exclude"):
        plan("both", "weights", repo=repo)
    monkeypatch.setenv("MODEL_PATH", str(tmp_path))
    for name in ("htdemucs", "955717e8", "mdx_extra_q"):
        with pytest.raises(UserError, match="downloading is off"):
            plan(name, offline=True)
    with pytest.raises(UserError, match="did you mean htdemucs_ft"):
        plan("htdemucs_fft")


def test_a_bag_equals_apply_model(repo, noise):
    import pretrained

    mix = noise(2, 6001)
    separator = Separator("both", repo=repo, shifts=1, seed=3)
    assert (separator.name, separator.engine, separator.sources) == ("both", "eager", ("vocals", "rest"))
    assert len(separator.weights_hash) == 12
    mono = mix.mean(axis=0, dtype=np.float64)
    mean, scale = mono.mean(), mono.std(ddof=1) + 1e-8
    bag = pretrained.get_model("both", repo)
    expected = apply_model(bag, ((mix - mean) / scale).astype(np.float32)[None], seed=3)[0] * scale + mean
    for stem, other in zip(separator.separate(mix).values(), expected, strict=True):
        np.testing.assert_allclose(stem, other, rtol=0, atol=1e-5)


def test_trained_experiments_say_what_they_are(tmp_path, noise):
    import models
    from models.tensors import tensors
    from runtime import checkpoint

    options = {**SMALL, **NETWORKS["1b1b1b1b"][1]}
    model = models.create("demucs", **options)
    folder = tmp_path / "outputs" / "xps" / "2db45dc4"
    arrays = {name: value.numpy() for name, value in tensors(model).items()}
    state = {"step": 1, "network": "demucs", "config": {"network": "demucs", "model": options}}
    checkpoint.save(folder / "best", {"model": arrays}, state)
    assert plan(folder).label == "demucs-2db45dc4"
    mix = noise(2, 3000)
    expected = Separator.from_model(model).separate(mix)["vocals"]
    np.testing.assert_allclose(Separator(folder).separate(mix)["vocals"], expected, rtol=0, atol=1e-6)


def call(*arguments):
    return door.main([*map(str, arguments), "--device", "cpu"])


def test_command_line_of_demucs(repo, song, tmp_path):
    common = (song, "--repo", repo, "--shifts", 0)
    out = tmp_path / "out"
    assert call(*common, "-n", "both", "-o", out, "--float32", "--json", tmp_path / "report.json") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["network"], report["engine"]) == ("both", "eager")
    assert report["options"]["overlap"] == 0.25
    expected = Separator("both", repo=repo, shifts=0).separate(read(song))
    for name, stem in expected.items():
        np.testing.assert_allclose(read(out / "one" / f"{name}.wav"), stem, rtol=0, atol=1e-6)
    two = ("--two-stems", "vocals", "--float32", "--filename", "{stem}.{ext}")
    vocals = expected["vocals"]
    for method, others in (("add", "no_vocals"), ("minus", "minus_vocals"), ("none", None)):
        assert call(*common, "-s", "both", "-o", out / method, *two, "--other-method", method) == 0
        names = sorted(path.stem for path in (out / method).iterdir())
        assert names == sorted(filter(None, ["vocals", others]))
    np.testing.assert_allclose(read(out / "minus" / "minus_vocals.wav"), read(song) - vocals, rtol=0, atol=1e-6)
    np.testing.assert_allclose(read(out / "add" / "no_vocals.wav"), expected["rest"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "suffix", "subtype"),
    [
        (["--int24"], "wav", "PCM_24"),
        (["--flac"], "flac", "PCM_16"),
        (["--flac", "--int24"], "flac", "PCM_24"),
        (["--mp3", "--mp3-bitrate", "64", "--mp3-preset", "3"], "mp3", "MPEG_LAYER_III"),
        (["--no-split", "-j", "2", "--clip-mode", "clamp"], "wav", "PCM_16"),
    ],
    ids=str,
)
def test_flags_of_demucs(repo, song, tmp_path, flags, suffix, subtype):
    path = tmp_path / "wide.wav"
    soundfile.write(path, np.zeros((16000, 2)), 16000)
    assert call(path, "-n", "1b1b1b1b", "--repo", repo, "--out", tmp_path, *flags) == 0
    info = soundfile.info(tmp_path / "wide" / f"vocals.{suffix}")
    assert (info.subtype, info.samplerate, info.channels) == (subtype, 16000, 2)


def test_flags_that_contradict_each_other(repo, song, tmp_path):
    common = (song, "-n", "both", "--repo", repo, "-o", tmp_path)
    for flags, sentence in [
        (["--float32", "--int24"], "not allowed with"),
        (["--flac", "--mp3"], "not allowed with"),
        (["--segment", "1", "--no-split"], "not allowed with"),
        (["--format", "wav16", "--int24"], "--format says it all"),
        (["--mp3", "--int24"], "--int24 is for wav and flac"),
        (["--other-method", "minus"], "complement of --two-stems"),
        (["--clip-mode", "rescale", "--residual"], "leave --clip-mode out"),
        (["--two-stems", "vocals", "--other-method", "minus", "--residual"], "leave one of them out"),
        (["--segment", "0.7"], "segments of 0.5 s at most, not 0.7 s"),
        (["--mwf"], "mwf has no meaning"),
        (["--sig", "both"], "not allowed with"),
    ]:
        with pytest.raises(UserError, match=sentence):
            call(*common, *flags)
    with pytest.raises(UserError, match="arguments are required"):
        call()
    assert not list(Path(tmp_path).iterdir())


def test_names_of_devices():
    names = [door.parser().parse(["song.mp3", "-d", name]).device for name in ("cuda", "cuda:1", "sdaa:0", "cpu")]
    assert names == ["gpu", "gpu:1", "sdaa:0", "cpu"]


def test_list_of_models(repo, capsys):
    assert call("--list-models") == 0
    assert "mdx_extra_q" in capsys.readouterr().out
    assert call("--list-models", "--repo", repo) == 0
    said = capsys.readouterr().out
    assert "both" in said
    assert "mdx" not in said


def test_a_job_carries_its_bag(repo, tmp_path):
    from inference.scoring import Job

    job = Job(plan("both", repo=repo), "index", ("a",), tmp_path)
    assert isinstance(job.plan, Plan)
    again = Job.read(job.write(tmp_path / "job.json"))
    assert again.plan.description == job.plan.description
    assert (again.plan.bag, again.plan.repo) == ("both", str(repo))
