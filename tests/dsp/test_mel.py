"""The mel front end by its definition, and against librosa's filter bank."""

import numpy as np
import pytest

from dsp.mel import LogMel, mel_filters


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def by_definition(x, size, hop, filters, scale=1.0):
    """A frame at a time in float64; ``x [N]``, not centred."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    frames = [x[start : start + size] * window for start in range(0, len(x) - size + 1, hop)]
    magnitudes = np.stack([np.abs(np.fft.rfft(frame)) for frame in frames], axis=1) * scale
    bins = filters.shape[1]
    magnitudes = np.pad(magnitudes, [(0, max(0, bins - len(magnitudes))), (0, 0)])[:bins]
    return np.log(np.maximum(filters @ magnitudes, 1e-5))


@pytest.mark.parametrize(
    "options", [(16000, 1024, 128, 30, 8000), (16000, 2048, 256, 30, 8000), (44100, 4096, 60, 0, 12000.5)]
)
def test_filters_are_librosas(options):
    librosa = pytest.importorskip("librosa")
    sample_rate, n_fft, n_mels, low, high = options
    theirs = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=low, fmax=high, htk=True)
    mine = mel_filters(*options)
    assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
    np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-12)
    with pytest.raises(ValueError, match="read-only"):
        mine[0, 0] = 1


@pytest.mark.parametrize("samples", [1, 2, 100, 512, 513, 1024, 5000, 5119, 5120])
@pytest.mark.parametrize("hop", [160, 80, 77])
def test_centred_frames(samples, hop):
    front_end, x = LogMel(hop_length=hop), noise(samples)
    mel = front_end(x[None])
    assert mel.shape == (1, 128, samples // hop + 1) == (1, 128, front_end.frames(samples))
    assert mel.dtype == np.float32
    expected = by_definition(np.pad(x.astype(np.float64), 512, "reflect"), 1024, hop, front_end.filters)
    np.testing.assert_allclose(mel[0], expected, atol=2e-4)


def test_frames_that_are_not_centred():
    front_end, x = LogMel(center=False), noise(2, 3000)
    mel = front_end(x)
    assert mel.shape == (2, 128, 13) and front_end.frames(3000) == 13 and front_end.frames(1023) == 0
    np.testing.assert_allclose(mel[1], by_definition(x[1], 1024, 160, front_end.filters), atol=2e-4)


@pytest.mark.parametrize("keyshift", [3.0, -4.0, 2.7, 0.001])
def test_a_shifted_key_is_a_longer_or_shorter_window(keyshift):
    front_end, x = LogMel(center=False), noise(5000)
    size = round(1024 * 2 ** (keyshift / 12))
    expected = by_definition(x, size, 160, front_end.filters, 1024 / size)
    np.testing.assert_allclose(front_end(x, keyshift=keyshift), expected, atol=2e-4)


def test_a_shifted_key_raises_a_tone_by_so_many_semitones():
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    front_end = LogMel()
    shifted = front_end(tone, keyshift=5)[:, 50].argmax()
    raised = np.sin(2 * np.pi * 1000 * 2 ** (5 / 12) * np.arange(16000) / 16000).astype(np.float32)
    assert shifted == front_end(raised)[:, 50].argmax() > front_end(tone)[:, 50].argmax()


def test_speed_is_a_longer_hop():
    front_end, x = LogMel(hop_length=160), noise(5000)
    assert np.array_equal(front_end(x, speed=1.25), LogMel(hop_length=200)(x))
    with pytest.raises(ValueError, match="leaves nothing of the hop"):
        front_end(x, speed=0.001)


def test_pieces_do_not_change_the_frames(monkeypatch):
    x = noise(2, 20000)
    whole = LogMel()(x)
    monkeypatch.setattr("dsp.framing.BLOCK_VALUES", 5000)
    np.testing.assert_allclose(LogMel()(x), whole, atol=1e-5)


def test_silence_is_the_floor():
    assert np.array_equal(LogMel()(np.zeros((1, 800), np.float32)), np.full((1, 128, 6), np.log(np.float32(1e-5))))


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="0 samples are too few"):
        LogMel()(noise(1, 0))
    with pytest.raises(ValueError, match="1023 samples are too few"):
        LogMel(center=False)(noise(1, 1023))
    with pytest.raises(ValueError, match="hop_length must be positive"):
        LogMel(hop_length=0)
