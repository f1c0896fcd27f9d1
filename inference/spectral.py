"""From the network's magnitudes to stems: ratio masks, and separation of a stream segment by segment.

Segmentation and masks as in deezer/spleeter 2.4 (``spleeter/model/__init__.py``): segments of 512 frames side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from dsp.stft import SpleeterSTFT, StreamISTFT, StreamSTFT

Network = Callable[[np.ndarray], np.ndarray]
"""Magnitudes ``[B, C, T, F]`` float32 -> predicted magnitudes ``[B, S, C, T, F]`` float32."""

EPSILON = 1e-10
MASK_EXTENSIONS = ("zeros", "average")
RENDER_FRAMES = 32  # frames masked and inverted at a time: what fits into the processor's second-level cache


def ratio_masks(
    magnitudes: np.ndarray, exponent: float = 2.0, bins: int | None = None, extension: str = "zeros"
) -> np.ndarray:
    """Share of every source in every bin: ``[S, C, T, F]`` -> float32 ``[S, C, T, bins]``; sums to 1 below F.

    ``m_i = (o_i^p + eps/S) / (sum_j o_j^p + eps)`` with p = ``exponent``. Bins from F to ``bins`` get nothing
    (``extension='zeros'``) or the mean of the mask over the F bins (``'average'``). ValueError for another extension.
    """
    if extension not in MASK_EXTENSIONS:
        raise ValueError(f"mask extension {extension!r} is none of {', '.join(MASK_EXTENSIONS)}")
    masks = np.square(magnitudes) if exponent == 2 else magnitudes**exponent
    total = masks.sum(axis=0)
    total += np.float32(EPSILON)
    masks += np.float32(EPSILON / len(masks))
    masks /= total
    above = (bins or masks.shape[-1]) - masks.shape[-1]
    if above <= 0:
        return masks
    if extension == "average":
        fill = np.repeat(masks.mean(axis=-1, keepdims=True), above, axis=-1)
    else:
        fill = np.zeros((*masks.shape[:-1], above), np.float32)
    return np.concatenate([masks, fill], axis=-1)


@dataclass(frozen=True)
class Spectral:
    """How a magnitude network is driven: transform, network input, masks, overlap.

    ``segment`` and ``hop`` are frames (``hop == segment``: side by side, as the original), ``batch`` segments per call.
    """

    stft: SpleeterSTFT
    sources: int
    channels: int
    bins: int
    segment: int = 512
    hop: int = 512
    batch: int = 1
    exponent: float = 2.0
    extension: str = "zeros"


class Predictor:
    """Waveform blocks in; mixture spectra with the magnitudes that the network predicts for them out, in order.

    Holds at most ``batch`` segments. Every frame is delivered exactly once.
    """

    def __init__(self, network: Network, how: Spectral):
        self._network, self._how = network, how
        self._stft = StreamSTFT(how.stft, how.channels)
        self._spectra: list[np.ndarray] = []  # frames not yet delivered
        self._frames = 0  # their number
        ramp = np.minimum(np.arange(1, how.segment + 1), np.arange(how.segment, 0, -1)).astype(np.float32)
        self._weight = ramp[:, None]
        self._blend: np.ndarray | None = None  # weighted sum of overlapping predictions, and of their weights
        self._blend_weight = np.zeros((how.segment, 1), np.float32)

    @property
    def samples(self) -> int:
        """Samples received so far."""
        return self._stft.samples

    def push(self, block: np.ndarray, last: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Takes ``block [C, n]``; yields pairs (complex64 ``[C, t, B]``, float32 ``[S, C, t, F]``)."""
        how = self._how
        spectra = self._stft.push(block, last)
        if spectra.shape[1]:
            self._spectra.append(spectra)
            self._frames += spectra.shape[1]
        ready = how.segment + (how.batch - 1) * how.hop
        while self._frames > ready:  # not at equality: the last segment must be known as such
            yield from self._segments(how.batch)
        while last and self._frames:
            count = 1 + max(0, -(-(self._frames - how.segment) // how.hop))
            yield from self._segments(min(count, how.batch), last=count <= how.batch)

    def _segments(self, count: int, last: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Run ``count`` segments in one call of the network; with ``last`` the end is filled with zeros."""
        how = self._how
        spectra = self._spectra[0] if len(self._spectra) == 1 else np.concatenate(self._spectra, axis=1)
        magnitude = np.abs(spectra[..., : how.bins])
        span = how.segment + (count - 1) * how.hop
        if magnitude.shape[1] < span:
            magnitude = np.pad(magnitude, [(0, 0), (0, span - magnitude.shape[1]), (0, 0)])
        starts = range(0, count * how.hop, how.hop)
        batch = np.stack([magnitude[:, start : start + how.segment] for start in starts])
        predictions = self._network(batch)
        for i, start in enumerate(starts):
            final = last and i == count - 1
            frames = self._frames - start if final else how.hop
            yield spectra[:, start : start + frames], self._blended(predictions[i], frames)
        done = self._frames if last else count * how.hop
        self._spectra = [] if last else [spectra[:, done:].copy()]
        self._frames -= done

    def _blended(self, prediction: np.ndarray, frames: int) -> np.ndarray:
        """Triangular cross-fade with the segments before; the first ``frames`` frames are final."""
        hop, segment = self._how.hop, self._how.segment
        if hop == segment:
            return prediction[:, :, :frames]
        if self._blend is None:
            self._blend = np.zeros_like(prediction)
        self._blend += prediction * self._weight
        self._blend_weight += self._weight
        out = self._blend[:, :, :frames] / self._blend_weight[:frames]
        for state in (self._blend, self._blend_weight):
            state[..., : segment - hop, :] = state[..., hop:, :].copy()
            state[..., segment - hop :, :] = 0
        return out


class Synthesis:
    """Stem spectra in, stem waveforms out: ``[S, C, t, F]`` -> ``[S, C, n]``."""

    def __init__(self, how: Spectral):
        self._shape = (how.sources, how.channels)
        self._rows = how.sources * how.channels
        self._istft = StreamISTFT(how.stft, self._rows)

    def push(self, spectra: np.ndarray) -> np.ndarray:
        """The samples that these frames finish."""
        return self._samples(self._istft.push(spectra.reshape(self._rows, *spectra.shape[2:])))

    def finish(self, length: int) -> np.ndarray:
        """The rest of a signal of ``length`` samples."""
        return self._samples(self._istft.push(np.zeros((self._rows, 0, 1), np.complex64), last=True, length=length))

    def _samples(self, flat: np.ndarray) -> np.ndarray:
        return flat.reshape(*self._shape, flat.shape[-1])


class MaskedStream:
    """Separation by ratio masks: waveform blocks ``[C, n]`` in, stems ``[S, C, m]`` out, bounded memory."""

    def __init__(self, network: Network, how: Spectral):
        self._how = how
        self._predictor = Predictor(network, how)
        self._synthesis = Synthesis(how)

    def push(self, block: np.ndarray) -> np.ndarray:
        """The samples that ``block`` makes final; often none, then those of a whole segment."""
        return self._render(self._predictor.push(block), None)

    def finish(self) -> Iterator[np.ndarray]:
        """The rest; as many samples have come out then as went in."""
        nothing = np.zeros((self._how.channels, 0), np.float32)
        yield self._render(self._predictor.push(nothing, last=True), self._synthesis.finish)

    def _render(self, pairs: Iterator[tuple[np.ndarray, np.ndarray]], finish: Callable | None) -> np.ndarray:
        how = self._how
        bins = how.stft.bins if how.extension == "average" else how.bins
        pieces = [np.zeros((how.sources, how.channels, 0), np.float32)]
        for spectra, magnitudes in pairs:
            for start in range(0, spectra.shape[1], RENDER_FRAMES):
                few = slice(start, start + RENDER_FRAMES)
                masks = ratio_masks(magnitudes[:, :, few], how.exponent, bins, how.extension)
                pieces.append(self._synthesis.push(masks * spectra[:, few, :bins]))
        if finish:
            pieces.append(finish(self._predictor.samples))
        return np.concatenate(pieces, axis=-1)
