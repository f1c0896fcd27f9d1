"""``python preprocess.py`` as people run it: what it finds, what it leaves alone, what it does the second time."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.index import read_index
from preprocess import main as preprocess
from tests.end_to_end.inside import inside

ROOT = Path(__file__).resolve().parents[2]
RATE = 8000
TRACKS = ("mixture", "vocal", "drums", "bass", "other")


def tracks(seed, seconds=0.5, channels=2):
    rng = np.random.default_rng(seed)
    stems = {stem: 0.1 * rng.standard_normal((round(seconds * RATE), channels)) for stem in TRACKS[1:]}
    return {"mixture": sum(stems.values()), **stems}


def write_song(folder, seed=None, **changes):
    """A sound song, but for ``changes``: samples of a track, or None for no file."""
    folder.mkdir(parents=True)
    seed = sum(folder.name.encode()) if seed is None else seed
    for stem, x in {**tracks(seed), **changes}.items():
        if x is not None:
            soundfile.write(folder / f"{stem}.wav", x, RATE, subtype="FLOAT")
    return folder


def spoiled(dataset):
    """A data set with one song for every finding of the audit, and four sound ones."""
    for k in range(3):
        write_song(dataset / "train" / f"Sound {k}")
    write_song(dataset / "test" / "Sound “歌” - 4", seed=4)
    train = dataset / "train"
    x = tracks(50)
    write_song(train / "Missing", vocal=None)
    (write_song(train / "Unreadable") / "bass.wav").write_bytes(b"no sound")
    (write_song(train / "Truncated") / "other.wav").write_bytes((train / "Sound 0" / "other.wav").read_bytes()[:900])
    write_song(train / "Zero", drums=np.zeros((0, 2)))
    write_song(train / "Not a number", bass=np.where(np.arange(4000)[:, None] == 7, np.nan, x["bass"]))
    soundfile.write(write_song(train / "Rate") / "vocal.wav", x["vocal"], 2 * RATE)
    write_song(train / "Channels", bass=x["bass"][:, :1])
    write_song(train / "Length", other=x["other"][:-5])
    write_song(train / "Sum", seed=50, mixture=tracks(51)["mixture"])
    write_song(train / "Rough sum", seed=50, mixture=x["mixture"] + 0.3 * tracks(52)["mixture"])
    write_song(train / "Quiet mixture", **{stem: 0 * samples for stem, samples in x.items()})
    write_song(train / "Quiet bass", seed=50, bass=0 * x["bass"], mixture=x["mixture"] - x["bass"])
    loud = np.clip(100 * x["vocal"], -1, 1)
    write_song(train / "Clipped", seed=50, vocal=loud, mixture=x["mixture"] - x["vocal"] + loud)
    shutil.copyfile(train / "Sound 1" / "bass.wav", write_song(train / "Ambiguous") / "Bass.WAV")
    (train / "Empty").mkdir()
    shutil.copytree(dataset / "test" / "Sound “歌” - 4", train / "Leak")
    write_song(train / "sound “歌” - 4", seed=99)
    shutil.copytree(train / "Sound 2", train / "Twin of Sound 2")
    shutil.copyfile(train / "Sound 1" / "bass.wav", write_song(train / "Stranger") / "guitar.wav")
    write_song(dataset / "holdout" / "Aside")


ERRORS = {
    ("missing", "Missing", "vocal"),
    ("unreadable", "Unreadable", "bass.wav"),
    ("unreadable", "Truncated", "other.wav"),
    ("zero length", "Zero", "drums.wav"),
    ("NaN", "Not a number", "bass.wav"),
    ("rate mismatch", "Rate", "vocal.wav"),
    ("channel mismatch", "Channels", "bass.wav"),
    ("length mismatch", "Length", "other.wav"),
    ("sum", "Sum", "mixture.wav"),
    ("silent", "Quiet mixture", "mixture.wav"),
    ("ambiguous", "Ambiguous", "bass.wav"),
    ("empty", "Empty", ""),
    ("leakage", "Leak", ""),
    ("leakage", "sound “歌” - 4", ""),
}
WARNINGS = {
    ("sum", "Rough sum", "mixture.wav"),
    ("silent", "Quiet bass", "bass.wav"),
    ("clipped", "Clipped", "vocal.wav"),
    ("duplicate", "Twin of Sound 2", ""),
    ("ignored", "Stranger", "guitar.wav"),
    ("layout", "holdout", ""),
}


def run(place, *arguments, status=0):
    """Run the command in ``place``, in this process; returns stdout and stderr."""
    done = inside(preprocess, place, *arguments, status=status)
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def process(place, *arguments, status=0):
    """Run the command in ``place``, in a process of its own; returns stdout and stderr."""
    command = [sys.executable, str(ROOT / "preprocess.py"), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def state(folder):
    """Contents and times of all files that are not the program's own."""
    paths = [path for path in folder.rglob("*") if not path.name.startswith("index.")]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths if path.is_file()}


def found(facts, severity):
    rows = [row for row in facts["findings"] if row["severity"] == severity]
    return {(row["kind"], row["song"].rpartition("/")[2], row["file"]) for row in rows}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoiled")
    spoiled(folder / "dataset")
    return folder / "dataset"


@pytest.fixture
def dataset(tmp_path):
    """Four sound songs."""
    for k in range(3):
        write_song(tmp_path / "dataset" / "train" / f"Song {k}")
    write_song(tmp_path / "dataset" / "test" / "Song 3")
    return tmp_path / "dataset"


def test_every_finding_and_no_index_until_they_are_skipped(original):
    before = state(original)
    out, err = process(original.parent, "--json", "report.json", "-j", 2, status=1)
    facts = json.loads((original.parent / "report.json").read_text())
    assert found(facts, "error") >= ERRORS and found(facts, "warning") >= WARNINGS
    assert {song for _, song, _ in found(facts, "error")} == {song for _, song, _ in ERRORS}
    for kind, song, _ in ERRORS:
        assert any(line.startswith(kind) and song in line for line in err.splitlines())
    for kind, song, _ in WARNINGS:
        assert any(line.startswith(kind) and song in line for line in out.splitlines())
    assert err.splitlines()[-1].startswith("error: 14 songs have errors and no index was written")
    assert facts["index"] is None and not (original / "index.jsonl").exists()

    out, err = run(original.parent, "--on-error", "skip")
    assert "14 songs left out because of errors: " in out and "train/Leak" in out
    names = {song.name for song in read_index(original).songs}
    assert {"Sound 0", "Sound “歌” - 4", "Quiet bass", "Clipped", "Rough sum", "Stranger"} <= names
    assert not names & {song for _, song, _ in ERRORS}
    assert state(original) == before


def test_a_second_run_decodes_only_what_changed(dataset):
    before = state(dataset)
    assert "4 songs decoded, 0 unchanged" in process(dataset.parent)[0]
    index = (dataset / "index.jsonl").read_bytes()
    assert "0 songs decoded, 4 unchanged" in run(dataset.parent)[0]
    assert (dataset / "index.jsonl").read_bytes() == index and state(dataset) == before

    shutil.rmtree(dataset / "train" / "Song 0")
    write_song(dataset / "train" / "New")
    for stem, x in tracks(123).items():
        soundfile.write(dataset / "train" / "Song 1" / f"{stem}.wav", x, RATE, subtype="FLOAT")
    (dataset / "train" / "Song 2" / "bass.wav").touch()
    assert "2 songs decoded, 2 unchanged, 1 gone" in run(dataset.parent)[0]
    assert {song.name for song in read_index(dataset).songs} == {"New", "Song 1", "Song 2", "Song 3"}


def test_the_index_says_what_the_files_say_and_moves_with_them(dataset, tmp_path):
    soundfile.write(dataset / "test" / "Song 3" / "instrumental.flac", tracks(1)["bass"], RATE)
    (dataset / "test" / "Song 3" / "instrumental.flac").unlink()
    run(tmp_path, "--dataset", dataset)
    moved = dataset.rename(tmp_path / "moved elsewhere")
    index = read_index(moved)
    song = index.song("Song 3")
    assert (song.split, song.frames, song.sample_rate, song.channels) == ("test", 4000, RATE, 2)
    assert song.sources["vocals"] == "test/Song 3/vocal.wav" and index.file(song, "vocals").is_file()
    assert song.has("accompaniment") and not index.changed(song)


def test_flat_songs_other_places_and_fractions(dataset, tmp_path):
    for k in range(3):
        (dataset / "train" / f"Song {k}").rename(dataset / f"Song {k}")
    (dataset / "test" / "Song 3").rename(dataset / "Song 3")
    (dataset / "train").rmdir()
    (dataset / "test").rmdir()
    out, _ = run(tmp_path, "--index", "lists/my.jsonl", "--test-fraction", 0.5, "--seed", 3)
    assert "4 songs lie in no split folder: 2 drawn for test (seed 3)" in out
    assert read_index(tmp_path / "lists" / "my.jsonl").splits() == {"train": 2, "test": 2}
    assert not list(dataset.glob("index*"))


def test_the_report_on_stdout_is_all_there(dataset):
    out, _ = run(dataset.parent, "--json")
    assert json.loads(out)["splits"]["train"]["songs"] == 3
    assert run(dataset.parent, "-q")[0] == ""


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("--dataset", "nowhere"), 1, "nowhere: there is no such data set folder"),
        (("--dataset", "file.txt"), 1, "file.txt: there is no such data set folder"),
        (("--dataset", "empty"), 1, "empty: no songs; songs are expected as <dataset>/<split>/<song>/"),
        (("--dataset", "stems"), 1, "write songs from them with `python downloadMusdb.py --from-archive stems`"),
        (("--index", "file.txt/x.jsonl"), 1, "cannot write to file.txt"),
        (("--json", "file.txt/x.json"), 1, "cannot write to file.txt"),
        (("--json", "empty"), 1, "--json empty is a folder"),
        (("--test-fraction", "1"), 2, "1 is not at least 0 and below 1"),
        (("--valid-fraction", "some"), 2, "some"),
        (("--on-error", "ignore"), 2, "invalid choice: 'ignore'"),
        (("--onerror", "skip"), 2, "did you mean --on-error"),
        (("dataset",), 2, "dataset"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_one_sentence_for_what_is_wrong(dataset, arguments, status, sentence):
    place = dataset.parent
    (place / "empty").mkdir()
    (place / "stems" / "train").mkdir(parents=True)
    (place / "stems" / "train" / "A.stem.mp4").write_bytes(b"")
    (place / "file.txt").write_text("text")
    _, err = run(place, *arguments, status=status)
    assert sentence in err and err.startswith("error: ") and len(err.splitlines()) == 1


def test_help_is_fast_and_needs_neither_paddle_nor_decoders():
    blocker = "import sys; sys.modules.update(dict.fromkeys(('paddle', 'numpy', 'av'))); sys.argv = ['p', '--help']; "
    code = blocker + f"import runpy; runpy.run_path({str(ROOT / 'preprocess.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--on-error" in done.stdout, done.stderr
