"""Which folders are songs of a data set without an index."""

import numpy as np
import soundfile

from data.wave_songs import collect

SOURCES = ["drums", "bass"]


def song(folder):
    folder.mkdir(parents=True)
    for k, name in enumerate(SOURCES):
        soundfile.write(folder / f"{name}.wav", np.random.default_rng(k).uniform(-0.1, 0.1, (400, 2)), 8000)


def test_a_song_with_a_folder_in_it_is_left_out_and_named(tmp_path, capsys):
    song(tmp_path / "train" / "A")
    song(tmp_path / "train" / "B")
    (tmp_path / "train" / "B" / ".hidden").mkdir()
    song(tmp_path / "train" / "C")
    (tmp_path / "train" / "C" / "sketches").mkdir()
    found = collect(tmp_path, "wav", SOURCES, tmp_path / "metadata")
    assert [measured.song.name for measured in found.songs] == ["A", "B"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "sketches" in said
    assert f"{tmp_path / 'train' / 'C'}: its files are left out" in said
