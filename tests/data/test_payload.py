"""Number formats of the cache: what a value becomes on its way to disk and back."""

import numpy as np
import pytest

from data.payload import PAYLOADS, payloads_for


def there_and_back(name: str, x: np.ndarray) -> np.ndarray:
    payload = PAYLOADS[name]
    stored, scale = payload.encode(x)
    assert stored.dtype == payload.dtype and stored.shape == x.shape
    out = np.full(x.shape, np.nan, np.float32)
    payload.decode(stored, scale, out)
    return out


def magnitudes(peak: float = 300.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = np.abs(rng.standard_normal((2, 30, 40))) * 10.0 ** rng.uniform(-6, 0, (2, 30, 40))
    return (x / x.max() * peak).astype(np.float32)


def test_float32_is_exact():
    x = magnitudes()
    assert np.array_equal(there_and_back("float32", x), x)


@pytest.mark.parametrize("peak", [1e-7, 1.0, 2.0**15, 65519.9, 3e6])
def test_float16_keeps_eleven_bits_at_any_level(peak):
    x = magnitudes(peak)
    decoded = there_and_back("float16", x)
    kept = x > peak * 2.0**-28
    assert np.all(np.abs(decoded - x)[kept] <= x[kept] * 2.0**-11)
    assert np.all(decoded[~kept] <= peak * 2.0**-28)


def test_float16_decodes_every_normal_half_exactly():
    halves = np.arange(0x0400, 0x7C00, dtype=np.uint16).view(np.float16).reshape(1, 2, -1)
    out = np.empty(halves.shape, np.float32)
    PAYLOADS["float16"].decode(halves, [1.0], out)
    assert np.array_equal(out, halves.astype(np.float32))


def test_float16_decodes_a_slice_into_a_slice():
    x = magnitudes()
    stored, scale = PAYLOADS["float16"].encode(x)
    whole, out = there_and_back("float16", x), np.zeros((3, 2, 10, 40), np.float32)
    PAYLOADS["float16"].decode(stored[:, 5:15], scale, out[1])
    assert np.array_equal(out[1], whole[:, 5:15]) and not out[0].any() and not out[2].any()


@pytest.mark.parametrize("peak", [1, 100, 32767, 32768])
def test_int16_is_exact_for_16_bit_sound(peak):
    x = np.random.default_rng(1).integers(-peak, min(peak, 32767) + 1, (2, 5000)).astype(np.float32) / 32768
    x[0, :2] = -peak / 32768, min(peak, 32767) / 32768
    assert np.array_equal(there_and_back("int16", x), x)


@pytest.mark.parametrize("peak", [1e-38, 1e-6, 0.3, 0.99999, 1.0, 5.0])
def test_int16_errs_by_half_a_step_under_any_peak(peak):
    x = np.random.default_rng(1).uniform(-1, 1, (2, 5000)).astype(np.float32)
    x = (x / np.abs(x).max() * peak).astype(np.float32)
    assert np.abs(there_and_back("int16", x) - x).max() <= max(peak, 2.0**-100) * 2.0**-15


def test_uint8_follows_the_formula_of_the_original():
    x = magnitudes()
    db = 20 * np.log10(np.maximum(x.astype(np.float64), 1e-9))
    db = np.maximum(db, db.max() - 100)
    low, high = db.min(), db.max()
    steps = np.floor((db - low) / (high - low + 1e-16) * 255.9999)
    stored, scale = PAYLOADS["uint8"].encode(x)
    assert np.allclose(scale, [low, high], atol=1e-4)
    assert np.mean(stored != steps) < 1e-3 and np.abs(stored.astype(int) - steps).max() <= 1
    expected = 10 ** ((stored * (high - low) / 255.9999 + low) / 20)
    assert np.allclose(there_and_back("uint8", x), expected, rtol=1e-4)


def test_uint8_never_errs_by_more_than_one_step_above_its_floor():
    x = magnitudes()
    audible = x > x.max() * 1e-5
    ratio_db = 20 * np.log10(there_and_back("uint8", x)[audible] / x[audible])
    assert np.abs(ratio_db).max() <= 100 / 255 + 1e-3


@pytest.mark.parametrize(("name", "silence"), [("float16", 0.0), ("float32", 0.0), ("uint8", 1e-9), ("int16", 0.0)])
def test_silence(name, silence):
    decoded = there_and_back(name, np.zeros((2, 5, 8), np.float32))
    assert np.allclose(decoded, silence, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", list(PAYLOADS))
def test_nothing_at_all(name):
    assert there_and_back(name, np.zeros((2, 0, 8), np.float32)).shape == (2, 0, 8)


def test_kinds_have_their_formats():
    assert payloads_for("magnitude") == ["float16", "uint8", "float32"]
    assert payloads_for("waveform") == ["int16", "float32"] and payloads_for("mel") == []
