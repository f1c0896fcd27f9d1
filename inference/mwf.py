"""Separation of a stream by the multichannel Wiener filter: as Spleeter's ``--mwf``, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dsp.stft import StreamSTFT
from inference.spectral import Network, Predictor, Spectral, Synthesis, no_frames
from inference.spool import Spool
from inference.wiener import WienerFilter

_BLOCK_FRAMES = 128  # frames filtered at a time in the passes over the spooled song


class WienerStream:
    """Waveform blocks ``[C, n]`` in, stems ``[S, C, m]`` out, all of them at the end.

    The filter needs sums over the whole song before it can give a sample. Mixture and predicted magnitudes wait in
    files in ``folder`` (at 44.1 kHz stereo 0.35 MB a second and, for each stem, as much again); the network runs once.
    """

    def __init__(self, network: Network, how: Spectral, iterations: int = 1, folder: Path | None = None):
        self._how = how
        self._predictor = Predictor(network, how)
        self._filter = WienerFilter(iterations)
        self._mixture = Spool((how.channels,), folder)
        self._magnitudes = Spool((how.sources, how.channels, how.bins), folder)

    def push(self, block: np.ndarray) -> np.ndarray:
        """Nothing comes out yet; returns ``[S, C, 0]``."""
        self._mixture.write(block.T)
        self._predict(block)
        return np.zeros((self._how.sources, self._how.channels, 0), np.float32)

    def finish(self) -> Iterator[np.ndarray]:
        """The whole song in blocks."""
        try:
            self._predict(np.zeros((self._how.channels, 0), np.float32), last=True)
            while self._filter.passes_left:
                self._filter.advance()
                if self._filter.passes_left:
                    for spectra, magnitudes in self._again():
                        self._filter.observe(magnitudes, spectra)
            synthesis = Synthesis(self._how)
            for spectra, magnitudes in self._again():
                stems = self._filter.apply(magnitudes, spectra[..., : self._how.bins])
                yield synthesis.push(stems.shape[2], lambda channel, part, stems=stems: stems[:, channel, part])
            yield synthesis.push(0, no_frames, self._predictor.samples)
        finally:
            self._mixture.close()
            self._magnitudes.close()

    def _predict(self, block: np.ndarray, last: bool = False) -> None:
        for spectra, magnitudes in self._predictor.push(block, last):
            if self._filter.passes_left:
                self._filter.observe(magnitudes, spectra)
            self._magnitudes.write(np.moveaxis(magnitudes, 2, 0))

    def _again(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One more pass: spectra ``[C, t, B]`` and magnitudes ``[S, C, t, F]`` from the beginning."""
        how = self._how
        self._mixture.rewind()
        self._magnitudes.rewind()
        transform = StreamSTFT(how.stft, how.channels)
        last = False
        while not last:
            block = self._mixture.read(_BLOCK_FRAMES * how.stft.frame_step)
            last = transform.samples + len(block) >= self._mixture.rows
            spectra = transform.push(block.T, last)
            magnitudes = np.moveaxis(self._magnitudes.read(spectra.shape[1]), 0, 2)
            if spectra.shape[1]:
                yield spectra, magnitudes
