import numpy as np
import pytest

from dsp.resample import StreamResampler, resample, resampled_length, sinc_resample, torchaudio_resample

RATES = [(44100, 48000), (48000, 44100), (44100, 16000), (16000, 44100), (44100, 22050), (8000, 192000), (44100, 44100)]


def noise(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def sine(frequency, rate, samples):
    return np.sin(2 * np.pi * frequency * np.arange(samples) / rate)


def gain_and_lag(y, frequency, rate):
    """Amplitude, and delay in periods, of the sine in the middle half of ``y``."""
    middle = slice(len(y) // 4, 3 * len(y) // 4)
    phase = 2 * np.pi * frequency * np.arange(len(y))[middle] / rate
    basis = np.stack([np.sin(phase), np.cos(phase)], axis=1)
    in_phase, quadrature = np.linalg.lstsq(basis, y[middle].astype(np.float64), rcond=None)[0]
    return np.hypot(in_phase, quadrature), np.arctan2(quadrature, in_phase) / (2 * np.pi)


@pytest.mark.parametrize(("old", "new"), RATES)
@pytest.mark.parametrize("samples", [0, 1, 2, 1023, 20011])
def test_lengths_are_rounded(old, new, samples):
    y = resample(noise(2, samples), old, new)
    assert y.shape == (2, resampled_length(samples, old, new))
    assert abs(y.shape[1] - samples * new / old) <= 0.5
    assert y.dtype == np.float32


@pytest.mark.parametrize(("old", "new"), RATES)
def test_streams_have_the_bits_of_whole_signals(old, new):
    x = noise(2, 70001)
    stream = StreamResampler(old, new, 2)
    blocks = [stream.push(block) for block in np.split(x, [0, 7, 5000, 5001, 69000], axis=1)]
    blocks.append(stream.push(x[:, :0], last=True))
    assert np.array_equal(np.concatenate(blocks, axis=1), resample(x, old, new))


@pytest.mark.parametrize(("old", "new"), RATES)
@pytest.mark.parametrize(("part", "tolerance"), [(0.01, 1e-4), (0.3, 1e-4), (0.6, 1e-4), (0.9, 1e-3)])
def test_sines_keep_level_and_place(old, new, part, tolerance):
    frequency = round(part * min(old, new) / 2)
    y = resample(sine(frequency, old, old // 2)[None].astype(np.float32), old, new)
    gain, lag = gain_and_lag(y[0], frequency, new)
    assert abs(gain - 1) < tolerance
    assert abs(lag) < 1e-6


def test_what_the_new_rate_cannot_hold_is_gone():
    y = resample(sine(12000, 44100, 44100)[None].astype(np.float32), 44100, 16000)
    assert np.abs(y[0, 1000:-1000]).max() < 1e-6


def test_rates_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        StreamResampler(0, 44100, 1)


def by_definition(x, old, new, zeros, rolloff):
    """Each output sample as its own sum over a signal continued at both ends, in float64."""
    divisor = np.gcd(old, new)
    old, new = old // divisor, new // divisor
    cutoff = min(old, new) * rolloff
    width = int(np.ceil(zeros * old / cutoff))
    out = []
    for j in range(x.shape[-1] * new // old):
        period, offset = divmod(j, new)
        taps = np.arange(-width, width + old)
        t = np.clip((taps / old - offset / new) * cutoff, -zeros, zeros)
        weights = np.sinc(t) * np.cos(t * np.pi / zeros / 2) ** 2
        values = x[..., np.clip(period * old + taps, 0, x.shape[-1] - 1)]
        out.append(values @ (weights / weights.sum()))
    return np.stack(out, axis=-1)


@pytest.mark.parametrize(("old", "new", "zeros", "rolloff"), [(1, 2, 24, 0.945), (3, 2, 8, 0.9), (147, 160, 24, 0.945)])
def test_sinc_resampling_is_what_its_definition_says(old, new, zeros, rolloff):
    x = noise(2, 3, 307)
    y = sinc_resample(x, old, new, zeros, rolloff)
    assert y.shape == (2, 3, 307 * new // old)
    assert np.abs(y - by_definition(x.astype(np.float64), old, new, zeros, rolloff)).max() < 2e-6


def test_sinc_resampling_in_pieces_has_the_same_values(monkeypatch):
    x = noise(2, 5000)
    whole = sinc_resample(x, 3, 2)
    monkeypatch.setattr("dsp.resample._BLOCK_VALUES", 10000)
    assert np.allclose(sinc_resample(x, 3, 2), whole, atol=1e-6)


def test_sinc_resampling_at_its_edges():
    assert sinc_resample(noise(2, 0), 1, 2).shape == (2, 0)
    assert sinc_resample(noise(2, 1), 1, 2).shape == (2, 2)
    assert np.array_equal(sinc_resample(noise(2, 9), 7, 7), noise(2, 9))
    assert sinc_resample(noise(1, 2001), 2, 1, length=1001).shape == (1, 1001)
    with pytest.raises(ValueError, match="1001"):
        sinc_resample(noise(1, 2001), 2, 1, length=1002)


@pytest.mark.parametrize("rates", [(44100, 16000), (22050, 16000), (8000, 16000), (48000, 16000)])
@pytest.mark.parametrize("samples", [0, 1, 7, 3000])
def test_resampling_as_torchaudio_does(rates, samples):
    x, (old, new) = noise(2, samples), (int(rate / np.gcd(*rates)) for rate in rates)
    y = torchaudio_resample(x, *rates)
    assert y.shape == (2, -(-samples * new // old)) and y.dtype == np.float32
    cutoff = min(old, new) * 0.99
    place = np.arange(samples) * new - np.arange(y.shape[1])[:, None] * old  # in units of 1 / (old·new)
    phase = np.clip(place / (old * new) * cutoff, -128, 128)
    weights = np.sinc(phase) * np.cos(phase * np.pi / 256) ** 2 * cutoff / old
    np.testing.assert_allclose(y, x.astype(np.float64) @ weights.T, atol=1e-4)  # the original rounds the times


def test_resampling_to_the_same_rate_changes_nothing():
    assert np.array_equal(torchaudio_resample(noise(1, 9), 16000, 16000), noise(1, 9))
