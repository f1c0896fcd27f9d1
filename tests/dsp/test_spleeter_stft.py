import numpy as np
import pytest

from dsp.stft import SpleeterSTFT, StreamISTFT, StreamSTFT

LENGTHS = [0, 1, 1023, 1024, 1025, 4095, 4097, 104729]


def noise(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def in_pieces(array, axis, seed):
    """Cuts an array at random places; some pieces are empty."""
    cuts = np.sort(np.random.RandomState(seed).randint(0, array.shape[axis] + 1, 7))
    return np.split(array, cuts, axis=axis)


@pytest.mark.parametrize("length", [*LENGTHS, 60 * 44100])
def test_round_trip(length):
    transform, x = SpleeterSTFT(), noise(1 if length > 200000 else 2, length)
    back = transform.inverse(transform.forward(x), length)
    assert back.shape == x.shape
    assert np.abs(back - x).max(initial=0) <= 5e-6


@pytest.mark.parametrize("length", LENGTHS)
def test_frames_cover_a_leading_frame_of_zeros_and_every_started_hop(length):
    transform = SpleeterSTFT()
    spec = transform.forward(noise(2, length))
    assert spec.shape == (2, -(-(length + 4096) // 1024), 2049)
    assert spec.dtype == np.complex64
    assert not spec[:, 0].any()


def test_frame_is_the_windowed_spectrum_of_its_place():
    transform, x = SpleeterSTFT(512, 128), noise(1, 3000)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    frame = np.fft.rfft(x[0, 256 : 256 + 512] * window)
    assert np.abs(transform.forward(x)[0, 6] - frame).max() < 1e-4


def test_inverse_scales_by_two_thirds_whatever_the_hop():
    # an original constant: at 50 % overlap the squared windows sum to 0.75 on average instead of 1.5
    transform, x = SpleeterSTFT(512, 256), np.ones((1, 4000), np.float32)
    back = transform.inverse(transform.forward(x), 4000)
    assert abs(back[0, 1024:3072].mean() - 0.5) < 1e-5


def test_odd_windows_are_symmetric_and_padded_to_a_power_of_two():
    transform = SpleeterSTFT(441, 147)
    assert transform.bins == 257
    assert np.allclose(transform.window, transform.window[::-1], atol=1e-6)
    assert transform.inverse(transform.forward(noise(1, 1000)), 1000).shape == (1, 1000)


@pytest.mark.parametrize(("frame", "hop"), [(4096, 1024), (512, 128), (400, 100), (441, 147), (512, 100)])
@pytest.mark.parametrize("length", [0, 1, 100, 6007])
def test_streams_have_the_bits_of_whole_signals(frame, hop, length):
    transform, x = SpleeterSTFT(frame, hop), noise(2, length, seed=length)
    spec = transform.forward(x)
    forward = StreamSTFT(transform, 2)
    groups = [forward.push(block) for block in in_pieces(x, 1, seed=1)]
    groups.append(forward.push(x[:, :0], last=True))
    assert np.array_equal(np.concatenate(groups, axis=1), spec)

    inverse = StreamISTFT(transform, 2)
    blocks = [inverse.push(group) for group in in_pieces(spec, 1, seed=2)]
    blocks.append(inverse.push(spec[:, :0], last=True, length=length))
    assert np.array_equal(np.concatenate(blocks, axis=1), transform.inverse(spec, length))


def test_inverse_stream_without_a_length_gives_the_whole_last_hop():
    transform, x = SpleeterSTFT(512, 128), noise(1, 1000)
    stream = StreamISTFT(transform, 1)
    out = stream.push(transform.forward(x), last=True)
    assert out.shape == (1, 1024)
    assert np.abs(out[:, :1000] - x).max() < 5e-6


def test_streams_hold_a_bounded_part():
    transform = SpleeterSTFT(512, 128)
    forward, inverse = StreamSTFT(transform, 1), StreamISTFT(transform, 1)
    delivered = 0
    for _ in range(50):
        delivered += inverse.push(forward.push(noise(1, 1000))).shape[1]
        assert forward.samples - delivered <= 512 + 2 * 128 + 1000


def test_magnitudes_of_training_chunks_have_the_official_numbers_of_frames():
    transform = SpleeterSTFT()
    assert transform.magnitude_frames(noise(1, 20 * 44100)).shape == (1, 858, 2049)
    assert transform.magnitude_frames(noise(1, 12 * 44100)).shape == (1, 513, 2049)
    assert transform.magnitude_frames(noise(2, 4095)).shape == (2, 0, 2049)


def test_magnitudes_are_those_of_the_transform():
    transform, x = SpleeterSTFT(512, 128), noise(2, 2000)
    magnitudes = transform.magnitude_frames(x)
    assert magnitudes.dtype == np.float32
    assert np.allclose(magnitudes, np.abs(transform.forward(x)[:, 4 : 4 + magnitudes.shape[1]]), atol=1e-5)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="frame_step"):
        SpleeterSTFT(512, 513)
    transform = SpleeterSTFT(512, 128)
    with pytest.raises(ValueError, match="frames"):
        transform.inverse(transform.forward(noise(1, 1000)), 1200)
    with pytest.raises(ValueError, match="frames"):
        StreamISTFT(transform, 1).push(transform.forward(noise(1, 1000)), last=True, length=1200)
