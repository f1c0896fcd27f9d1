"""Lossy coding: sound comes back in its place, at its length and level, and the options do what they say."""

import numpy as np
import pytest
import soundfile

from dsp.codec import CODECS, allowed_bitrate, coding_rate, decode, encode, lowpass
from dsp.lag import LONGEST, measure_lag

RATE = 44100


def music(seconds=1.0, rate=RATE, channels=2, seed=0):
    """Noise with a falling spectrum and a tone."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * rate)
    tone = np.sin(2 * np.pi * 440 / rate * np.arange(samples))
    noise = np.cumsum(rng.standard_normal((channels, samples)), axis=1) * 0.02
    noise -= np.pad(noise, [(0, 0), (20, 0)])[:, :-20]
    return (0.1 * tone + noise + 0.02 * rng.standard_normal((channels, samples))).astype(np.float32)


def power(x, rate, low, high):
    frequency = np.fft.rfftfreq(x.shape[1], 1 / rate)
    spectrum = np.abs(np.fft.rfft(x)) ** 2
    return 10 * np.log10(spectrum[:, (frequency >= low) & (frequency < high)].sum())


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [44100, 48000, 22050, 16000])
@pytest.mark.parametrize("codec", CODECS)
def test_nothing_moves_and_nothing_is_lost_at_the_ends(tmp_path, codec, rate, channels):
    x = music(0.8, rate, channels)[:, : -137 - channels]
    for wanted in (32000, 320000):
        bitrate = allowed_bitrate(codec, wanted, rate, channels)
        path = tmp_path / f"a{CODECS[codec].suffix}"
        encode(path, x, rate, codec, bitrate)
        y = decode(path, rate, x.shape[1])
        assert y.shape == x.shape
        assert measure_lag(x, y).samples == 0
        if CODECS[codec].portable:  # for readers that go by libsndfile, too
            z = soundfile.read(path, always_2d=True)[0].T
            assert z.shape == x.shape and measure_lag(x, z).samples == 0


def test_mp3_comes_back_at_any_length(tmp_path):
    """The end of the sound may lie anywhere in the last frames, also where flushing takes one frame more."""
    x = music(0.2)
    for rate, frame in ((44100, 1152), (22050, 576)):
        for samples in (3 * frame + step for step in (0, 1, 20, 46, 47, 48, 300, frame - 30, frame - 1)):
            encode(tmp_path / "a.mp3", x[:, :samples], rate, "mp3", 64000)
            assert decode(tmp_path / "a.mp3", rate, samples).shape[1] == samples
            assert soundfile.info(tmp_path / "a.mp3").frames == samples


def test_lame_keeps_the_level(tmp_path):
    x = music()
    for bitrate, quality in ((64000, None), (192000, None), (320000, None), (64000, 2)):
        encode(tmp_path / "a.mp3", x, RATE, "mp3", bitrate, quality)
        y = decode(tmp_path / "a.mp3", RATE, x.shape[1])
        assert power(y, RATE, 430, 450) == pytest.approx(power(x, RATE, 430, 450), abs=0.06)


def test_a_worse_quality_makes_a_smaller_file_and_bit_rates_are_kept(tmp_path):
    x, sizes = music(3), []
    for quality in (0, 4, 9):
        encode(tmp_path / "a.mp3", x, RATE, "mp3", 64000, quality)
        sizes.append((tmp_path / "a.mp3").stat().st_size)
    assert sizes[0] > 1.2 * sizes[1] > 1.2 * 1.2 * sizes[2]
    for bitrate in (32000, 320000):
        encode(tmp_path / "a.mp3", x, RATE, "mp3", bitrate)
        assert (tmp_path / "a.mp3").stat().st_size * 8 / 3 == pytest.approx(bitrate, rel=0.06)


@pytest.mark.parametrize("codec", CODECS)
def test_the_same_sound_makes_the_same_sound(tmp_path, codec):
    x = music(0.5)
    for name in ("a", "b"):
        encode(tmp_path / f"{name}.x", x, RATE, codec, 64000)
    assert np.array_equal(decode(tmp_path / "a.x", RATE, x.shape[1]), decode(tmp_path / "b.x", RATE, x.shape[1]))
    if CODECS[codec].portable:
        assert (tmp_path / "a.x").read_bytes() == (tmp_path / "b.x").read_bytes()


@pytest.mark.parametrize("corner", [500, 4000, 12000, 20000])
def test_low_pass_falls_by_three_decibels_at_its_corner_and_by_twelve_an_octave(corner):
    x = np.zeros((1, 8192), np.float32)
    x[0, 4000] = 1
    y = lowpass(x, RATE, corner)
    response = 20 * np.log10(np.abs(np.fft.rfft(y[0])) + 1e-12)

    def at(frequency):
        return response[round(frequency / RATE * 8192)]

    assert at(corner) == pytest.approx(-3.01, abs=0.05)
    assert at(corner / 4) == pytest.approx(0, abs=0.05)
    if corner == 500:
        assert at(4000) - at(2000) == pytest.approx(-12, abs=0.5)
    assert np.allclose(y[0, 4000 - 1000 : 4000], y[0, 4001 : 4001 + 1000][::-1], atol=1e-7)  # nothing moves in time
    assert y.shape == x.shape and y.dtype == np.float32


def test_low_pass_has_the_response_of_the_filter_of_ffmpeg():
    """Second-order section of R. Bristow-Johnson's cookbook with a Q of 0.7071, which FFmpeg documents."""
    omega = 2 * np.pi * 12000 / RATE
    alpha, cosine = np.sin(omega) / (2 * 0.7071), np.cos(omega)
    z = np.exp(-2j * np.pi * np.arange(4097) / 8192)
    expected = np.abs(
        ((1 - cosine) / 2 * (1 + z) ** 2) / ((1 + alpha) - 2 * cosine * z + (1 - alpha) * z**2),
    )
    x = np.zeros((1, 8192), np.float32)
    x[0, 4000] = 1
    assert np.allclose(np.abs(np.fft.rfft(lowpass(x, RATE, 12000)[0])), expected, atol=2e-4)


def test_low_pass_refuses_corners_that_the_sound_has_not():
    with pytest.raises(ValueError, match="half of 16000"):
        lowpass(music(0.1, 16000), 16000, 8000)


def test_bit_rates_next_to_what_is_asked_for():
    assert allowed_bitrate("mp3", 24000, 44100, 2) == 32000
    assert allowed_bitrate("mp3", 24000, 22050, 2) == 24000
    assert allowed_bitrate("mp3", 320000, 11025, 1) == 64000
    assert allowed_bitrate("opus", 320000, 44100, 1) == 256000
    assert allowed_bitrate("ogg", 24000, 44100, 2) == 64000
    assert allowed_bitrate("aac", 128000, 44100, 2) == 128000
    assert coding_rate("opus", 44100) == 48000 and coding_rate("mp3", 44100) == 44100


# ----------------------------------------------------------------------------------------------------------------- lag


@pytest.mark.parametrize("lag", [0, 1, -1, 1105, -2257, LONGEST // 4])
def test_lag_is_found_to_the_sample(lag):
    x = music(2)
    y = np.pad(x, [(0, 0), (max(lag, 0), 0)])[:, max(-lag, 0) :]
    found = measure_lag(x, y)
    assert found.samples == lag and found.likeness > 0.6


def test_lag_of_what_is_filtered_quiet_or_upside_down():
    x = music(2)
    late = np.pad(lowpass(x, RATE, 3000), [(0, 0), (7, 0)]) * 1e-3
    assert measure_lag(x, late).samples == 7
    assert measure_lag(x, -x).likeness == pytest.approx(-1, abs=1e-3)


def test_sounds_of_opposite_channels_do_not_cancel():
    x = music(1, channels=1)
    x = np.concatenate([x, -x])
    assert measure_lag(x[:, 5:], x).samples == 5


def test_silence_has_no_lag_and_other_sounds_no_likeness():
    x = music(2)
    assert measure_lag(x, np.zeros_like(x)).samples is None
    assert abs(measure_lag(x, music(2, seed=1)).likeness) < 0.1
