"""Log-spectral distance, and where a codec has cut off."""

import numpy as np
import pytest
import scipy.signal

from dsp import audio, codec
from metrics.log_spectral import FLOOR, SIZE, cutoff, levels, log_spectral_distance

RATE = 44100


@pytest.fixture(scope="module")
def noise():
    return 0.1 * np.random.default_rng(0).standard_normal((2, RATE))


def lowpassed(x, hertz):
    return scipy.signal.sosfiltfilt(scipy.signal.butter(12, hertz, fs=RATE, output="sos"), x)


def test_distance_by_hand(noise):
    assert log_spectral_distance(noise, noise) == 0
    for gain in (0.25, 4):
        assert log_spectral_distance(noise, gain * noise) == pytest.approx(20 * np.log10(4), abs=1e-3)
    half = noise * [[1], [0.1]]  # 20 dB in one of two channels
    assert log_spectral_distance(noise, half) == pytest.approx(10, abs=0.01)
    late = noise.copy()
    late[:, RATE // 2 :] *= 0.1  # 20 dB in half the frames
    assert log_spectral_distance(noise, late) == pytest.approx(10, abs=0.5)


def test_only_the_bins_above_count(noise):
    """A quarter of the bins is 30 dB too soft: the root of 900 / 4; beyond the edge and above it, as it is cut."""
    frequencies = np.fft.rfftfreq(RATE)
    softer = np.fft.irfft(np.fft.rfft(noise) * np.where(frequencies >= 0.375, 10**-1.5, 1), RATE)
    assert log_spectral_distance(noise, softer) == pytest.approx(15, rel=0.02)
    assert log_spectral_distance(noise, softer, 0.25) == pytest.approx(30 / np.sqrt(2), rel=0.02)
    assert log_spectral_distance(noise, softer, 0.38) == pytest.approx(30, rel=0.02)


def test_silence_is_finite(noise):
    nothing = np.zeros((1, RATE))
    assert log_spectral_distance(nothing, nothing) == 0
    assert log_spectral_distance(nothing, 1e-7 * noise[:1]) == 0  # below the floor
    tone = np.sin(2 * np.pi * 100 / SIZE * np.arange(RATE))[None]
    assert levels(tone).max() == pytest.approx(0, abs=1e-6) and levels(nothing).max() == FLOOR
    assert 0 < log_spectral_distance(tone, nothing) < -FLOOR


@pytest.mark.parametrize("hertz", [3000, 11000, 16000])
def test_cut_off_of_a_filter(noise, hertz):
    """A steep filter is 20 dB down just above its corner."""
    filtered = lowpassed(noise, hertz)
    assert cutoff(noise, filtered) * RATE == pytest.approx(hertz * 1.07, rel=0.05)
    assert cutoff(0.03 * noise, 0.03 * filtered) == cutoff(noise, filtered)
    hissing = filtered + 1e-4 * np.random.default_rng(1).standard_normal(noise.shape)  # a little noise changes nothing
    assert cutoff(noise, hissing) == pytest.approx(cutoff(noise, filtered), abs=2 / SIZE)


def test_what_is_not_cut_off(noise):
    assert cutoff(noise, 0.5 * noise) is None
    assert cutoff(noise, noise + 0.1 * noise[::-1]) is None
    dull = lowpassed(noise, 8000)
    assert cutoff(dull, lowpassed(dull, 16000)) is None  # nothing was there
    assert cutoff(np.zeros((2, RATE)), noise) is None and cutoff(noise[:, :1000], noise[:, :1000]) is None
    hollow = noise - lowpassed(noise, 9000) + lowpassed(noise, 5000)  # a hole is no cut-off
    assert cutoff(noise, hollow) is None


@pytest.mark.parametrize(("bitrate", "hertz"), [(32, 5600), (64, 11200)])
def test_cut_off_of_mp3(tmp_path, shared_audio, bitrate, hertz):
    """Of real music at real bit rates: where LAME's low-pass filter lies."""
    song = shared_audio / "codec" / "apollo" / "24k_sample1" / "ori_wav.wav"
    original, rate = audio.read(song)
    codec.encode(tmp_path / "song.mp3", original, rate, "mp3", bitrate * 1000)
    coded = codec.decode(tmp_path / "song.mp3", rate, original.shape[1])
    assert cutoff(original, coded) * rate == pytest.approx(hertz, rel=0.03)


@pytest.mark.parametrize(
    ("name", "hertz"), [("24k", 4300), ("32k", 5600), ("48k", 7600), ("64k", 11200), ("96k", 15300)]
)
def test_cut_off_of_the_examples(shared_audio, name, hertz):
    folder = shared_audio / "codec" / "apollo" / f"{name}_sample1"
    original, coded, restored = (audio.read(folder / f"{each}_wav.wav")[0] for each in ("ori", "codec", "ests"))
    edge = cutoff(original, coded)
    assert edge * RATE == pytest.approx(hertz, rel=0.03)
    assert log_spectral_distance(original, restored, edge) < 9 < 12 < log_spectral_distance(original, coded, edge)
