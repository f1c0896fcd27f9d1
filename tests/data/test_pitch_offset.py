"""The time of the first label is found where it is known, and doubted where nothing says it."""

import numpy as np
import pytest

from data.pitch_labels import at, read
from data.pitch_offset import measure, track
from data.voice import make_song, singer

RATE = 16000
SPAN = (-0.04, 0.08)


@pytest.fixture(scope="module")
def songs():
    return [make_song(4, seed=0, number=n, voice=singer(0, n)) for n in range(4)]


def labelled(song, first, hop=0.02):
    places = np.round((first + hop * np.arange(int((4 - first) / hop))) * RATE).astype(int)
    return song.audio[1] / 32768, song.f0[np.clip(places, 0, len(song.f0) - 1)]


@pytest.mark.parametrize("first", [0.0, 0.02, 0.04, 0.025])
def test_first_label_is_found(songs, first):
    found = measure([labelled(song, first) for song in songs], RATE, 0.02, SPAN)
    assert abs(found.measured - first) < 0.0005
    assert found.first == pytest.approx(first, abs=0.0005) and not found.weak
    assert found.error < 0.0005 and found.gain > 1.5 and found.labels > 300


def test_whole_hops_and_halves_are_taken_as_meant(songs):
    found = measure([labelled(song, 0.021) for song in songs], RATE, 0.02, SPAN)
    assert found.first == 0.02 and abs(found.measured - 0.021) < 0.0005


def test_a_voice_that_never_moves_says_nothing():
    tone = np.sin(2 * np.pi * 220 * np.arange(4 * RATE) / RATE)
    assert measure([(tone, np.full(190, 220.0))], RATE, 0.02, SPAN).weak


def test_labels_of_another_song_are_doubted(songs):
    rng = np.random.default_rng(0)
    wrong = [(song.audio[1] / 32768, 220 * 2 ** rng.uniform(-0.5, 0.5, 190)) for song in songs]
    assert measure(wrong, RATE, 0.02, SPAN).weak


def test_too_few_labels_are_doubted(songs):
    voice, f0 = labelled(songs[0], 0.02)
    assert "too few" in measure([(voice, np.zeros_like(f0))], RATE, 0.02, SPAN).weak
    assert "too few" in measure([], RATE, 0.02, SPAN).weak


def test_tracker_follows_the_known_pitch(songs):
    times = np.arange(0, 4, 0.01)
    for song in songs:
        found = track(song.audio[1], RATE, times)
        known = song.f0[np.round(times * RATE).astype(int)]
        both = (found > 0) & (known > 0)
        assert both.sum() > 0.97 * (known > 0).sum()
        assert np.mean(np.abs(1200 * np.log2(found[both] / known[both])) < 20) > 0.97


def test_silence_and_noise_have_no_pitch():
    times = np.arange(0, 1, 0.01)
    noise = np.random.default_rng(0).standard_normal(RATE)
    assert not track(np.zeros(RATE), RATE, times).any()
    assert np.mean(track(noise, RATE, times) > 0) < 0.02
    assert not track(np.zeros(0), RATE, times).any()


@pytest.mark.parametrize(
    ("wav", "csv"),
    [
        ("vocadito_1/vocadito_1.wav", "vocadito_1/vocadito_1_f0.csv"),
        ("mdb_stem_synth/AClassicEducation_NightOwl_STEM_08.RESYN.wav",) * 2,
    ],
)
def test_real_voices_agree_with_their_labels(shared_audio, wav, csv):
    from dsp import audio

    path = shared_audio / "pitch" / wav
    x, rate = audio.read(path, sample_rate=RATE, channels=1)
    pitch = read((shared_audio / "pitch" / csv).with_suffix(".csv"))
    times = np.arange(0, x.shape[1] / rate, 0.01)
    found, (known, voiced) = track(x[0], rate, times), at(pitch, times)
    both = voiced & (found > 0)
    assert both.sum() > 0.99 * voiced.sum()
    assert np.mean(np.abs(1200 * np.log2(found[both] / known[both])) < 50) > 0.99
    labels = at(pitch, 0.02 + 0.02 * np.arange(int(pitch.times[-1] / 0.02) - 1))[0]
    offset = measure([(x[0], labels)], rate, 0.02, SPAN)
    assert abs(offset.measured - 0.02) < 0.005 and not offset.weak
