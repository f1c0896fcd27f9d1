"""From the network's magnitudes to stems: ratio masks, and separation of a stream segment by segment.

Segmentation and masks as in deezer/spleeter 2.4 (``spleeter/model/__init__.py``): segments of 512 frames side by side.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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

    The axes between S and F are free.

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

    ``segment`` and ``hop`` are frames (``hop == segment``: side by side, as the original), ``batch`` segments per call,
    ``threads`` for masks and inverse transforms (the network has its own).
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
    threads: int = 1


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
    """Stem spectra in, stem waveforms out, channel by channel in as many threads as ``how`` allows."""

    def __init__(self, how: Spectral):
        self._how = how
        alone = SpleeterSTFT(how.stft.frame_length, how.stft.frame_step)  # without threads inside our threads
        self._channels = [StreamISTFT(alone, how.sources) for _ in range(how.channels)]

    def push(self, frames: int, spectra: Callable[[int, slice], np.ndarray], length: int | None = None) -> np.ndarray:
        """The samples ``[S, C, n]`` that ``frames`` more frames finish.

        ``spectra(c, part)`` gives those of channel c and a slice of the frames, ``[S, t, F]``. With ``length``, the
        number of samples of the whole song, these frames were the last.
        """

        def run(channel: int) -> list[np.ndarray]:
            istft = self._channels[channel]
            parts = [slice(start, start + RENDER_FRAMES) for start in range(0, frames, RENDER_FRAMES)]
            samples = [istft.push(spectra(channel, part)) for part in parts]
            if length is not None:
                samples.append(istft.push(np.zeros((self._how.sources, 0, 1), np.complex64), last=True, length=length))
            return samples

        every = range(self._how.channels)
        pieces = list(_pool(self._how.threads).map(run, every) if self._how.threads > 1 else map(run, every))
        count = sum(piece.shape[-1] for piece in pieces[0])
        out = np.empty((self._how.sources, len(pieces), count), np.float32)
        for channel, samples in enumerate(pieces):
            if samples:
                np.concatenate(samples, axis=-1, out=out[:, channel])
        return out


class MaskedStream:
    """Separation by ratio masks: waveform blocks ``[C, n]`` in, stems ``[S, C, m]`` out, bounded memory."""

    def __init__(self, network: Network, how: Spectral):
        self._how = how
        self._predictor = Predictor(network, how)
        self._synthesis = Synthesis(how)

    def push(self, block: np.ndarray) -> np.ndarray:
        """The samples that ``block`` makes final; often none, then those of a whole segment."""
        pieces = [self._render(*pair) for pair in self._predictor.push(block)]
        return np.concatenate(pieces, axis=-1) if len(pieces) > 1 else pieces[0] if pieces else self._nothing()

    def finish(self) -> Iterator[np.ndarray]:
        """The rest; as many samples have come out then as went in."""
        for pair in self._predictor.push(np.zeros((self._how.channels, 0), np.float32), last=True):
            yield self._render(*pair)
        yield self._synthesis.push(0, no_frames, self._predictor.samples)

    def _nothing(self) -> np.ndarray:
        return np.zeros((self._how.sources, self._how.channels, 0), np.float32)

    def _render(self, spectra: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
        """Masks ``magnitudes [S, C, t, F]`` make of ``spectra [C, t, B]``, and what becomes audible by them."""
        how = self._how
        bins = how.stft.bins if how.extension == "average" else how.bins

        def masked(channel: int, part: slice) -> np.ndarray:
            masks = ratio_masks(magnitudes[:, channel, part], how.exponent, bins, how.extension)
            return masks * spectra[channel, part, :bins]

        return self._synthesis.push(spectra.shape[1], masked)


def no_frames(channel: int, part: slice) -> np.ndarray:
    """For `Synthesis.push` at the end of a song."""
    raise AssertionError("no frames, no spectra")


@functools.lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="render")
