"""The index on disk and the way from its lines to samples."""

import json

import numpy as np
import pytest
import soundfile

from data.index import INDEX_NAME, Song, file_stat, index_path, load_stem, read_index, write_index
from runtime.errors import UserError

RATE = 8000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two songs: stereo with four sources, mono with two tracks. The names have what names have."""
    root = tmp_path_factory.mktemp("dataset")
    songs = []
    layouts = {
        "Künstler - “Lied” 歌\u2028": ("train", 2, ("mixture", "vocals", "drums", "bass", "other")),
        "Two Tracks": ("test", 1, ("mixture", "vocals", "accompaniment")),
    }
    for number, (name, (split, channels, stems)) in enumerate(layouts.items()):
        (root / split / name).mkdir(parents=True)
        sources = {}
        for k, stem in enumerate(stems):
            x = 0.1 * np.random.default_rng([number, k]).standard_normal((RATE, channels))
            sources[stem] = f"{split}/{name}/{stem}.wav"
            soundfile.write(root / sources[stem], x, RATE, subtype="FLOAT")
        stat = {path: file_stat(root / path) for path in sources.values()}
        songs.append(Song(name, split, f"{split}/{name}", sources, RATE, RATE, channels, f"f{number}", stat))
    write_index(root, root, songs, {"audit": {}})
    return root, songs


def samples(root, path):
    return soundfile.read(root / path, dtype="float32", always_2d=True)[0].T


def test_what_is_written_is_read_back(dataset):
    root, songs = dataset
    index = read_index(root)
    assert list(index.songs) == songs and index.settings == {"audit": {}}
    assert read_index(root / INDEX_NAME).songs == index.songs
    assert index.splits() == {"train": 1, "test": 1}
    assert [song.name for song in index.split("test")] == ["Two Tracks"] and index.split("valid") == []
    assert index.song("Two Tracks").seconds == 1.0
    assert index.file(songs[1], "vocals") == root / "test/Two Tracks/vocals.wav"


def test_lines_are_json_with_relative_posix_paths(dataset):
    root, _ = dataset
    header, *rows = (json.loads(line) for line in (root / INDEX_NAME).read_text("utf-8").split("\n") if line)
    assert header["root"] == "." and len(rows) == 2
    assert all(not path.startswith("/") and "\\" not in path for row in rows for path in row["sources"].values())


def test_the_folder_can_be_moved_and_the_index_lie_elsewhere(dataset, tmp_path):
    root, songs = dataset
    (tmp_path / "moved").symlink_to(root)
    assert read_index(tmp_path / "moved").root == tmp_path / "moved"
    elsewhere = write_index(tmp_path / "lists" / "my.jsonl", root, songs)
    assert read_index(elsewhere).file(songs[0], "vocals").exists()


def test_stems_come_as_files_and_as_sums(dataset):
    root, songs = dataset
    index = read_index(root)
    first, second = songs
    assert np.array_equal(load_stem(index, first, "vocal"), samples(root, first.sources["vocals"]))
    parts = [samples(root, first.sources[stem]) for stem in ("drums", "bass", "other")]
    assert np.allclose(load_stem(index, first, "instrumental"), sum(parts), atol=1e-6)
    assert np.array_equal(load_stem(index, second, "accompaniment"), samples(root, second.sources["accompaniment"]))
    assert first.has("accompaniment") and second.has("accompaniment") and not second.has("drums")


def test_sections_rates_and_channels(dataset):
    root, songs = dataset
    index = read_index(root)
    whole = load_stem(index, songs[0], "accompaniment")
    assert whole.dtype == np.float32 and whole.shape == (2, RATE)
    assert np.array_equal(load_stem(index, songs[0], "accompaniment", 1000, 500), whole[:, 1000:1500])
    assert load_stem(index, songs[0], "vocals", RATE - 100, 500).shape == (2, 100)
    assert load_stem(index, songs[0], "accompaniment", 0, 800, sample_rate=44100).shape == (2, 4410)
    stereo = load_stem(index, songs[1], "vocals", channels=2)
    assert stereo.shape == (2, RATE) and np.array_equal(stereo[0], stereo[1])


def test_stems_that_cannot_be_had(dataset):
    root, songs = dataset
    index = read_index(root)
    with pytest.raises(UserError, match=r"has no drums.*accompaniment, mixture, vocals"):
        load_stem(index, songs[1], "drums")
    with pytest.raises(UserError, match="unknown stem 'zither'"):
        load_stem(index, songs[1], "zither")


def test_changed_files_are_noticed(dataset, tmp_path):
    root, songs = dataset
    index = read_index(root)
    assert index.changed(songs[0]) == []
    moved = write_index(tmp_path / "i.jsonl", tmp_path, songs)
    assert sorted(read_index(moved).changed(songs[1])) == sorted(songs[1].sources.values())


def test_empty_splits_and_lacking_stems_are_errors(dataset):
    index = read_index(dataset[0])
    assert [song.name for song in index.require("test", ["vocals", "accompaniment"])] == ["Two Tracks"]
    with pytest.raises(UserError, match=r"'valid' has no songs; .*test \(1\), train \(1\)"):
        index.require("valid")
    with pytest.raises(UserError, match="all the stems vocals, drums"):
        index.require("test", ["vocals", "drums"])
    with pytest.raises(UserError, match="no song is called 'X'"):
        index.song("X")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"preprocess\.py"),
        ("", "line 1: damaged"),
        ("RIFF", "line 1: damaged"),
        ('{"a": 1}', "not an index"),
        ('{"format": "paddlestems-index", "version": 99}', "format version 99"),
        ('{"format": "paddlestems-index", "version": 1}', "line 1: damaged"),
        ('{"format": "paddlestems-index", "version": 1, "root": "."}\n{"name": "x"}', "line 2: damaged"),
        ('{"format": "paddlestems-index", "version": 1, "root": "."}\n{"name": "x", "sta', "line 2: damaged"),
    ],
)
def test_damaged_indexes_name_file_and_line(tmp_path, text, words):
    if text is not None:
        (tmp_path / INDEX_NAME).write_text(text)
    with pytest.raises(UserError, match=words) as error:
        read_index(tmp_path)
    assert str(index_path(tmp_path)) in str(error.value)


def test_a_missing_data_set_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.*preprocess\.py"):
        read_index(tmp_path / "nowhere")


def test_what_is_missing_is_said_with_a_command_that_can_be_copied(tmp_path):
    with pytest.raises(UserError, match="the data set folder does not exist; give another with --dataset"):
        read_index(tmp_path / "nowhere" / INDEX_NAME)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="the data set folder does not exist"):
        read_index(tmp_path / "file" / INDEX_NAME)
    (tmp_path / "my songs").mkdir()
    with pytest.raises(UserError, match=r"no index; run `python preprocess.py --dataset '.*/my songs'` to make it"):
        read_index(tmp_path / "my songs" / INDEX_NAME)
    with pytest.raises(UserError, match=r"no index; run `python preprocess.py --index .*other.jsonl` to make it"):
        read_index(tmp_path / "other.jsonl")
