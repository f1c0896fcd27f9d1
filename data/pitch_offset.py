"""At what time is the first label? Labels without times are laid over a pitch that is measured from the voice itself.

Data sets say "a label every 20 ms" and leave open whether the first one belongs to the first sample, or to the middle
or the end of a window. A plain tracker by autocorrelation (Boersma, 1993, "Accurate short-term analysis of the
fundamental frequency"), whose frames are symmetric around their times, settles it: where the voice glides or trembles,
labels agree with it at one offset only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from data.pitch_labels import Pitch, at

WINDOW_SECONDS = 0.06
STEP = 0.005  # seconds between measured pitches
CAP = 100.0  # cents; what is further off is an error of one of both, not a matter of time
BLOCKS = 12  # parts of the evidence that are left out in turn to see how much it depends on each


def track(x: np.ndarray, rate: int, times: np.ndarray, lowest: float = 65.0, highest: float = 1100.0) -> np.ndarray:
    """f0 float64 `[n]` in Hz of a voice alone `x [N]` around each of `times` in s; 0 where nothing is clearly voiced.

    The autocorrelation of each Hann-windowed frame is divided by that of the window; the shortest lag that comes near
    its maximum wins. No smoothing over time, so that no frame knows of another.
    """
    size = 2 * round(WINDOW_SECONDS * rate / 2)
    window = np.hanning(size + 2)[1:-1]
    length = 1 << (2 * size - 1).bit_length()
    fine = 2  # lags between samples: the spectrum is padded to this many times the rate
    lags = np.arange(int(fine * rate / highest) - 1, int(fine * rate / lowest) + 3)
    shape = np.fft.irfft(np.abs(np.fft.rfft(window, length)) ** 2, fine * length)
    shape = shape / shape[0]
    padded = np.pad(np.asarray(x, np.float64), size)
    starts = np.clip(np.round(np.asarray(times) * rate).astype(int) + size // 2, 0, len(padded) - size)
    loudest = np.sqrt(np.mean(np.square(x, dtype=np.float64))) if len(x) else 0.0
    out = np.zeros(len(starts))
    for first in range(0, len(starts), 512):
        frames = padded[starts[first : first + 512, None] + np.arange(size)]
        frames = frames - frames.mean(axis=1, keepdims=True)
        power = np.abs(np.fft.rfft(frames * window, length)) ** 2
        correlation = np.fft.irfft(power, fine * length)[:, : lags[-1] + 1]
        energy = correlation[:, :1]
        periodic = correlation[:, lags] / np.maximum(energy, 1e-12) / shape[lags]
        loud = np.sqrt(np.maximum(energy[:, 0] * fine / np.sum(window**2), 0)) > 0.05 * loudest
        out[first : first + 512] = np.where(loud, fine * rate / _first_peak(periodic, lags), 0)
    return out


def _first_peak(periodic: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """Lag `[n]` (with a fraction) of the first peak nearly as high as the highest; infinite where none is above 0.6."""
    middle = periodic[:, 1:-1]
    peaks = np.where((middle >= periodic[:, :-2]) & (middle > periodic[:, 2:]), middle, -1.0)
    best = peaks.max(axis=1, initial=-1.0)
    place = np.argmax(peaks >= 0.92 * best[:, None], axis=1)
    rows = np.arange(len(periodic))
    left, centre, right = (periodic[rows, place + k] for k in (0, 1, 2))
    bend = left - 2 * centre + right
    fraction = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
    return np.where(best > 0.6, lags[1 + place] + fraction, np.inf)


@dataclass(frozen=True)
class Offset:
    """What was measured.

    Args:
        first: time of the first label in s
        measured: the same before it was rounded to a multiple of half a hop that lies within the uncertainty
        error: standard error of `measured` in s
        gain: mean disagreement in cents half a hop beside the best offset, against that at the best
        labels: how many labels were compared
        weak: why the evidence is weak, "" if it is not
    """

    first: float
    measured: float
    error: float
    gain: float
    labels: int
    weak: str


def measure(songs: Iterable[tuple[np.ndarray, np.ndarray]], rate: int, hop: float, span: Sequence[float]) -> Offset:
    """Time of the first label of a data set.

    Args:
        songs: voice `[N]` and the f0 in Hz `[n]` of its labels, 0 where unvoiced
        rate: of the voices, Hz
        hop: seconds from label to label
        span: least and greatest time in s that the first label may have
    """
    offsets = np.arange(span[0], span[1] + STEP / 4, STEP / 2)
    cost = np.concatenate([np.zeros((0, len(offsets))), *(_cost(x, f0, rate, hop, offsets) for x, f0 in songs)])
    if len(cost) < 50:
        return Offset(hop, hop, np.inf, 1.0, len(cost), "too few labels of a steady voice")
    blocks = np.array([part.sum(axis=0) for part in np.array_split(cost, BLOCKS)])
    measured = _lowest(offsets, blocks.sum(axis=0))
    others = np.array([_lowest(offsets, blocks.sum(axis=0) - block) for block in blocks])
    error = float(np.sqrt((BLOCKS - 1) / BLOCKS * np.sum((others - others.mean()) ** 2)))
    mean = cost.mean(axis=0)
    beside = np.interp([measured - hop / 2, measured + hop / 2], offsets, mean).mean()
    gain = float(beside / max(np.interp(measured, offsets, mean), 1e-6))
    near = round(measured / (hop / 2)) * (hop / 2)
    first = near if abs(near - measured) <= max(hop / 8, 2 * error) else round(measured, 3)
    return Offset(float(first), measured, error, gain, len(cost), _doubt(measured, error, gain, hop, span))


def _doubt(measured: float, error: float, gain: float, hop: float, span: Sequence[float]) -> str:
    if not span[0] + hop / 4 < measured < span[1] - hop / 4:
        return "the best time is at the edge of what was tried"
    if error > hop / 8:
        return f"parts of the data differ by {1000 * error:.1f} ms"
    if gain < 1.02:
        return "labels agree hardly better at the best time than beside it"
    return ""


def _cost(x: np.ndarray, f0: np.ndarray, rate: int, hop: float, offsets: np.ndarray) -> np.ndarray:
    """Disagreement in cents, at most `CAP`, of each voiced label with the voice at each offset, `[labels, offsets]`.

    Only labels around which the voice sounds at every offset: the beginnings and ends of notes would say more about
    what the tracker takes for voiced than about time.
    """
    times = np.arange(0, len(x) / rate, STEP)
    heard = Pitch(times, track(x, rate, times))
    labels = np.flatnonzero(f0 > 0)
    shape = (len(labels), len(offsets))
    found, voiced = at(heard, (labels[:, None] * hop + offsets).ravel())
    inside = voiced.reshape(shape).all(axis=1)
    cents = 1200 * np.log2(np.maximum(found, 1e-3).reshape(shape)[inside] / f0[labels[inside], None])
    return np.minimum(np.abs(cents), CAP)


def _lowest(offsets: np.ndarray, cost: np.ndarray) -> float:
    """Where the parabola through the lowest point and its neighbours is lowest."""
    best = int(np.argmin(cost))
    if not 0 < best < len(cost) - 1:
        return float(offsets[best])
    left, centre, right = cost[best - 1 : best + 2]
    return float(
        offsets[best] + 0.5 * (left - right) / max(left - 2 * centre + right, 1e-12) * (offsets[1] - offsets[0])
    )
