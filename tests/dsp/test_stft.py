import numpy as np
import pytest

from dsp.stft import demucs_ispec, demucs_magnitude, demucs_spec, istft, periodic_hann, stft


def noise(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def by_definition(x, n_fft, hop, window, center, pad_mode, normalized):
    """The transform written out in float64: one matrix product a frame."""
    left = (n_fft - len(window)) // 2
    window = np.pad(window.astype(np.float64), (left, n_fft - len(window) - left))
    if center:
        x = np.pad(x, [(0, 0), (n_fft // 2, n_fft // 2)], pad_mode)
    matrix = np.exp(-2j * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(n_fft)) / n_fft)
    starts = range(0, x.shape[-1] - n_fft + 1, hop)
    frames = [(x[:, start : start + n_fft] * window) @ matrix.T for start in starts]
    return np.stack(frames, axis=-1) / (np.sqrt(n_fft) if normalized else 1)


@pytest.mark.parametrize(
    ("n_fft", "hop", "win", "center", "pad_mode", "normalized"),
    [
        (256, 64, 256, True, "reflect", True),
        (128, 32, 100, True, "constant", False),
        (441, 220, 441, True, "reflect", False),
        (100, 30, 33, False, "reflect", True),
        (64, 64, 64, True, "reflect", False),
        (31, 7, 30, True, "constant", True),
    ],
)
def test_stft_is_what_its_definition_says(n_fft, hop, win, center, pad_mode, normalized):
    x, window = noise(2, 1013), periodic_hann(win)
    got = stft(x, n_fft, hop, win, window, center, pad_mode, normalized)
    want = by_definition(x, n_fft, hop, window, center, pad_mode, normalized)
    assert got.shape == want.shape
    assert got.dtype == np.complex64
    assert np.abs(got - want).max() < 1e-6 * np.abs(want).max() + 1e-6


@pytest.mark.parametrize("length", [200, 1013, 1300])
@pytest.mark.parametrize("onesided", [True, False])
@pytest.mark.parametrize("normalized", [True, False])
def test_istft_undoes_stft(length, onesided, normalized):
    x, window = noise(3, 1013), periodic_hann(128)
    options = {"window": window, "normalized": normalized, "onesided": onesided}
    back = istft(stft(x, 128, 32, **options), 128, 32, **options, length=length)
    reached = 1013 // 32 * 32 + 64
    assert back.shape == (3, length)
    assert np.abs(back[:, : min(length, 1013)] - x[:, :length]).max() < 2e-6
    assert not back[:, reached:].any()


def test_istft_without_length_ends_with_the_last_frame():
    spec = stft(noise(1, 1000), 64, 16, window=periodic_hann(64))
    assert istft(spec, 64, 16, window=periodic_hann(64)).shape == (1, 1000 // 16 * 16)


def test_long_signals_in_pieces_have_the_bits_of_short_ones(monkeypatch):
    x, window = noise(2, 5000), periodic_hann(64)
    whole = stft(x, 64, 16, window=window)
    back = istft(whole, 64, 16, window=window, length=5000)
    monkeypatch.setattr("dsp.framing.BLOCK_VALUES", 1000)
    assert np.array_equal(stft(x, 64, 16, window=window), whole)
    assert np.array_equal(istft(whole, 64, 16, window=window, length=5000), back)


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (32, {}),  # mirroring 32 samples needs 33
        (0, {}),
        (63, {"center": False}),
        (100, {"hop_length": 0}),
        (100, {"win_length": 65}),
        (100, {"window": np.ones(63, np.float32)}),
        (100, {"pad_mode": "symmetric"}),
    ],
)
def test_stft_refuses_what_torch_refuses(samples, options):
    with pytest.raises(ValueError):
        stft(noise(1, samples), 64, **options)


def test_stft_takes_the_shortest_input_that_torch_takes():
    assert stft(noise(1, 33), 64).shape == (1, 33, 3)
    assert stft(noise(1, 1), 64, pad_mode="constant").shape == (1, 33, 1)
    assert stft(noise(1, 1), 64, pad_mode="replicate").shape == (1, 33, 1)


def test_istft_refuses_windows_that_leave_holes():
    spec = stft(noise(1, 1000), 64, 64, center=False, window=periodic_hann(64))
    with pytest.raises(ValueError, match="sum to zero"):
        istft(spec, 64, 64, center=False, window=periodic_hann(64))


def test_istft_refuses_wrong_shapes():
    with pytest.raises(ValueError, match="bins"):
        istft(np.ones((1, 30, 4), np.complex64), 64, 16)
    with pytest.raises(ValueError, match="no frames"):
        istft(np.ones((1, 33, 0), np.complex64), 64, 16)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 191, 193, 1000, 1024])
def test_demucs_spectrogram_keeps_step_with_the_hop(length, old):
    x = noise(2, 3, length)
    spec = demucs_spec(x, 256, old=old)
    assert spec.shape == (2, 3, 128, -(-length // 64))
    assert demucs_ispec(spec, length, old=old).shape == x.shape


def test_demucs_pair_restores_the_middle_of_a_signal():
    # the Nyquist bin is lost, and the outer frames
    time = np.arange(4000)
    x = np.sin(2 * np.pi * 0.07 * time)[None].astype(np.float32)
    back = demucs_ispec(demucs_spec(x, 256), 4000)
    assert np.abs(back - x)[:, 256:-256].max() < 1e-4


def test_demucs_without_time_branch_is_the_plain_transform():
    x = noise(2, 1000)
    plain = stft(x, 256, 64, window=periodic_hann(256), normalized=True)
    assert np.array_equal(demucs_spec(x, 256, hybrid=False), plain[:, :-1])
    assert demucs_ispec(plain[:, :-1], 1000, hybrid=False).shape == (2, 1000)


def test_complex_as_channels_alternates_real_and_imaginary_parts():
    spec = demucs_spec(noise(1, 2, 1000), 256)
    channels = demucs_magnitude(spec)
    assert channels.shape == (1, 4, 128, 16)
    assert np.array_equal(channels[:, 2], spec[:, 1].real)
    assert np.array_equal(channels[:, 3], spec[:, 1].imag)
    assert np.array_equal(demucs_magnitude(spec, cac=False), np.abs(spec))
