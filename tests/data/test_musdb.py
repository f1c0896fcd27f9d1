"""MUSDB18 in its three forms: finding its songs, writing them whole, and leaving alone what is somebody else's."""

import os
import re

import numpy as np
import pytest
import soundfile

from data import musdb
from data.audit import Settings, judge, measure_song
from data.layout import find_songs
from runtime.errors import UserError
from tests.data import stem_file

SIX = ["bass.wav", "drums.wav", "instrumental.wav", "mixture.wav", "other.wav", "vocal.wav"]


def write_folder(folder, stems, seconds=0.1, level=0.1):
    """A song as in MUSDB18-HQ: one 16-bit file for each stem."""
    folder.mkdir(parents=True)
    sources = stem_file.tracks(seconds, 1, level)
    sources["accompaniment"] = sources["drums"] + sources["bass"] + sources["other"]
    names = {"vocal": "vocals", "instrumental": "accompaniment"}
    for stem in stems:
        soundfile.write(folder / f"{stem}.wav", sources[names.get(stem, stem)].T, stem_file.RATE)
    return folder


def write(source, root, two_track=False, link=False):
    return musdb.write_songs(musdb.find_sources(source), root, two_track, link, jobs=1)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("archive", musdb.ARCHIVES.values(), ids=musdb.ARCHIVES)
def test_the_published_archives_are_described_whole(archive):
    assert re.fullmatch("[0-9a-f]{32}", archive.md5)
    assert archive.size > 100e6 and archive.songs > 100 and archive.seconds > 900
    assert archive.file.endswith(".zip") and all(archive.file in url for url in archive.urls)
    assert len(archive.urls) == len(set(archive.urls)) > 1 and all(url.startswith("https://") for url in archive.urls)


def test_a_stem_file_becomes_six_tracks_that_add_up(tmp_path):
    stem_file.write(tmp_path / "in" / "Train" / "A - ü 歌.stem.mp4")
    outcome = write(tmp_path / "in", tmp_path / "dataset")
    assert outcome.written == ["A - ü 歌"] and not outcome.failed and not outcome.floats
    folder = tmp_path / "dataset" / "train" / "A - ü 歌"
    assert names(folder) == SIX
    audio = {name: soundfile.read(folder / name, always_2d=True)[0] for name in SIX}
    assert len({x.shape for x in audio.values()}) == 1
    backing = audio["drums.wav"] + audio["bass.wav"] + audio["other.wav"]
    assert np.abs(audio["instrumental.wav"] - backing).max() <= 2 / 32768
    truth = stem_file.tracks(1.0, 0)["vocals"].T
    assert np.abs(audio["vocal.wav"][4096:40000] - truth[4096:40000]).max() < 0.02  # the codec's error, in time
    songs, _ = find_songs(tmp_path / "dataset")
    assert not judge("A", measure_song(tmp_path / "dataset", songs[0].sources), Settings())


def test_two_tracks_and_later_all_of_them(tmp_path):
    stem_file.write(tmp_path / "in" / "test" / "A.stem.mp4")
    write(tmp_path / "in", tmp_path / "dataset", two_track=True)
    folder = tmp_path / "dataset" / "test" / "A"
    assert names(folder) == ["instrumental.wav", "mixture.wav", "vocal.wav"]
    assert write(tmp_path / "in", tmp_path / "dataset", two_track=True).kept == ["A"]
    assert write(tmp_path / "in", tmp_path / "dataset").written == ["A"]
    assert names(folder) == SIX
    assert write(tmp_path / "in", tmp_path / "dataset", two_track=True).kept == ["A"]
    assert names(folder) == SIX  # nothing is taken away again


@pytest.mark.parametrize("link", [False, True])
def test_wav_folders_keep_their_files_and_get_an_instrumental(tmp_path, link):
    source = write_folder(tmp_path / "in" / "train" / "A", ["mixture", "vocals", "drums", "bass", "other"])
    write(tmp_path / "in", tmp_path / "dataset", link=link)
    folder = tmp_path / "dataset" / "train" / "A"
    assert names(folder) == SIX and names(source) == [
        "bass.wav",
        "drums.wav",
        "mixture.wav",
        "other.wav",
        "vocals.wav",
    ]
    assert (folder / "vocal.wav").read_bytes() == (source / "vocals.wav").read_bytes()
    assert (folder / "vocal.wav").samefile(source / "vocals.wav") == link


def test_the_two_track_form_is_taken_as_it_is(tmp_path):
    write_folder(tmp_path / "in" / "A", ["mixture", "vocal", "instrumental"])
    write(tmp_path / "in", tmp_path / "dataset")
    assert names(tmp_path / "dataset" / "A") == ["instrumental.wav", "mixture.wav", "vocal.wav"]


def test_what_passes_full_scale_becomes_float_instead_of_clipped(tmp_path):
    stem_file.write(tmp_path / "in" / "train" / "Loud.stem.mp4", level=0.45)
    outcome = write(tmp_path / "in", tmp_path / "dataset")
    assert set(outcome.floats) == {"Loud/mixture", "Loud/instrumental"}
    folder = tmp_path / "dataset" / "train" / "Loud"
    kinds = {name: soundfile.info(folder / name).subtype for name in SIX}
    assert kinds["mixture.wav"] == "FLOAT" and kinds["drums.wav"] == "PCM_16"
    assert np.abs(soundfile.read(folder / "mixture.wav")[0]).max() > 1.0


def test_hidden_files_and_other_things_are_no_songs(tmp_path):
    stem_file.write(tmp_path / "train" / "A.stem.mp4")
    (tmp_path / "train" / "._A.stem.mp4").write_bytes(b"made by a Mac")
    (tmp_path / "__MACOSX" / "train").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "train" / "A.stem.mp4").write_bytes(b"likewise")
    (tmp_path / "README.md").write_text("MUSDB18")
    (tmp_path / "train" / "nothing").symlink_to("nowhere")
    os.mkfifo(tmp_path / "train" / "pipe")
    assert [(song.name, song.split) for song in musdb.find_sources(tmp_path)] == [("A", "train")]


def test_nothing_found_and_a_song_found_twice(tmp_path):
    with pytest.raises(UserError, match=r"neither \.stem\.mp4 files nor folders"):
        musdb.find_sources(tmp_path)
    for place in ("one", "two"):
        stem_file.write(tmp_path / place / "train" / "A.stem.mp4", 0.1)
    with pytest.raises(UserError, match="the song 'A' is there twice"):
        musdb.find_sources(tmp_path)


def test_a_bad_song_does_not_stop_the_others(tmp_path):
    stem_file.write(tmp_path / "in" / "train" / "Good.stem.mp4", 0.2)
    (tmp_path / "in" / "train" / "Bad.stem.mp4").write_bytes(b"no music")
    write_folder(tmp_path / "in" / "train" / "No Voice", ["mixture", "drums", "bass", "other"])
    uneven = write_folder(tmp_path / "in" / "train" / "Uneven", ["mixture", "vocals", "drums", "bass", "other"])
    soundfile.write(uneven / "bass.wav", np.zeros((100, 2)), stem_file.RATE)
    outcome = write(tmp_path / "in", tmp_path / "dataset")
    assert outcome.written == ["Good"] and set(outcome.failed) == {"Bad", "No Voice", "Uneven"}
    assert "there is no vocal" in outcome.failed["No Voice"] and "differ in length" in outcome.failed["Uneven"]
    assert names(tmp_path / "dataset" / "train") == ["Good"]


@pytest.mark.parametrize("stranger", ["lyrics.txt", "piano.wav", "vocals.wav"])
def test_a_folder_of_the_users_is_never_replaced(tmp_path, stranger):
    stem_file.write(tmp_path / "in" / "train" / "A.stem.mp4", 0.1)
    folder = tmp_path / "dataset" / "train" / "A"
    folder.mkdir(parents=True)
    (folder / stranger).write_bytes(b"mine")
    outcome = write(tmp_path / "in", tmp_path / "dataset")
    assert f"is in the way: it holds {stranger}" in outcome.failed["A"]
    assert names(folder) == [stranger]


def test_real_excerpts(shared_audio, tmp_path):
    source = shared_audio / "stems" / "musdb18-7-cc"
    song = next(song for song in musdb.find_sources(source) if song.split == "test")
    musdb.write_song(song, tmp_path, two_track=False, link=False)
    songs, _ = find_songs(tmp_path)
    findings = judge("song", measure_song(tmp_path, songs[0].sources), Settings())
    assert not [finding for finding in findings if finding.severity == "error"]
