"""Number formats in which the cache stores magnitudes and waveforms.

==========  ===========  ===================  ========================================================================
name        bytes/value  for                  error
==========  ===========  ===================  ========================================================================
float16     2            magnitudes           relative 2^-11; what lies more than 174 dB under the loudest becomes 0
uint8       1            magnitudes           100 dB of range in 255 steps (0.4 dB each), as in the original Spleeter
int16       2            waveforms            none for 16-bit files; else half a step, at least 90 dB under the peak
float32     4            both                 none
==========  ===========  ===================  ========================================================================

An array is encoded together with the few numbers (its *scale*) that are needed to decode it. Magnitudes are not
negative, and every value must be finite.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

FLOOR = np.float32(1e-9)  # magnitude that stands for silence in decibels
RANGE_DB = np.float32(100.0)
STEPS = np.float32(255.9999)
HALF_TOP = 15  # exponent to which the loudest value is brought, so that 2^16 (not a half) is never reached
SMALLEST_EXPONENT = -100  # of int16: quieter peaks than 2^-100 are not worth a factor that float32 could not hold
HALF_TO_SINGLE = 112  # difference of the exponent offsets of float32 (127) and float16 (15)


@dataclass(frozen=True)
class Payload:
    """One number format: ``encode(x) -> (stored, scale)`` and ``decode(stored, scale, out)``; what it is meant for."""

    name: str
    kinds: tuple[str, ...]
    dtype: np.dtype
    encode: Callable[[np.ndarray], tuple[np.ndarray, list[float]]]
    decode: Callable[[np.ndarray, list[float], np.ndarray], None]

    @property
    def bytes_per_value(self) -> int:
        return self.dtype.itemsize


def _encode_float32(x: np.ndarray) -> tuple[np.ndarray, list[float]]:
    return np.ascontiguousarray(x, dtype=np.float32), []


def _decode_float32(stored: np.ndarray, scale: list[float], out: np.ndarray) -> None:
    np.copyto(out, stored)


def _encode_float16(x: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Half precision after a power of two that brings the loudest value under 2^15.

    The power of two costs no precision, keeps loud float files from overflowing, and leaves no subnormal halves,
    which the decoder below would have to treat on their own.
    """
    peak = float(x.max(initial=0.0))
    exponent = int(np.frexp(peak)[1]) - HALF_TOP if peak > 0 else 0
    stored = np.ldexp(x, -exponent).astype(np.float16)
    stored[stored < np.finfo(np.float16).smallest_normal] = 0
    return stored, [float(2.0**exponent)]


def _decode_float16(stored: np.ndarray, scale: list[float], out: np.ndarray) -> None:
    """Exact, and several times faster than ``astype``: the bits of a half, moved to where float32 has its exponent and
    mantissa, are the number times 2^-112."""
    factor = np.float32(2.0**HALF_TO_SINGLE * scale[0])
    bits = out.view(np.uint32)
    for plane in np.ndindex(out.shape[:-2]):  # one [T, F] plane after the other stays in the processor's cache
        np.copyto(bits[plane], stored[plane].view(np.uint16))
        np.left_shift(bits[plane], np.uint32(13), out=bits[plane])
        np.multiply(out[plane], factor, out=out[plane])


def _encode_int16(x: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """16-bit integers after a power of two that brings the peak just under full scale: exact for 16-bit sound."""
    high, low = float(x.max(initial=0.0)), float(x.min(initial=0.0))
    peak = max(high, -low)
    exponent = max(int(np.frexp(peak)[1]) - 1, SMALLEST_EXPONENT) if peak > 0 else 0
    while not (np.rint(np.ldexp(high, 15 - exponent)) <= 32767 and np.rint(np.ldexp(low, 15 - exponent)) >= -32768):
        exponent += 1
    return np.rint(np.ldexp(x, 15 - exponent)).astype(np.int16), [float(2.0 ** (exponent - 15))]


def _decode_int16(stored: np.ndarray, scale: list[float], out: np.ndarray) -> None:
    np.multiply(stored, np.float32(scale[0]), out=out)


def _encode_uint8(x: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Decibels, floored 100 dB under the maximum, in 256 equal steps between the array's own minimum and maximum."""
    db = np.float32(20) * np.log10(np.maximum(x, FLOOR, dtype=np.float32))
    db = np.maximum(db, db.max(initial=-np.inf) - RANGE_DB)
    low, high = (db.min(), db.max()) if db.size else (np.float32(0), np.float32(0))
    stored = ((db - low) / (high - low + np.float32(1e-16)) * STEPS).astype(np.uint8)
    return stored, [float(low), float(high)]


def _decode_uint8(stored: np.ndarray, scale: list[float], out: np.ndarray) -> None:
    low, high = (np.float32(value) for value in scale)
    db = np.arange(256, dtype=np.float32) * (high - low) / STEPS + low
    table = np.power(np.float32(10), db / np.float32(20))
    np.take(table, stored, out=out, mode="clip")  # without a mode numpy would decode into a copy of `out`


PAYLOADS = {
    payload.name: payload
    for payload in (
        Payload("float16", ("magnitude",), np.dtype("<f2"), _encode_float16, _decode_float16),
        Payload("uint8", ("magnitude",), np.dtype("u1"), _encode_uint8, _decode_uint8),
        Payload("int16", ("waveform",), np.dtype("<i2"), _encode_int16, _decode_int16),
        Payload("float32", ("magnitude", "waveform"), np.dtype("<f4"), _encode_float32, _decode_float32),
    )
}


def payloads_for(kind: str) -> list[str]:
    """Names of the formats for ``magnitude`` or ``waveform``, the default first; none for a word that is no kind."""
    return [payload.name for payload in PAYLOADS.values() if kind in payload.kinds]
