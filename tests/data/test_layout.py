"""Where songs are looked for and how they are divided into splits."""

import os
from pathlib import Path

import pytest

from data.layout import MUSDB_VALIDATION, SongFolder, SplitRule, assign_splits, find_songs
from data.stems import canonical, parts_of, stem_of_file
from runtime.errors import UserError


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def songs(count, split=""):
    return [SongFolder(f"Song {k}", split, f"{split}/Song {k}", {}) for k in range(count)]


def names(found, split):
    return {song.name for song in found if song.split == split}


def test_names_of_stems_and_their_aliases():
    assert [canonical(word) for word in ("vocal", "Vocals", "instrumental", "mix", "piano", "zither")] == [
        "vocals", "vocals", "accompaniment", "mixture", "piano", None,
    ]  # fmt: skip
    assert stem_of_file("a/b/Instrumental.FLAC") == "accompaniment"
    assert stem_of_file("vocal.txt") is None
    assert parts_of("accompaniment", {"drums", "bass", "other", "piano"}) == ("drums", "bass", "other", "piano")
    assert parts_of("accompaniment", {"drums", "bass"}) is None
    assert parts_of("vocals", {"mixture", "accompaniment"}) is None


def test_split_folders_and_flat_songs_are_found(tmp_path):
    touch(tmp_path / "train" / "A", "mixture.wav", "vocal.wav", "notes.txt", ".hidden.wav")
    touch(tmp_path / "Validation" / "B", "mixture.flac", "vocals.mp3")
    touch(tmp_path / "C", "mixture.ogg", "instrumental.m4a")
    touch(tmp_path / ".tmp-1" / "D", "mixture.wav")
    found, findings = find_songs(tmp_path)
    assert {(song.name, song.split, song.folder) for song in found} == {
        ("A", "train", "train/A"), ("B", "valid", "Validation/B"), ("C", "", "C"),
    }  # fmt: skip
    assert next(song for song in found if song.name == "A").sources == {
        "mixture": "train/A/mixture.wav", "vocals": "train/A/vocal.wav",
    }  # fmt: skip
    assert findings == []


def test_odd_layouts_are_reported(tmp_path):
    touch(tmp_path / "train" / "A", "mixture.wav", "vocal.wav", "vocals.flac", "guitar.wav")
    touch(tmp_path / "train" / "B", "cover.png")
    touch(tmp_path / "extras" / "C", "mixture.wav")
    _, findings = find_songs(tmp_path)
    assert {(row.severity, row.kind, row.song, row.file) for row in findings} == {
        ("error", "ambiguous", "train/A", "vocals.flac"),
        ("warning", "ignored", "train/A", "guitar.wav"),
        ("error", "empty", "train/B", ""),
        ("warning", "layout", "extras", ""),
    }


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "no songs"),
        (lambda root: touch(root / "train", "X - Y.stem.mp4"), "--from-archive"),
        (lambda root: root.rmdir(), "no such data set folder"),
    ],
)
def test_nothing_to_find_says_what_to_do(tmp_path, make, words):
    root = tmp_path / "dataset"
    root.mkdir()
    make(root)
    with pytest.raises(UserError, match=words):
        find_songs(root)


def test_flat_songs_get_a_seeded_tenth_for_test():
    found, notes = assign_splits(songs(20), SplitRule(valid_fraction=0))
    assert len(names(found, "test")) == 2 and len(names(found, "train")) == 18
    assert "2 drawn for test" in notes[0]
    again, _ = assign_splits(reversed(songs(20)), SplitRule(valid_fraction=0))
    assert names(found, "test") == names(again, "test")
    other = [names(assign_splits(songs(20), SplitRule(valid_fraction=0, seed=k))[0], "test") for k in range(1, 5)]
    assert any(names(found, "test") != drawn for drawn in other)


def test_a_new_song_moves_at_most_one_other_out_of_the_test():
    before = names(assign_splits(songs(40), SplitRule(valid_fraction=0))[0], "test")
    after = names(assign_splits(songs(41), SplitRule(valid_fraction=0))[0], "test")
    assert len(before - after) <= 1


def test_flat_songs_beside_a_test_folder_are_for_training():
    found, _ = assign_splits([*songs(20), SongFolder("T", "test", "test/T", {})], SplitRule(valid_fraction=0))
    assert names(found, "test") == {"T"}


def test_musdb_validation_songs_are_used_where_they_are():
    assert len(MUSDB_VALIDATION) == 14
    train = [*songs(20, "train"), SongFolder("Meaxic - Take A Step", "train", "train/M", {})]
    found, notes = assign_splits(train, SplitRule())
    assert names(found, "valid") == {"Meaxic - Take A Step"} and "MUSDB" in notes[0]
    found, _ = assign_splits(train, SplitRule(valid_fraction=0.2))
    assert len(names(found, "valid")) == 4


def test_validation_is_a_tenth_but_at_least_one_of_five():
    for count, expected in ((4, 0), (5, 1), (14, 1), (40, 4)):
        assert len(names(assign_splits(songs(count, "train"), SplitRule())[0], "valid")) == expected
    assert names(assign_splits(songs(40, "train"), SplitRule(valid_fraction=0))[0], "valid") == set()


def test_a_valid_folder_is_left_alone():
    given = [*songs(20, "train"), SongFolder("V", "valid", "valid/V", {})]
    assert names(assign_splits(given, SplitRule())[0], "valid") == {"V"}


def test_names_that_no_index_can_hold_are_findings(tmp_path):
    touch(Path(os.fsdecode(os.fsencode(tmp_path) + b"/train/bad\xff")), "mixture.wav", "vocal.wav")
    touch(tmp_path / "train" / "Good", "mixture.wav", "vocal.wav", os.fsdecode(b"odd\xff.wav"))
    found, findings = find_songs(tmp_path)
    assert [song.name for song in found] == ["Good"]
    assert [(row.severity, row.kind, row.song, row.file) for row in findings] == [
        ("warning", "ignored", "train/Good", "odd\ufffd.wav"),
        ("error", "name", "train/bad\ufffd", ""),
    ]
