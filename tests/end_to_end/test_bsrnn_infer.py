"""Separation with BandSplitRNN as people run it: separator.py, eval.py, and the modes infer and evaluate."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.synthetic import write_songs
from eval import main as evaluate
from preprocess import main as preprocess
from run_scripts import bsrnn_evaluate, bsrnn_infer
from runtime import checkpoint
from runtime.errors import UserError
from separator import main as separate
from tests.end_to_end.inside import inside as in_this_process
from tests.end_to_end.small_bsrnn import SMALL_BSRNN
from tests.pretrained import torch_writer

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 65
HPARAMS = """\
model:
  sr: 8000
  n_fft: 256
  bandsplits: [[1000, 250], [2000, 500]]
  t_timesteps: 65
featurizer: {direct_transform: {hop_length: 64}}
train_dataset: {target: bass}
"""


def reference_state(seed, frames=None, target="vocals"):
    """The state dict of a small network by the reference's names."""
    import models
    from pretrained.names import links

    model = models.create(f"bsrnn_{target}", **{**SMALL_BSRNN, "t_timesteps": frames, "seed": seed})
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    state = {link.theirs: np.ascontiguousarray(link.to_theirs(arrays[link.ours])) for link in links(model)}
    return arrays, state


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with a run of ours, one of the reference, saved weights, two songs and a data set."""
    folder = tmp_path_factory.mktemp("bsrnn")
    arrays, _ = reference_state(1)
    config = {"network": "bsrnn_vocals", "model": SMALL_BSRNN}
    state = {"step": 3, "network": "bsrnn_vocals", "config": config, "saved_at": 1.0}
    checkpoint.save(folder / "model" / "tiny" / "0a1b2c3d" / "best", {"model": arrays}, state)
    _, saved = reference_state(2, target="drums")
    (folder / "saved_models" / "drums").mkdir(parents=True)
    torch_writer.save(saved, folder / "saved_models" / "drums" / "drums.pt")
    (folder / "saved_models" / "drums" / "hparams.yaml").write_text(
        HPARAMS.replace("bass", "drums").replace("t_timesteps: 65", "t_timesteps: null")
    )
    theirs = folder / "logs" / "bandsplitrnn" / "2023-01-01_12-00"
    (theirs / "weights").mkdir(parents=True)
    (theirs / "tb_logs").mkdir()
    (theirs / "tb_logs" / "hparams.yaml").write_text(HPARAMS)
    for epoch in (0, 1):
        _, own = reference_state(10 + epoch, FRAMES, "bass")
        content = {"state_dict": {f"model.{name}": array for name, array in own.items()}}
        torch_writer.save(
            {**content, "pytorch-lightning_version": "1.8.0"}, theirs / "weights" / f"epoch{epoch:02d}.ckpt"
        )
    rng = np.random.default_rng(0)
    (folder / "songs").mkdir()
    soundfile.write(folder / "songs" / "one.wav", rng.uniform(-0.3, 0.3, (16001, 2)), 8000)
    soundfile.write(folder / "songs" / "two.flac", rng.uniform(-0.3, 0.3, (24001, 1)), 16000)
    write_songs(folder / "musdb", 3, 4.0, seed=0, sample_rate=8000, splits={"test": 2})
    return folder


def command(place, *arguments, status=0):
    """Runs a door in ``place``; returns stdout and stderr."""
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, *map(str, arguments)]
    done = subprocess.run(line, cwd=place, env=os.environ | settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def inside(place, monkeypatch):
    """The same folder as the working folder of this process."""
    monkeypatch.chdir(place)
    monkeypatch.delenv("MUSDB_DIR", raising=False)
    return place


def audio(path):
    return soundfile.read(path, dtype="float32", always_2d=True)


def test_a_bag_of_targets_through_the_commands(place):
    theirs = "logs/bandsplitrnn/2023-01-01_12-00/weights/epoch01.ckpt"
    names = f"bsrnn_drums,{theirs},bsrnn_vocals"
    line = ["songs", "-n", names, "-o", "out", "--format", "float32", "--residual", "-d", "cpu"]
    said, _ = command(place, ROOT / "separator.py", *line)  # in a process of its own
    assert "wrote 8 files" in said
    for name, file in (("one", "one.wav"), ("two", "two.flac")):
        mixture, rate = audio(place / "songs" / file)
        stems = {stem: audio(place / "out" / name / f"{stem}.wav") for stem in ("vocals", "drums", "bass", "residual")}
        assert {(stem.shape, own) for stem, own in stems.values()} == {(mixture.shape, rate)}
        np.testing.assert_allclose(sum(stem for stem, _ in stems.values()), mixture, rtol=0, atol=1e-6)
    line = ["songs/one.wav", "-n", "bsrnn_drums", "-o", "alone", "--format", "float32", "-d", "cpu", "--batch", "1"]
    in_this_process(separate, place, *line)
    np.testing.assert_array_equal(
        audio(place / "alone" / "one" / "drums.wav")[0], audio(place / "out" / "one" / "drums.wav")[0]
    )
    line = ["songs/one.wav", "-n", names, "-o", "two", "--two-stems", "bass", "--window", "reference", "-d", "cpu"]
    in_this_process(separate, place, *line)
    assert sorted(path.name for path in (place / "two" / "one").iterdir()) == ["bass.wav", "no_bass.wav"]


def test_infer_writes_what_the_reference_would_name_so(inside):
    assert bsrnn_infer.main(["-i", "songs", "-o", "inferred", "-d", "cpu"]) == 0
    assert sorted(path.name for path in (inside / "inferred").iterdir()) == ["one_vocals.wav", "two_vocals.wav"]
    assert soundfile.info(inside / "inferred" / "one_vocals.wav").frames == 16001
    command = ["--in-path", "songs/one.wav", "--out-path", "named", "--target", "drums", "--device", "cpu"]
    assert bsrnn_infer.main([*command, "--ckpt-path", "saved_models/drums/drums.pt"]) == 0
    assert bsrnn_infer.main(["-i", "songs/one.wav", "-o", "found", "-t", "drums", "-d", "cpu"]) == 0
    pair = [audio(inside / folder / "one_drums.wav")[0] for folder in ("named", "found")]
    np.testing.assert_array_equal(*pair)


def test_infer_refuses_what_it_cannot_do(inside):
    with pytest.raises(UserError, match=r"no network for 'drum'.*drums"):
        bsrnn_infer.main(["-i", "songs", "-o", "refused", "-t", "drum"])
    with pytest.raises(UserError, match="for drums, not for vocals"):
        bsrnn_infer.main(["-i", "songs", "-o", "refused", "-c", "saved_models/drums/drums.pt"])
    with pytest.raises(UserError, match="is none of normalised, reference"):
        bsrnn_infer.main(["-i", "songs", "-o", "refused", "--window", "hann", "-d", "cpu"])


def scores(run, kind):
    folders = sorted((run / "test").glob(f"*-{kind}"))
    return {f.name: {p.stem: json.loads(p.read_text()) for p in sorted(f.glob("test/*.json"))} for f in folders}


def test_evaluate_scores_a_run_of_ours(inside, capsys):
    run = inside / "model" / "tiny" / "0a1b2c3d"
    line = ["-d", str(run), "--dataset", str(inside / "musdb"), "--device", "cpu"]
    assert bsrnn_evaluate.main(line) == 0
    said = (run / "test.log").read_text()
    assert set(said.splitlines()) <= set(capsys.readouterr().out.splitlines())
    assert "median over windows of 2 s every 1.5 s" in said
    (songs,) = scores(run, "2s").values()
    assert len(songs) == 2
    whole = [song["details"]["nsdr"]["estimate"]["vocals"] for song in songs.values()]
    frames = [[frame["metrics"]["SDR"] for frame in song["targets"][0]["frames"]] for song in songs.values()]
    assert [len(each) for each in frames] == [2, 2]
    windows = [np.median(each) for each in frames]
    for name, values in (("uSDR", whole), ("cSDR", windows)):
        row = next(text for text in said.splitlines() if name in text.split()[1:2])
        figures = [float(word) for word in row.split()[2:6]]
        assert figures == pytest.approx([2, np.mean(values), np.std(values), np.median(values)], abs=6e-4)
    assert not list((inside / "musdb").glob("*.jsonl"))

    assert bsrnn_evaluate.main(line) == 0
    assert capsys.readouterr().out.count("scored already") == 2
    assert bsrnn_evaluate.main([*line, "--paper"]) == 0
    assert "scored already" not in capsys.readouterr().out
    assert "median over windows of 1 s every 1 s" in (run / "test.log").read_text()


def test_evaluate_scores_every_checkpoint_of_the_reference(inside, monkeypatch, capsys):
    run = inside / "logs" / "bandsplitrnn" / "2023-01-01_12-00"
    monkeypatch.setenv("MUSDB_DIR", str(inside / "musdb"))
    command = ["-d", str(run), "--device", "cpu", "--overlap-window", "reference", "--overlap", "0.5"]
    assert bsrnn_evaluate.main(command) == 0
    said = (run / "test.log").read_text()
    assert said.index("[1/2]") < said.index("epoch00.ckpt") < said.index("[2/2]") < said.index("epoch01.ckpt")
    assert said.count("bass  uSDR") == said.count("bass  cSDR") == 2
    first, second = scores(run, "2s").values()
    assert first.keys() == second.keys() and first != second
    assert bsrnn_evaluate.main([*command, "--raw"]) == 0
    assert "epoch01.ckpt#raw" in (run / "test.log").read_text()


def test_evaluate_shares_the_songs_among_processes(inside, capfd):
    run = inside / "model" / "tiny" / "0a1b2c3d"
    line = ["-d", str(run), "--dataset", str(inside / "musdb"), "--device", "cpu", "--restart"]
    assert bsrnn_evaluate.main(line) == 0
    expected = (run / "test.log").read_text()
    assert bsrnn_evaluate.main([*line, "-npn", "2"]) == 0
    assert (run / "test.log").read_text() == expected


def test_evaluate_refuses_what_it_cannot_do(inside):
    run = inside / "model" / "tiny" / "0a1b2c3d"
    with pytest.raises(UserError, match="holds no checkpoint"):
        bsrnn_evaluate.main(["-d", str(inside / "songs")])
    with pytest.raises(UserError, match=r"nowhere: there is no such data set.*--dataset"):
        bsrnn_evaluate.main(["-d", str(run), "--dataset", "nowhere"])
    with pytest.raises(UserError, match="--raw is for checkpoints of the reference"):
        bsrnn_evaluate.main(["-d", str(run), "--dataset", "musdb", "--raw"])


def test_eval_scores_a_bag_of_targets(place):
    in_this_process(preprocess, place, "--dataset", "musdb", "--index", "index/index.jsonl", "-j", "1")
    line = ["-n", "bsrnn_vocals,bsrnn_drums", "--fraction", "1", "--device", "cpu", "data.index=index/index.jsonl"]
    said = in_this_process(evaluate, place, *line, "--overlap", "0.5", "--overlap-window", "reference").stdout
    assert "vocals" in said and "drums" in said
    line += ["--bss", "alone", "-o", "alone-scores", "--overlap", "0.5"]
    said = in_this_process(evaluate, place, *line).stdout
    assert "BSS Eval v4 (alone)" in said and "n/a" in said


@pytest.mark.parametrize("module", ["bsrnn_infer", "bsrnn_evaluate"])
def test_help_is_fast(module):
    code = (
        f"import sys; from run_scripts import {module}\n"
        f"try:\n    {module}.main(['--help'])\n"
        "except SystemExit:\n    print(sorted({'paddle', 'numpy', 'soundfile'} & sys.modules.keys()))"
    )
    line = [sys.executable, "-c", code]
    said = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.endswith("[]\n")
