"""Synthetic songs: deterministic, complete, summing exactly, and hard enough to be worth separating."""

import numpy as np
import pytest
import soundfile

from data.synthetic import main, make_song, write_songs
from runtime.errors import UserError


@pytest.fixture(scope="module")
def song():
    return make_song(6, seed=3, number=1)


def energy(x):
    return float(np.sum(x.astype(np.float64) ** 2))


def test_stems_sum_to_the_mixture_in_integers(song):
    tracks = {stem: track.astype(np.int64) for stem, track in song.tracks.items()}
    assert np.array_equal(tracks["drums"] + tracks["bass"] + tracks["other"], tracks["accompaniment"])
    assert np.array_equal(tracks["vocals"] + tracks["accompaniment"], tracks["mixture"])
    assert max(np.abs(track).max() for track in tracks.values()) < 32767


def test_every_track_is_stereo_of_the_asked_length_and_sounds(song):
    for track in song.tracks.values():
        assert track.shape == (2, 6 * 44100)
        assert np.abs(track).max() > 1000


def test_voice_is_about_as_loud_as_the_rest():
    for number in range(4):
        tracks = make_song(4, seed=0, number=number).tracks
        ratio = 10 * np.log10(energy(tracks["vocals"]) / energy(tracks["accompaniment"]))
        assert -3 < ratio < 0.5


def test_pitch_track_has_ten_milliseconds_and_matches_the_sound(song):
    assert len(song.f0) == 601
    voiced = song.f0 > 0
    assert 0.3 < voiced.mean() < 0.98
    assert song.f0[voiced].min() > 60 and song.f0.max() < 1100
    hits = 0
    voice = song.tracks["vocals"].mean(axis=0)
    frames = [k for k in range(10, 590) if (song.f0[k - 5 : k + 6] > 0).all()]
    for k in frames:
        piece = voice[k * 441 - 1024 : k * 441 + 1024] * np.hanning(2048)
        correlation = np.fft.irfft(np.abs(np.fft.rfft(piece, 4096)) ** 2)
        lag = 44100 / song.f0[k]
        near = correlation[int(lag * 0.95) : int(lag * 1.05) + 2].max()
        hits += near > 0.5 * correlation[0]
    assert hits > 0.8 * len(frames)


def test_songs_depend_on_seed_and_number_only(tmp_path):
    write_songs(tmp_path / "a", 2, 1, seed=5, sample_rate=8000)
    write_songs(tmp_path / "b", 3, 1, seed=5, sample_rate=8000, splits={"test": 1})
    first = (tmp_path / "a/train/Synthetic 001/mixture.wav").read_bytes()
    assert first == (tmp_path / "b/train/Synthetic 001/mixture.wav").read_bytes()
    assert first != (tmp_path / "a/train/Synthetic 000/mixture.wav").read_bytes()
    write_songs(tmp_path / "a", 2, 1, seed=6, sample_rate=8000)
    assert first != (tmp_path / "a/train/Synthetic 001/mixture.wav").read_bytes()


def test_command_line_writes_the_documented_layout(tmp_path, capsys):
    assert main([str(tmp_path), "--songs", "3", "--seconds", "0.5", "--test", "1", "--sample-rate", "16000"]) == 0
    assert "3 songs" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == ["Synthetic 000", "Synthetic 001"]
    folder = tmp_path / "test" / "Synthetic 002"
    names = {"mixture.wav", "vocal.wav", "instrumental.wav", "drums.wav", "bass.wav", "other.wav", "f0.csv"}
    assert {path.name for path in folder.iterdir()} == names
    info = soundfile.info(folder / "mixture.wav")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (16000, 2, 8000, "PCM_16")
    times, f0 = np.loadtxt(folder / "f0.csv", delimiter=",").T
    assert np.allclose(np.diff(times), 0.01) and len(f0) == 51


def test_impossible_requests_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be divided"):
        write_songs(tmp_path, 1, 1, seed=0, splits={"test": 2})
    with pytest.raises(UserError, match=r"0\.5 s"):
        make_song(0.1, seed=0)
