"""Where sources sound: the rule, the lists, what a second run reads, and the command."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from data.activity import Activity
from data.activity_index import SOURCES, open_index
from data.activity_lists import Stretch, read_list, write_lists
from data.index import read_index, write_index
from data.layout import MUSDB_VALIDATION
from data.scan import build_index
from data.synthetic import write_songs
from run_scripts import bsrnn_prepare
from runtime.errors import UserError

RATE = 8000
SHORT = Activity(sr=RATE, window_size_in_sec=1)
VALID = sorted(MUSDB_VALIDATION)[0]


def signal() -> np.ndarray:
    """A minute of noise at 1 kHz whose level changes twice a second in each channel."""
    rng = np.random.default_rng(7)
    level = np.repeat(10 ** rng.uniform(-4, -2, (2, 120)), 500, axis=1)
    return (level * rng.uniform(-1, 1, (2, 60000))).astype(np.float32)


def song(folder, seconds=3.0, silent=(), rate=RATE, channels=2):
    """A song of noise; of the silent sources the first half of it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(folder.name))
    sources = {name: rng.uniform(-0.2, 0.2, (round(seconds * rate), channels)) for name in SOURCES}
    for name in silent:
        sources[name][: round(seconds * rate / 2)] = 0
    for name, x in {**sources, "mixture": sum(sources.values())}.items():
        soundfile.write(folder / f"{name}.wav", x, rate, subtype="FLOAT")


@pytest.fixture
def musdb(tmp_path):
    """A folder like MUSDB18-HQ."""
    root = tmp_path / "musdb"
    song(root / "train" / "B - loud")
    song(root / "train" / "A - late", silent=["vocals"])
    song(root / "train" / VALID)
    song(root / "test" / "C - ø")
    return root


def files(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*")}


# ------------------------------------------------------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("settings", "windows"),  # as the original's own code finds them
    [
        ({}, [8, 17, 18]),
        (
            {"overlap_ratio": 0.25, "gamma": 1.2e-3},
            [],
        ),
        (
            {"window_size_in_sec": 3, "n_chunks_per_segment": 12, "threshold_max_quantile": 0.5}
            | {"threshold_segment": 0.4},
            [0, 5, 19, 25, 33, 36, 37],
        ),
        (
            {"threshold_max_quantile": 0.0, "threshold_segment": 0.8, "gamma": 2e-4},
            [0, 1, 2, 3, 7, 8, 9, 12, 13, 14, 17, 18],
        ),
    ],
)
@pytest.mark.parametrize("block", [137, 6000, 60000])
def test_the_same_windows_as_the_original_whatever_the_blocks(settings, windows, block):
    activity, x = Activity(sr=1000, **settings), signal()
    starts = activity.starts(x[:, k : k + block] for k in range(0, x.shape[1], block))
    assert starts == [k * activity.step for k in windows]


def test_silence_and_what_is_shorter_than_a_window_do_not_sound():
    activity = Activity(sr=1000)
    assert activity.starts([np.zeros((2, 20000), np.float32)]) == []
    assert activity.starts([signal()[:, :5999] + 0.1]) == [] and activity.starts([]) == []
    left = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 6000)).astype(np.float32)
    assert activity.starts([left]) == [0]
    left[1] = 0
    assert activity.starts([left]) == []  # every channel has to sound


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"overlap_ratio": 0}, "ratio must lie above 0"),
        ({"n_chunks_per_segment": 11}, "n_chunks_per_segment=11 equal chunks"),
        ({"threshold_segment": 1.5}, r"threshold_segment=1\.5 must lie between 0 and 1"),
        ({"gamma": -1}, "a level is not below 0"),
        ({"gama": 1}, "no setting is called gama; did you mean gamma"),
        ({"sr": 44100.5}, r"sr=44100\.5 is not a number"),
    ],
)
def test_impossible_settings_are_refused(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        Activity.from_config(settings)


# ------------------------------------------------------------------------------------------------------------ the lists


def test_lists_of_an_indexed_data_set(tmp_path):
    write_songs(tmp_path / "songs", 3, 2.5, seed=1, sample_rate=RATE, splits={"valid": 1})
    index = build_index(tmp_path / "songs").index
    report = write_lists(index, tmp_path / "lists", "accompaniment", ["train", "valid"], SHORT, 2)
    assert report.heard == 3 and [written.path.name for written in report.lists] == [
        "accompaniment_train.txt",
        "accompaniment_valid.txt",
    ]
    stretches = read_list(report.lists[0].path)
    assert len(stretches) == report.lists[0].lines == 8
    assert stretches[:2] == [Stretch("Synthetic 000", 0, 8000), Stretch("Synthetic 000", 4000, 12000)]
    assert report.lists[0].path.read_text().splitlines()[1] == "Synthetic 000\t4000\t12000"


def test_a_song_at_another_rate_is_listed_in_samples_of_the_detector(tmp_path):
    song(tmp_path / "songs" / "train" / "fast", 2.0, ["vocals"], rate=12000)
    index = open_index(tmp_path / "songs", tmp_path, ["vocals"])
    assert write_lists(index, tmp_path, "vocals", ["train"], SHORT, 1).lists[0].lines == 1
    assert read_list(tmp_path / "vocals_train.txt") == [Stretch("fast", 8000, 16000)]


def test_only_what_has_changed_is_read_again(musdb, tmp_path):
    def again(activity=SHORT, **kwargs):
        index = open_index(musdb, tmp_path / "out", ["vocals"])
        return write_lists(index, tmp_path / "out", "vocals", ["train", "test"], activity, 1, **kwargs)

    assert (again().heard, again().heard) == (3, 0)
    shutil.rmtree(musdb / "train" / "B - loud")
    song(musdb / "train" / "B - loud", silent=["vocals"])
    report = again()
    assert (report.heard, report.known, report.lists[0].lines) == (1, 2, 4)
    assert again(Activity(sr=RATE, window_size_in_sec=1, gamma=0.5)).heard == 3
    (tmp_path / "out" / "vocals_activity.jsonl").write_text("{")
    assert again().heard == 3


def test_songs_that_are_done_stay_done_when_one_fails(musdb, tmp_path):
    index = open_index(musdb, tmp_path, ["vocals"])
    path = musdb / "train" / "B - loud" / "vocals.wav"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="changed since the index was made"):
        write_lists(index, tmp_path, "vocals", ["train"], SHORT, 1)
    x, rate = soundfile.read(musdb / "train" / "A - late" / "vocals.wav")
    x[100] = np.nan
    song(musdb / "train" / "D")
    soundfile.write(musdb / "train" / "D" / "vocals.wav", x, rate, subtype="FLOAT")
    shutil.rmtree(musdb / "train" / "B - loud")
    index = open_index(musdb, tmp_path, ["vocals"])
    with pytest.raises(UserError, match=r"1 songs could not be heard, and no list was written; first D: .*no audio"):
        write_lists(index, tmp_path, "vocals", ["train", "valid"], SHORT, 1)
    assert not (tmp_path / "vocals_train.txt").exists()
    shutil.rmtree(musdb / "train" / "D")
    report = write_lists(open_index(musdb, tmp_path, ["vocals"]), tmp_path, "vocals", ["train", "valid"], SHORT, 1)
    assert (report.heard, report.known) == (0, 2)


def test_songs_without_the_target_or_too_short_are_left_out_and_named(tmp_path):
    write_songs(tmp_path, 2, 0.6, seed=1, sample_rate=RATE)
    write_songs(tmp_path, 1, 2.0, seed=2, sample_rate=RATE, splits={})
    index = build_index(tmp_path).index
    report = write_lists(index, tmp_path / "lists", "bass", ["train"], SHORT, 1)
    assert report.too_short == ["Synthetic 001"] and report.lists[0].songs == 1
    with pytest.raises(UserError, match="of 2 songs 2 have no piano"):
        write_lists(index, tmp_path / "lists", "piano", ["train"], SHORT, 1)


@pytest.mark.parametrize("line", ["a song 0 10", "song\t0", "song\t10\t10", "song\tx\t10", "song\t-1\t10"])
def test_a_list_that_is_none_is_refused(tmp_path, line):
    path = tmp_path / "vocals_train.txt"
    with pytest.raises(UserError, match=r"there is no such list; make it with .* -m prepare"):
        read_list(path)
    path.write_text(f"song\t0\t5\n{line}\n")
    with pytest.raises(UserError, match="line 2"):
        read_list(path)


# ------------------------------------------------------------------------------------------------------------ the index


def test_a_folder_gets_its_index_beside_the_lists_and_stays_as_it_is(musdb, tmp_path):
    before = files(musdb)
    index = open_index(musdb, tmp_path / "out", ["vocals"])
    assert files(musdb) == before
    assert index.path == tmp_path / "out" / "index.jsonl" and index.splits() == {"train": 2, "valid": 1, "test": 1}
    assert [one.name for one in index.split("train")] == ["A - late", "B - loud"]
    assert index.split("valid")[0].name == VALID
    assert read_index(tmp_path / "out").root.resolve() == musdb.resolve()


def test_an_index_that_is_there_is_taken(musdb, tmp_path):
    build_index(musdb)
    assert open_index(musdb, tmp_path / "out", ["vocals"]).path == musdb / "index.jsonl"
    assert not (tmp_path / "out").exists()


def test_another_index_is_never_replaced(musdb, tmp_path):
    made = build_index(musdb, tmp_path / "own" / "index.jsonl").index
    assert open_index(musdb, tmp_path / "own", ["vocals"]).songs == made.songs
    write_index(tmp_path / "other", tmp_path, made.songs, {"audit": {}})
    with pytest.raises(UserError, match="choose another folder with -o"):
        open_index(musdb, tmp_path / "other", ["vocals"])


def test_what_is_no_data_set_says_so(tmp_path):
    with pytest.raises(UserError, match="set MUSDB_DIR"):
        open_index(tmp_path / "nowhere", tmp_path, ["vocals"])
    song(tmp_path / "flat" / "a song")
    with pytest.raises(UserError, match=r"preprocess\.py --dataset"):
        open_index(tmp_path / "flat", tmp_path, ["vocals"])
    song(tmp_path / "part" / "train" / "a song")
    (tmp_path / "part" / "train" / "a song" / "bass.wav").unlink()
    with pytest.raises(UserError, match=r"no bass\.wav; every song needs vocals, drums, bass, other"):
        open_index(tmp_path / "part", tmp_path, ["vocals"])


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def short(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text(f"sr: {RATE}\nwindow_size_in_sec: 1\neps: 1e-5\n")
    return str(path)


@pytest.mark.parametrize(
    ("flags", "lists"),
    [
        (["-t", "vocals"], ["vocals_test", "vocals_train", "vocals_valid"]),
        (["--targets", "vocal", "bass", "--subset", "test", "--split", "valid"], ["bass_test", "vocals_test"]),
        (["--target", "drums", "--subset", "train"], ["drums_train", "drums_valid"]),
        (["--split", "valid"], ["vocals_valid"]),
    ],
)
def test_the_lists_that_are_asked_for(musdb, tmp_path, short, monkeypatch, flags, lists):
    monkeypatch.setenv("MUSDB_DIR", str(musdb))
    assert bsrnn_prepare.main(["--output_dir", str(tmp_path / "out"), "--sad_cfg", short, "-j", "1", *flags]) == 0
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.txt")) == lists


def test_the_command_says_what_it_wrote(musdb, tmp_path, short, capsys):
    flags = ["-i", str(musdb), "-o", str(tmp_path / "out"), "--sad-cfg-path", short, "-j", "2"]
    assert bsrnn_prepare.main(flags) == 0
    said = capsys.readouterr().out
    assert "vocals_train.txt: 7 stretches of 2 songs" in said and "4 songs read, 0 unchanged" in said
    assert "3 lists written in" in said
    with pytest.raises(UserError, match="--sad-cfg-path"):
        bsrnn_prepare.main([*flags, "--sad-cfgpath", short])
    header = (tmp_path / "out" / "vocals_activity.jsonl").read_text().splitlines()[0]
    assert json.loads(header)["settings"]["sr"] == RATE


def test_settings_come_from_a_file(tmp_path):
    path = tmp_path / "sad.yaml"
    path.write_text("gamma: 1e-2\n")
    assert Activity.from_file(path) == Activity(gamma=0.01)
    path.write_text("- 1\n")
    with pytest.raises(UserError, match=r"sad\.yaml: not a YAML file of names and values"):
        Activity.from_file(path)
    with pytest.raises(UserError, match="there is no such file"):
        Activity.from_file(tmp_path / "none.yaml")
