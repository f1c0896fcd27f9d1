"""Scanning a data set: what is decoded again, what is left out, what ends without an index."""

import json
import os
import shutil

import pytest
import soundfile

from data.index import read_index
from data.layout import SplitRule
from data.scan import build_index, summary
from data.synthetic import write_songs
from runtime.errors import UserError


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("original")
    write_songs(root, 6, 0.5, seed=0, sample_rate=8000, splits={"test": 1})
    return root


@pytest.fixture
def dataset(original, tmp_path):
    return shutil.copytree(original, tmp_path / "dataset")


def replace_wav(path, x, rate=8000):
    path.unlink()
    soundfile.write(path, x, rate)


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*.*") if not path.name.startswith("index.")}


def test_a_healthy_data_set(dataset):
    before = contents(dataset)
    report = build_index(dataset)
    assert report.findings == [] and report.decoded == 6
    index = read_index(dataset)
    assert index.splits() == {"train": 4, "valid": 1, "test": 1}
    song = index.songs[0]
    assert (song.frames, song.sample_rate, song.channels) == (4000, 8000, 2)
    assert set(song.sources) == {"mixture", "vocals", "accompaniment", "drums", "bass", "other"}
    assert contents(dataset) == before
    facts = summary(report)
    assert facts["splits"]["train"]["songs"] == 4 and facts["sample_rates"] == {"8000": 6}


def test_fingerprints_differ_between_songs_and_stay_with_the_content(dataset, tmp_path):
    build_index(dataset)
    first = {song.name: song.fingerprint for song in read_index(dataset).songs}
    assert len(set(first.values())) == 6
    copy = shutil.copytree(dataset, tmp_path / "copy")
    (copy / "index.audit.jsonl").unlink()
    build_index(copy)
    assert {song.name: song.fingerprint for song in read_index(copy).songs} == first


def test_a_second_scan_decodes_only_what_changed(dataset):
    first = build_index(dataset)
    text = (dataset / "index.jsonl").read_text()
    again = build_index(dataset)
    assert (again.decoded, again.unchanged) == (0, 6) and (dataset / "index.jsonl").read_text() == text

    touched = dataset / "train/Synthetic 000/drums.wav"
    os.utime(touched, ns=(1, 1))
    after = build_index(dataset)
    assert (after.decoded, after.unchanged) == (0, 6)
    song = next(song for song in after.index.songs if song.name == "Synthetic 000")
    assert after.index.changed(song) == [] and song.fingerprint in {song.fingerprint for song in first.index.songs}

    for stem in ("mixture", "vocal", "instrumental", "drums", "bass", "other"):
        path = dataset / f"train/Synthetic 001/{stem}.wav"
        replace_wav(path, soundfile.read(path)[0][:3000])
    shutil.rmtree(dataset / "train/Synthetic 002")
    last = build_index(dataset)
    assert (last.decoded, last.unchanged, last.removed) == (1, 4, 1)
    frames = {song.name: song.frames for song in read_index(dataset).songs}
    assert frames["Synthetic 001"] == 3000 and "Synthetic 002" not in frames


def test_errors_keep_the_index_from_being_written_unless_skipped(dataset):
    (dataset / "train/Synthetic 000/vocal.wav").write_bytes(b"no sound")
    shutil.copytree(dataset / "test/Synthetic 005", dataset / "train/Leak")
    report = build_index(dataset)
    assert report.index is None and not (dataset / "index.jsonl").exists()
    assert {(row.kind, row.song) for row in report.errors} == {
        ("unreadable", "train/Synthetic 000"),
        ("leakage", "train/Leak"),
    }
    report = build_index(dataset, skip_errors=True)
    assert report.skipped == ["train/Leak", "train/Synthetic 000"] and report.decoded == 1  # the unreadable one
    assert {song.name for song in read_index(dataset).songs} == {f"Synthetic 00{k}" for k in range(1, 6)}


def test_a_mended_song_is_decoded_again_and_the_others_are_not(dataset):
    path = dataset / "train/Synthetic 000/vocal.wav"
    good = path.read_bytes()
    path.write_bytes(good[:1000])
    assert build_index(dataset).index is None
    path.write_bytes(good)
    report = build_index(dataset)
    assert report.decoded == 1 and report.errors == [] and len(report.index.songs) == 6


def test_processes_give_the_same_index(dataset, original, tmp_path):
    build_index(dataset, jobs=2)
    alone = shutil.copytree(original, tmp_path / "alone")
    build_index(alone, jobs=1)
    pick = lambda root: [(song.name, song.split, song.fingerprint) for song in read_index(root).songs]  # noqa: E731
    assert pick(dataset) == pick(alone)


def test_flat_songs_are_divided(dataset):
    for split in ("train", "test"):
        for folder in (dataset / split).iterdir():
            shutil.move(folder, dataset / folder.name)
        (dataset / split).rmdir()
    report = build_index(dataset, rule=SplitRule(seed=1))
    assert report.index.splits()["test"] == 1 and any("test" in note for note in report.notes)


def test_the_index_may_lie_elsewhere(dataset, tmp_path):
    build_index(dataset, tmp_path / "elsewhere" / "songs.jsonl")
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["songs.audit.jsonl", "songs.jsonl"]
    assert not list(dataset.glob("index*"))
    index = read_index(tmp_path / "elsewhere" / "songs.jsonl")
    assert index.changed(index.songs[0]) == []


def test_a_damaged_record_is_made_anew(dataset, capsys):
    build_index(dataset)
    (dataset / "index.audit.jsonl").write_text('{"format": "paddlestems-audit", "version": 1}\n{"folder"')
    assert build_index(dataset).decoded == 6
    assert "damaged" in capsys.readouterr().err


def test_the_record_holds_the_findings(dataset):
    silent = dataset / "train/Synthetic 000/bass.wav"
    drums, _ = soundfile.read(dataset / "train/Synthetic 000/drums.wav")
    replace_wav(silent, drums * 0)
    report = build_index(dataset)
    assert ("silent", "bass.wav") in {(row.kind, row.file) for row in report.warnings}
    rows = [json.loads(line) for line in (dataset / "index.audit.jsonl").read_text().splitlines()[1:]]
    row = next(row for row in rows if row["folder"] == "train/Synthetic 000")
    assert row["measure"]["files"]["bass"]["peak"] == 0 and row["findings"][0]["kind"]


def test_no_usable_song_is_an_error_even_when_skipping(tmp_path):
    (tmp_path / "train" / "A").mkdir(parents=True)
    (tmp_path / "train" / "A" / "mixture.wav").write_bytes(b"")
    with pytest.raises(UserError, match="none of its 1 songs can be used"):
        build_index(tmp_path, skip_errors=True)
