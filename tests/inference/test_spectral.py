"""Ratio masks, and the way of a stream through segments."""

import numpy as np
import pytest

from dsp.stft import SpleeterSTFT
from inference.spectral import MaskedStream, Predictor, Spectral, ratio_masks

STFT = SpleeterSTFT(64, 16)


def how(**options) -> Spectral:
    return Spectral(**{"stft": STFT, "sources": 2, "channels": 2, "bins": 24, "segment": 16, "hop": 16, **options})


def halves(batch: np.ndarray) -> np.ndarray:
    """A network that gives each of two sources half of every magnitude."""
    return np.stack([batch / 2, batch / 2], axis=1)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 1.5])
def test_masks_sum_to_one(exponent):
    magnitudes = np.random.default_rng(0).random((3, 2, 4, 8), dtype=np.float32)
    magnitudes[..., 0] = 0
    masks = ratio_masks(magnitudes, exponent)
    np.testing.assert_allclose(masks.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(masks[..., 0], 1 / 3, atol=1e-6)  # silence is shared evenly
    expected = magnitudes[..., 1:] ** exponent / (magnitudes[..., 1:] ** exponent).sum(axis=0)
    np.testing.assert_allclose(masks[..., 1:], expected, atol=1e-5)


def test_mask_extension():
    magnitudes = np.random.default_rng(0).random((2, 1, 3, 8), dtype=np.float32)
    before = magnitudes.copy()
    zeros, average = (ratio_masks(magnitudes, 2, 11, extension) for extension in ("zeros", "average"))
    assert zeros.shape == average.shape == (2, 1, 3, 11)
    assert not zeros[..., 8:].any()
    np.testing.assert_allclose(average[..., 8:], np.repeat(average[..., :8].mean(-1, keepdims=True), 3, -1), atol=1e-7)
    np.testing.assert_array_equal(magnitudes, before)
    with pytest.raises(ValueError, match="mirror"):
        ratio_masks(magnitudes, 2, 11, "mirror")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("hop", [16, 8, 5, 1])
@pytest.mark.parametrize("samples", [1, 15, 16, 17, 192, 16 * 16 - 64, 997])
def test_predictor_delivers_every_frame_once(samples, hop, batch):
    x = np.random.default_rng(0).standard_normal((2, samples)).astype(np.float32)
    shapes = set()

    def network(segments):
        shapes.add(segments.shape[2:])
        assert len(segments) <= batch
        return halves(segments)

    predictor = Predictor(network, how(hop=hop, batch=batch))
    pairs = [pair for start in range(0, samples, 50) for pair in predictor.push(x[:, start : start + 50])]
    pairs += predictor.push(x[:, :0], last=True)
    spectra = np.concatenate([spectrum for spectrum, _ in pairs], axis=1)
    magnitudes = np.concatenate([magnitude for _, magnitude in pairs], axis=2)
    whole = STFT.forward(x)
    np.testing.assert_array_equal(spectra, whole)
    expected = np.broadcast_to(np.abs(whole[..., :24]) / 2, magnitudes.shape)
    np.testing.assert_allclose(magnitudes, expected, atol=1e-5)
    assert shapes == {(16, 24)}


def test_overlapping_predictions_fade_into_each_other():
    calls = []

    def network(segments):
        calls.append(len(calls))
        return np.full((1, 1, *segments.shape[1:]), calls[-1], np.float32)

    predictor = Predictor(network, how(sources=1, hop=8))
    list(predictor.push(np.ones((2, 16 * 21), np.float32)))
    pairs = list(predictor.push(np.ones((2, 0), np.float32), last=True))
    track = np.concatenate([magnitude for _, magnitude in pairs], axis=2)[0, 0, :, 0]
    assert calls[-1] >= 1
    assert (np.diff(track) > -1e-6).all()


def test_stream_gives_back_what_masks_leave():
    x = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    stream = MaskedStream(halves, how(bins=32))
    blocks = [stream.push(x[:, :700]), stream.push(x[:, 700:]), *stream.finish()]
    stems = np.concatenate(blocks, axis=-1)
    spectrum = STFT.forward(x)
    spectrum[..., 32:] = 0
    np.testing.assert_allclose(stems[0], STFT.inverse(spectrum, 1000) / 2, atol=1e-5)
    np.testing.assert_array_equal(stems[0], stems[1])
