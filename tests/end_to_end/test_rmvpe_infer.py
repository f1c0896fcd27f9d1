"""Pitch as people have it followed: run_rmvpe.py -m infer and -m evaluate, and separator.py --pitch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import models
from data import pitch_labels, voice
from models.tensors import tensors
from run_scripts import rmvpe_evaluate, rmvpe_infer, run_rmvpe
from runtime import checkpoint
from runtime.errors import UserError
from runtime.files import read_json
from separator import main as separate
from tests.end_to_end.inside import inside as in_this_process
from tests.end_to_end.small_bsrnn import SMALL_BSRNN

ROOT = Path(__file__).resolve().parents[2]
DOOR = ROOT / "run_scripts" / "run_rmvpe.py"
PITCH = {"n_blocks": 1, "inter_layers": 1, "en_out_channels": 2}


def save(folder, network, options):
    model = models.create(network, **options)
    state = {"step": 1, "network": network, "config": {"network": network, "model": options}, "saved_at": 1.0}
    checkpoint.save(folder, {"model": {name: value.numpy() for name, value in tensors(model).items()}}, state)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with a pitch network, a separator, songs and a data set."""
    folder = tmp_path_factory.mktemp("rmvpe")
    save(folder / "runs" / "Hybrid" / "rmvpe" / "tiny" / "0a1b2c3d" / "best", "rmvpe", PITCH)
    save(folder / "model" / "tiny" / "0a1b2c3d" / "best", "bsrnn_vocals", SMALL_BSRNN)
    rng = np.random.default_rng(0)
    (folder / "songs").mkdir()
    soundfile.write(folder / "songs" / "one.wav", rng.uniform(-0.3, 0.3, (44101, 2)), 44100)
    soundfile.write(folder / "songs" / "two.flac", rng.uniform(-0.3, 0.3, (16001, 1)), 16000)
    voice.write(folder / "dataset" / "Hybrid", 4, 1.5, seed=0, test=3)
    return folder


@pytest.fixture
def inside(place, monkeypatch):
    """The same folder as the working folder of this process."""
    monkeypatch.chdir(place)
    return place


def command(place, *arguments, status=0):
    """Runs a door in ``place``; returns stdout and stderr."""
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, *map(str, arguments)]
    done = subprocess.run(line, cwd=place, env=os.environ | settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout, done.stderr


def rmvpe(place, *arguments):
    """What the door says in ``place``, in this process."""
    return in_this_process(run_rmvpe.main, place, *arguments).stdout


@pytest.mark.parametrize("mode", ["infer", "evaluate"])
def test_help_does_not_wait_for_paddle(place, mode):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from run_scripts.rmvpe_{mode} import main\n"
    code += "try: main(['--help'])\nfinally: assert 'paddle' not in sys.modules and 'numpy' not in sys.modules"
    said, _ = command(place, "-c", code)
    assert "--threhold" in said
    assert "RPA" in said or "--midi" in said


# ---------------------------------------------------------------------------------------------------------------- infer


def test_the_originals_command(place):
    line = ["-m", "infer", "-m", "runs/Hybrid/rmvpe/tiny/0a1b2c3d", "-i", "songs/one.wav", "-o", "out/one.csv"]
    said = rmvpe(place, *line, "-hop", "320", "-th", "0.04", "-d", "cpu")
    assert "a frame each 20 ms" in said
    found = pitch_labels.read(place / "out" / "one.csv")
    assert len(found) == 16000 // 320 + 1
    np.testing.assert_allclose(found.times, np.arange(51) * 0.02, atol=1e-9)


def test_folders_formats_pictures_and_notes(inside):
    line = ["-i", "songs", "-o", "all", "--format", "json", "--plot", "--midi", "-d", "cpu", "--threhold", "0"]
    assert rmvpe_infer.main(line) == 0
    names = sorted(path.name for path in (inside / "all").iterdir())
    assert names == [f"{song}.{suffix}" for song in ("one", "two") for suffix in ("json", "mid", "png")]
    facts = read_json(inside / "all" / "one.json")
    assert facts["hop"] == 160
    assert len(facts["times"]) == len(facts["f0"]) == len(facts["confidence"]) == 101
    assert min(facts["f0"]) > 30
    assert rmvpe_infer.main(["-i", "songs/two.flac", "-o", "two.npy", "-d", "cpu", "--viterbi"]) == 0
    assert np.load(inside / "two.npy").shape == (101, 3)


def test_what_cannot_be_followed_does_not_keep_the_others(inside, tmp_path, capsys):
    (tmp_path / "bad.wav").write_bytes(b"RIFF nothing")
    soundfile.write(tmp_path / "good.wav", np.zeros(800), 16000)
    assert rmvpe_infer.main(["-i", str(tmp_path), "-o", str(tmp_path / "out"), "-d", "cpu"]) == 1
    assert "bad.wav" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.csv"]
    with pytest.raises(UserError, match=r"nowhere\.wav: no such file"):
        rmvpe_infer.main(["-i", "nowhere.wav", "-o", "x.csv"])
    with pytest.raises(UserError, match="did you mean csv"):
        rmvpe_infer.main(["-i", "songs/one.wav", "-o", "x.cvs"])


# ------------------------------------------------------------------------------------------------------------- evaluate


def test_evaluation_scores_resumes_and_shares(place):
    said, _ = command(place, DOOR, "-m", "evaluate", "-d", "cpu", "-npn", "2", "-o", "scores")
    assert "mean" in said
    summary = read_json(place / "scores" / "summary.json")
    files = {path: read_json(path) for path in (place / "scores" / "songs").iterdir()}
    assert len(files) == summary["songs"] == 3
    for score, mean in summary["means"].items():
        assert mean == pytest.approx(np.mean([facts["scores"][score] for facts in files.values()]))
    before = {path: path.stat().st_mtime_ns for path in files}
    said = rmvpe(place, "-m", "evaluate", "-d", "cpu", "-o", "scores")
    assert said.count("scored already") == 3
    assert {path: path.stat().st_mtime_ns for path in files} == before
    next(iter(files)).unlink()
    said = rmvpe(place, "-m", "evaluate", "-d", "cpu", "-o", "scores")
    assert said.count("scored already") == 2
    said = rmvpe(place, "-m", "evaluate", "-d", "cpu", "-o", "scores", "-th", "0.2")
    assert said.count("scored already") == 0
    assert read_json(place / "scores" / "summary.json")["protocol"]["threshold"] == 0.2


def test_evaluation_equals_the_validation_of_training(inside):
    import paddle

    from data.pitch_segments import PitchFiles
    from dsp.salience import to_f0
    from inference.pitch import PitchTracker
    from metrics.pitch import pitch_scores

    assert rmvpe_evaluate.main(["-d", "cpu", "-o", "same", "-c", "runs/Hybrid/rmvpe/tiny/0a1b2c3d"]) == 0
    model = PitchTracker("runs/Hybrid/rmvpe/tiny/0a1b2c3d", "cpu").model
    model.eval()
    for song in PitchFiles("dataset/Hybrid/test"):
        with paddle.no_grad():
            salience = model(paddle.to_tensor(song.mel[None])).numpy()[0]
        expected = pitch_scores(song.times, song.f0, song.times, to_f0(salience)).as_array()
        found = read_json(inside / "same" / "songs" / f"{song.name}.json")["scores"]
        np.testing.assert_allclose(list(found.values()), expected, atol=1e-6)


def test_folders_with_tables(inside, tmp_path):
    seconds = np.arange(24000) / 16000
    soundfile.write(tmp_path / "a.wav", 0.3 * np.sin(2 * np.pi * 220 * seconds), 16000)
    (tmp_path / "a_f0.csv").write_text("".join(f"{k * 0.0058:.6f},{220 if k > 20 else 0}\n" for k in range(250)))
    soundfile.write(tmp_path / "lonely.wav", np.zeros(1600), 16000)
    soundfile.write(tmp_path / "broken.wav", np.zeros(1600), 16000)
    (tmp_path / "broken.pv").write_text("not a number\n")
    assert rmvpe_evaluate.main(["-i", str(tmp_path), "-d", "cpu", "-o", str(tmp_path / "out")]) == 1
    assert read_json(tmp_path / "out" / "songs" / "a.json")["labels"] == 250
    summary = read_json(tmp_path / "out" / "summary.json")
    assert summary["songs"] == 1
    assert "broken.pv" in summary["failed"]["broken"]


# ------------------------------------------------------------------------------------------------------------ separator


def test_from_the_mixture_to_the_pitch_in_one_command(place):
    line = ["songs", "-o", "stems", "--pitch", "--midi", "--plot", "--format", "float32", "-d", "cpu"]
    said, _ = command(place, ROOT / "separator.py", *line, "--json", "report.json")
    assert "pitch: rmvpe" in said
    report = json.loads((place / "report.json").read_text())
    for song, facts in zip(("one", "two"), report["files"], strict=True):
        assert set(facts["outputs"]) == {"vocals", "pitch", "pitch_plot", "pitch_midi"}
        rmvpe(place, "-m", "infer", "-i", f"stems/{song}/vocals.wav", "-o", f"{song}.csv", "-d", "cpu")
        assert (place / f"{song}.csv").read_bytes() == (place / "stems" / song / "pitch.csv").read_bytes()
    said = in_this_process(separate, place, *line, "--skip-existing").stdout
    assert said.count("skipped, its stems are there") == 2
    (place / "stems" / "one" / "pitch.csv").unlink()
    said = in_this_process(separate, place, *line, "--skip-existing").stdout
    assert said.count("skipped, its stems are there") == 1


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        (["--midi"], "goes with --pitch"),
        (["--pitch-model", "x.pt"], "goes with --pitch"),
        (["--pitch", "-n", "bsrnn_drums"], "there are no weights|does not separate"),
        (["--pitch", "--pitch-model", "gone.pt"], "no file or folder gone.pt"),
    ],
)
def test_wishes_that_cannot_be(inside, wishes, said):
    import separator

    with pytest.raises(UserError, match=said):
        separator.main(["songs/two.flac", "-o", "never", "-d", "cpu", *wishes])


def test_the_stem_has_to_be_written(inside, tmp_path):
    import separator

    save(tmp_path / "drums" / "0a1b2c3d" / "best", "bsrnn_drums", SMALL_BSRNN)
    with pytest.raises(UserError, match="does not separate"):
        separator.main(["songs/two.flac", "-n", str(tmp_path / "drums" / "0a1b2c3d"), "--pitch", "-d", "cpu"])
    both = f"bsrnn_vocals,{tmp_path / 'drums' / '0a1b2c3d'}".replace("bsrnn_vocals", "model/tiny/0a1b2c3d")
    with pytest.raises(UserError, match="add them"):
        separator.main(["songs/two.flac", "-n", both, "--stems", "drums", "--pitch", "-d", "cpu", "-o", "never"])
