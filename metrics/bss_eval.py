"""BSS Eval version 4: SDR, SIR, SAR and ISR per frame, equal to museval 0.4.1 and much faster.

Every estimate e of a source s is split into ``e = s + e_spat + e_interf + e_artif`` with one set of distortion filters
for the whole track (see :mod:`metrics.projection`).  A frame is filtered on its own, as if there were silence around
it, and its energies include the decay of the filters; that is how museval counts.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.fft

from metrics.projection import correlations, distortion_filters, fft_size, single_threaded

METRICS = ("SDR", "SIR", "SAR", "ISR")
FILTERS_LENGTH = 512

_LONGEST_BLOCK = 1 << 16
_FILTER_BYTES = 1 << 28


def bss_eval_v4(
    references: np.ndarray,
    estimates: np.ndarray,
    window: float = 44100,
    hop: float = 44100,
    filters_len: int = FILTERS_LENGTH,
) -> dict[str, np.ndarray]:
    """Frame-wise BSS Eval v4 of a set of sources that are evaluated together.

    ``references [S, N, C]`` and ``estimates [S, M, C]`` (``[S, N]``: mono); estimates are cut or filled with zeros to
    N samples.  ``window`` and ``hop`` in samples (a window of ``inf`` or anything >= N: one frame of the whole signal);
    a trailing part that does not fill a window is left out.  Returns ``{"SDR", "SIR", "SAR", "ISR"}``, each float64
    ``[S, frames]`` in dB, with ``inf`` where a distortion is exactly zero.

    In a frame where any reference or any estimate is silent (the sum of its channels is zero at every sample) all
    values of all sources are NaN.  A source that is silent throughout makes everything NaN; museval refuses it.

    Raises ``ValueError`` for shapes that do not fit, a window or hop that is not positive, samples that are not finite.

    Where references are band-limited or repeat a channel, the filters are not unique to working precision. museval's
    own SIR, SAR and ISR then change when the channels are merely swapped, and this differs from it by as much: over 42
    coded excerpts of MUSDB18, the largest difference of an excerpt is 4e-4 dB in the median and 0.6 dB in the worst,
    for both.

    References: Vincent, Gribonval, Févotte (2006); Stöter, Liutkus, Ito, "The 2018 Signal Separation Evaluation
    Campaign" (2018).
    """
    references, estimates = prepare(references, estimates)
    frames = frame_slices(references.shape[1], window, hop)
    audible = [not (is_silent(references[:, f]) or is_silent(estimates[:, f])) for f in frames]
    scores = np.full((len(METRICS), len(references), len(frames)), np.nan)
    if any(audible):
        with single_threaded():
            splitter = _Splitter(references, estimates, max(f.stop - f.start for f in frames), filters_len)
            for index, frame in enumerate(frames):
                if audible[index]:
                    scores[:, :, index] = splitter.scores(frame)
    return dict(zip(METRICS, scores, strict=True))


def framewise_sdr(reference: np.ndarray, estimate: np.ndarray, window: float, hop: float) -> np.ndarray:
    """SDR of one source alone, ``[frames]`` in dB: needs no projection, for the filters cancel.

    ``reference [N, C]``, ``estimate [M, C]``; lengths, frames and NaN as in :func:`bss_eval_v4`.  With window 2 s, hop
    1.5 s and the median over frames it is the cSDR that the BandSplitRNN code reports.
    """
    references, estimates = prepare(np.asarray(reference)[None], np.asarray(estimate)[None])
    values = []
    for frame in frame_slices(references.shape[1], window, hop):
        s, e = references[0, frame], estimates[0, frame]
        if is_silent(s[None]) or is_silent(e[None]):
            values.append(np.nan)
        else:
            s = s.astype(np.float64)
            values.append(float(decibels(np.sum(s**2), np.sum((e - s) ** 2))))
    return np.array(values)


def prepare(references: np.ndarray, estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as ``[S, N, C]``, the estimates cut or zero-filled to the references' length; ``ValueError`` if unfit."""
    references, estimates = np.atleast_3d(references), np.atleast_3d(estimates)
    if references.ndim != 3 or estimates.ndim != 3:
        raise ValueError(f"expected [sources, samples, channels], got {references.shape} and {estimates.shape}")
    if references.shape[::2] != estimates.shape[::2]:
        raise ValueError(f"references {references.shape} and estimates {estimates.shape} differ in sources or channels")
    for name, signal in (("references", references), ("estimates", estimates)):
        if not all(np.isfinite(source).all() for source in signal):
            raise ValueError(f"the {name} contain samples that are not finite numbers")
    length = references.shape[1]
    if estimates.shape[1] < length:
        estimates = np.pad(estimates, [(0, 0), (0, length - estimates.shape[1]), (0, 0)])
    return references, estimates[:, :length]


def frame_slices(length: int, window: float, hop: float) -> list[slice]:
    """Frames of ``window`` samples every ``hop`` samples; one frame with everything if the window is not shorter."""
    if not (window > 0 and hop > 0):
        raise ValueError(f"window and hop must be positive, got {window} and {hop}")
    if length == 0:
        return []
    if window >= length:
        return [slice(0, length)]
    count = math.floor((length - window + hop) / hop)
    starts = [i * hop if i else 0 for i in range(count)]  # not 0·inf
    return [slice(math.floor(s), math.floor(min(s + window, length))) for s in starts]


def is_silent(signals: np.ndarray) -> bool:
    """Whether the channels of any of ``signals [S, n, C]`` sum to zero at every sample."""
    return any(_all_zero(source) for source in signals)


def _all_zero(source: np.ndarray, chunk: int = 4096) -> bool:
    """``source [n, C]``; looks at a chunk at a time, for music answers at the first."""
    chunks = (source[start : start + chunk].T for start in range(0, len(source), chunk))
    return not any(np.add.reduce(channels).any() for channels in chunks)


def decibels(signal: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """``10·log10(signal / distortion)`` of energies; inf where the distortion is zero."""
    signal, distortion = np.asarray(signal, np.float64), np.asarray(distortion, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distortion == 0, np.inf, 10 * np.log10(signal / distortion))


class _Splitter:
    """Distortion filters of one track, and the scores of its frames."""

    def __init__(self, references: np.ndarray, estimates: np.ndarray, longest_frame: int, taps: int):
        self.sources, _, self.channels = references.shape
        self.rows = self.sources * self.channels  # P
        self.references = np.moveaxis(references, 2, 1)  # [S, C, N], a view: a whole song is never copied
        self.estimates = np.moveaxis(estimates, 2, 1)
        self.taps = taps
        self._choose_blocks(longest_frame)
        self._solve()

    def _choose_blocks(self, longest_frame: int) -> None:
        """One FFT for a frame of usual length; longer ones are filtered by overlap-save in blocks."""
        limit = _LONGEST_BLOCK
        while limit > 8 * self.taps and 8 * limit * self.rows**2 > _FILTER_BYTES:
            limit //= 2
        whole = fft_size(longest_frame + self.taps - 1)
        self.size = min(whole, max(limit, fft_size(4 * self.taps)))
        self.history = 0 if self.size == whole else self.taps - 1

    def _solve(self) -> None:
        rows, width = self.rows, self.channels
        r = correlations(self.references, self.estimates, self.taps)
        between, towards = r[:, :rows], r[:, rows:, self.taps - 1 :]
        own = []
        for first in range(0, rows, width):
            block = slice(first, first + width)
            own.append(distortion_filters(between[block, block], towards[block, block]))
        own_spectra = scipy.fft.rfft(np.stack(own), self.size, axis=2)  # [S, C in, F, C out]
        self.own = np.ascontiguousarray(own_spectra.transpose(0, 3, 1, 2))  # [S, C out, C in, F]
        self.all: np.ndarray | None = None  # with one source, all is its own
        if self.sources > 1:
            filters = scipy.fft.rfft(distortion_filters(between, towards), self.size, axis=1)  # [P in, F, P out]
            self.all = np.ascontiguousarray(filters.transpose(1, 2, 0))  # [F, P out, P in]

    def scores(self, frame: slice) -> np.ndarray:
        """``[4, S]``: SDR, SIR, SAR, ISR of one frame."""
        energy, distortion, spatial, filtered, interference, projected, artifacts = self._energies(frame)
        return np.stack(
            [
                decibels(energy, distortion),
                decibels(filtered, interference),
                decibels(projected, artifacts),
                decibels(energy, spatial),
            ]
        )

    def _energies(self, frame: slice) -> np.ndarray:
        """``[7, S]``: energies of s, e - s, e_spat, s + e_spat, e_interf, s + e_spat + e_interf and e_artif.

        All but the first two include the decay of the filters behind the frame.
        """
        length = frame.stop - frame.start
        total = length + self.taps - 1
        step = self.size - self.history
        energies = np.zeros((7, self.sources))
        for start in range(0, total, step):
            first, stop = start - self.history, min(start + step, total)
            block = np.zeros((self.rows, self.size))
            low, high = max(first, 0), min(first + self.size, length)
            if low < high:
                block[:, low - first : high - first] = self._rows(self.references, frame.start + low, high - low)
            own, every = (part[:, self.history : self.history + stop - start] for part in self._project(block))
            inside = max(min(stop, length) - start, 0)
            s = block[:, self.history : self.history + inside]
            e = self._rows(self.estimates, frame.start + start, inside)
            spatial, artifacts = own.copy(), every.copy()
            spatial[:, :inside] -= s
            artifacts[:, :inside] -= e
            parts = (s, e - s, spatial, own, every - own, every, artifacts)
            energies += [self._by_source(part) for part in parts]
        return energies

    def _rows(self, signals: np.ndarray, start: int, count: int) -> np.ndarray:
        """``count`` samples of ``signals [S, C, N]`` as float64 ``[P, count]``."""
        return np.array(signals[..., start : start + count], np.float64, order="C").reshape(self.rows, count)

    def _by_source(self, signal: np.ndarray) -> np.ndarray:
        return np.einsum("pn,pn->p", signal, signal).reshape(self.sources, self.channels).sum(axis=1)

    def _project(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Projections of the estimates on their own source and on all; ``block [P, size]`` holds references."""
        spectra = scipy.fft.rfft(block)  # [P, F]
        by_source = spectra.reshape(self.sources, self.channels, -1)
        own = np.empty_like(by_source)
        for j, filters in enumerate(self.own):
            for out, channel_filters in enumerate(filters):
                np.multiply(channel_filters[0], by_source[j, 0], out=own[j, out])
                for channel in range(1, self.channels):
                    own[j, out] += channel_filters[channel] * by_source[j, channel]
        own_signal = scipy.fft.irfft(own.reshape(spectra.shape), self.size, overwrite_x=True)
        if self.all is None:
            return own_signal, own_signal
        every = np.matmul(self.all, np.ascontiguousarray(spectra.T)[:, :, None])[:, :, 0]  # [F, P]
        return own_signal, scipy.fft.irfft(np.ascontiguousarray(every.T), self.size, overwrite_x=True)
