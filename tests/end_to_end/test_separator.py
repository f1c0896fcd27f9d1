"""``python separator.py`` as people run it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from runtime import checkpoint
from separator import main as separate
from tests.end_to_end.inside import inside
from tests.end_to_end.small_spleeter import SMALL_SPLEETER

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with a trained run of a tiny network, two songs, and a file that is no song."""
    import models

    folder = tmp_path_factory.mktemp("separation")
    model = models.create("spleeter_2stems", **SMALL_SPLEETER)
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    config = {"network": "spleeter_2stems", "model": SMALL_SPLEETER, "separation": {"exponent": 2.0}}
    state = {"step": 3, "network": "spleeter_2stems", "config": config}
    checkpoint.save(folder / "model" / "tiny" / "0a1b2c3d" / "best", {"model": arrays}, state)
    rng = np.random.default_rng(0)
    (folder / "songs" / "more").mkdir(parents=True)
    soundfile.write(folder / "songs" / "one.wav", rng.uniform(-0.3, 0.3, (16001, 2)), 8000)
    soundfile.write(folder / "songs" / "more" / "two.flac", rng.uniform(-0.3, 0.3, (24000, 1)), 16000)
    return folder


def process(place, *arguments):
    """Run the command in ``place``, in a process of its own; returns stdout."""
    environment = {**os.environ, "PADDLESTEMS_CACHE": str(place / "programs"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "separator.py"), *map(str, arguments)]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def separator(place, *arguments, status=0):
    """Run the command in ``place``, in this process; returns stdout and stderr."""
    done = inside(separate, place, *arguments, status=status, PADDLESTEMS_CACHE=str(place / "programs"))
    return done.stdout, done.stderr


def read(path):
    return soundfile.read(path, always_2d=True)[0]


def test_folder_with_the_run_trained_last(place):
    out = process(place, "songs", "--residual", "--json", "report.json")
    lines = out.splitlines()
    assert lines[0].startswith("network: model/tiny/0a1b2c3d/best/step-00000003 (trained last)")
    assert lines[1].startswith("device: ")
    assert lines[2].startswith("weights: spleeter_2stems, model/tiny/0a1b2c3d/best/step-00000003 (")
    assert "input: 2 files" in out
    assert lines[-2].startswith("wrote 6 files to separated/tiny-0a1b2c3d; 3.5 s of music in ")
    assert lines[-1].startswith("real-time factor ")
    folder = place / "separated" / "tiny-0a1b2c3d"
    for song, source in [("one", "songs/one.wav"), ("two", "songs/more/two.flac")]:
        stems = sorted((folder / song).iterdir())
        assert [path.name for path in stems] == ["accompaniment.wav", "residual.wav", "vocals.wav"]
        np.testing.assert_array_equal(sum(map(read, stems)), read(place / source))
    report = json.loads((place / "report.json").read_text())
    assert report["engine"] == "program"
    assert [file["samples"] for file in report["files"]] == [16001, 24000]
    assert len(report["weights_hash"]) == 12


def test_same_bits_twice_and_eager_equals_the_program(place):
    common = ("songs/one.wav", "--format", "float32", "--shifts", 2, "--seed", 5)
    process(place, *common, "-o", "first")
    separator(place, *common, "-o", "second")
    out, _ = separator(place, *common, "-o", "third", "--engine", "eager")
    assert "engine: eager" in out
    for name in ("vocals.wav", "accompaniment.wav"):
        first, second, third = (read(place / folder / "one" / name) for folder in ("first", "second", "third"))
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, third, rtol=0, atol=1e-5)


def test_bad_file_does_not_stop_the_others(place):
    (place / "mixed").mkdir(exist_ok=True)
    (place / "mixed" / "broken.wav").write_bytes(b"RIFF but nothing more")
    (place / "mixed" / "fine.wav").write_bytes((place / "songs" / "one.wav").read_bytes())
    arguments = ("mixed", "missing.wav", "-o", "others", "--json", "others.json")
    out, err = separator(place, *arguments, status=1)
    assert "broken.wav" in err
    assert "missing.wav" in err
    assert "2 songs failed" in out
    assert sorted(path.name for path in (place / "others").rglob("*.wav")) == ["accompaniment.wav", "vocals.wav"]
    errors = [file["error"] for file in json.loads((place / "others.json").read_text())["files"]]
    assert sum(error is None for error in errors) == 1


def test_results_are_no_songs(place):
    """A folder is separated twice with the results in it: the second time must do the same as the first."""
    folder = place / "album"
    folder.mkdir()
    (folder / "fine.wav").write_bytes((place / "songs" / "one.wav").read_bytes())
    for _ in range(2):
        out, _ = separator(place, "album", "-o", "album/stems")
        assert "wrote 2 files" in out


def test_options_reach_the_separation(place):
    song = "songs/more/two.flac"
    options = ("--overlap", 0.5, "--segment", 2, "--mwf", "--mask-extension", "average", "--offset", 0.5)
    options += ("--duration", 0.75, "--format", "flac24", "--two-stems", "vocal", "--filename", "{track}_{stem}.{ext}")
    separator(place, song, *options, "-o", "options", "--json", "options.json")
    files = sorted((place / "options").iterdir())
    assert [path.name for path in files] == ["two_no_vocals.flac", "two_vocals.flac"]
    assert all(soundfile.info(path).frames == 12000 for path in files)
    report = json.loads((place / "options.json").read_text())
    assert report["options"]["overlap"] == 0.5
    assert report["options"]["mwf"] is True
    before = files[0].stat().st_mtime_ns
    out, _ = separator(place, song, *options, "-o", "options", "--skip-existing", "--json", "skipped.json")
    assert "skipped 1 song" in out
    (skipped,) = json.loads((place / "skipped.json").read_text())["files"]
    assert (skipped["skipped"], skipped["outputs"]) == (True, report["files"][0]["outputs"])
    assert files[0].stat().st_mtime_ns == before
    files[1].unlink()
    out, _ = separator(place, song, *options, "-o", "options", "--skip-existing")
    assert "wrote 2 files" in out


WRONG = [
    (("songs", "--stems", "drums"), 1, "no 'drums'"),
    (("songs", "--residul"), 2, "did you mean --residual"),
    (("songs", "--format", "midi"), 2, "invalid choice"),
    (("songs", "--overlap", "2"), 1, "overlap=2.0 must lie in"),
    (("songs", "--filename", "../{stem}.{ext}"), 1, "leads out of the output folder"),
    (("songs", "-n", "spleeter_3stems"), 1, "did you mean"),
    (("songs", "-n", "spleeter_4stems", "--offline"), 1, "downloading is off"),
    (("songs", "-n", "spleeter_4stems", "--weights", "model/tiny/0a1b2c3d"), 1, "not of spleeter_4stems"),
    (("songs", "--device", "sdaa"), 1, "SDAA plug-in"),
    (("songs", "-o", "songs/one.wav/x"), 1, "cannot write to"),
    (("nowhere",), 1, "nowhere"),
    (("nowhere", "neither.wav"), 1, "nowhere: no such file or directory\nerror: cannot read neither.wav"),
    (("songs", "--json", "songs/one.wav"), 1, "would overwrite a song"),
    (("songs", "--json", "songs/more"), 1, "is a folder: name the file"),
    (("songs", "--offset", "nan"), 1, "cannot be negative or infinite"),
    (("songs", "--stems", ""), 1, "no ''"),
    ((), 2, "required"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: " ".join(map(str, case[0])))
def test_one_sentence_for_what_is_wrong(place, case):
    """Where there is no plug-in."""
    arguments, status, sentence = case
    done = inside(separate, place, *arguments, status=status, CUSTOM_DEVICE_ROOT="")
    assert sentence in done.stderr and "Traceback" not in done.stderr


def test_interrupt_leaves_no_file(place):
    rng = np.random.default_rng(0)
    soundfile.write(place / "long.wav", rng.uniform(-0.3, 0.3, (8000 * 1200, 1)), 8000)
    environment = {**os.environ, "PADDLESTEMS_CACHE": str(place / "programs"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "separator.py"), "long.wav", "-o", "interrupted", "--shifts", "9"]
    process = subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("input:"):
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert not [path for path in (place / "interrupted").rglob("*") if path.is_file()]


def test_help_is_fast_and_needs_no_paddle(tmp_path):
    blocker = "import sys; sys.modules['paddle'] = None; sys.argv = ['separator.py', '--help']; "
    code = blocker + f"import runpy; runpy.run_path({str(ROOT / 'separator.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--two-stems" in done.stdout
