"""Synthetic singers: deterministic, different from each other, and in tune with their labels to the sample."""

import numpy as np
import pytest
import soundfile

from data.pitch_labels import at_frames, read_pv
from data.voice import main, make_song, singer, write
from runtime.errors import UserError


@pytest.fixture(scope="module")
def song():
    return make_song(4, seed=5, number=1, voice=singer(5, 1))


def test_songs_are_deterministic_and_depend_on_everything(song):
    again = make_song(4, 5, 1, singer(5, 1))
    assert np.array_equal(song.audio, again.audio) and np.array_equal(song.f0, again.f0)
    for seed, number, voice in ((6, 1, 1), (5, 2, 1), (5, 1, 2)):
        assert not np.array_equal(song.audio, make_song(4, seed, number, singer(5, voice)).audio)


def test_channels_are_accompaniment_and_voice_below_full_scale(song):
    assert song.audio.shape == (2, 64000) and song.audio.dtype == np.int16 and song.f0.shape == (64000,)
    assert np.abs(song.audio.astype(int)).max() < 32767 and np.abs(song.audio.astype(int).sum(axis=0)).max() < 32767
    assert all(np.sqrt(np.mean((channel / 32768) ** 2)) > 0.01 for channel in song.audio)


def test_voice_is_periodic_at_its_label(song):
    """A frame of the voice looks like itself one period later, where a period is what the label says."""
    voice = song.audio[1].astype(float)
    checked = 0
    for start in range(8000, 56000, 400):
        part = slice(start, start + 800)
        if (song.f0[part] > 0).all() and np.ptp(song.f0[part]) < 4:
            period = 16000 / song.f0[part].mean()
            later = np.interp(np.arange(start, start + 800) + period, np.arange(len(voice)), voice)
            assert np.corrcoef(voice[part], later)[0, 1] > 0.95
            checked += 1
    assert checked > 5


def test_voiced_and_silent_parts_alternate(song):
    voiced = song.f0 > 0
    assert 0.3 < voiced.mean() < 0.95 and np.count_nonzero(np.diff(voiced)) > 4
    loud = np.abs(song.audio[1])
    assert loud[voiced].mean() > 4 * loud[~voiced].mean()
    assert song.f0[voiced].min() > 60 and song.f0.max() < 1200


def test_singers_differ():
    voices = [singer(0, number) for number in range(12)]
    assert len({voice.name for voice in voices}) == 12
    centres = sorted(voice.centre for voice in voices)
    assert centres[0] < 51 and centres[-1] > 65
    assert len({round(voice.slope, 6) for voice in voices}) == 12


@pytest.mark.parametrize("hop", [160, 320])
def test_written_data_set_has_the_documented_layout(tmp_path, hop):
    paths = write(tmp_path, songs=5, seconds=1, seed=0, hop=hop, test=2, singers=2)
    assert [path.parent.name for path in paths] == ["train"] * 3 + ["test"] * 2
    voices = {
        split: {path.name.split("_")[0] for path in (tmp_path / split).glob("*.wav")} for split in ("train", "test")
    }
    assert len(voices["train"]) == 2 and not voices["train"] & voices["test"]
    audio, rate = soundfile.read(paths[3], dtype="int16")
    assert rate == 16000 and audio.shape == (16000, 2)
    number, voice = 3, singer(0, 3 % 2 + 2)
    song = make_song(1, 0, number, voice)
    assert np.array_equal(audio.T, song.audio)
    f0 = at_frames(read_pv(paths[3].with_suffix(".pv"), hop / 16000), 16000, hop)
    known = song.f0[np.minimum(np.arange(len(f0)) * hop, 15999)]
    assert np.allclose(f0[1:], known[1:], rtol=1e-5) and len(f0) == 16000 // hop + 1
    assert sorted(path.suffix for path in (tmp_path / "test").iterdir()) == [".pv", ".pv", ".wav", ".wav"]


def test_command_line(tmp_path, capsys):
    assert main([str(tmp_path), "--songs", "2", "--seconds", "0.5", "--test", "1"]) == 0
    assert "2 songs of 0.5 s" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"songs": 0}, {"seconds": 0.1}, {"test": 4}, {"singers": 0}])
def test_impossible_wishes_are_sentences(tmp_path, wrong):
    with pytest.raises(UserError):
        write(tmp_path, **{"songs": 3, "seconds": 1, "seed": 0, **wrong})
