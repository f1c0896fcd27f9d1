"""The short-time Fourier transform in operators that Paddle can put into a program; its own cannot be traced."""

from __future__ import annotations

import numpy as np
import paddle

from models import card
from models.spectrum import STFT, add_frames, cut_frames


class TracedSTFT(STFT):
    """As `STFT`, for shapes that are known; arguments and axes are the same."""

    @classmethod
    def of(cls, stft: STFT) -> TracedSTFT:
        """The same transform."""
        return cls(stft.size, stft.hop, stft.window, stft.center, stft.pad_mode, stft.normalized)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Samples ``[..., N]`` to ``[..., 2, size // 2 + 1, frames]``."""
        flat = x.reshape([-1, x.shape[-1]])
        if self.center:
            flat = card.pad(flat, self.size // 2, self.size // 2, mode=self.pad_mode)
        frames = cut_frames(flat, self.size, self.hop) * paddle.to_tensor(self.window * np.float32(self._factor))
        spectrum = paddle.fft.rfft(frames)
        pairs = paddle.stack([spectrum.real(), spectrum.imag()], axis=1).transpose([0, 1, 3, 2])
        return pairs.reshape([*x.shape[:-1], *pairs.shape[1:]])

    def inverse(self, spectrum: paddle.Tensor, length: int | None = None) -> paddle.Tensor:
        """``[..., 2, size // 2 + 1, frames]`` to samples ``[..., length]``; the windows must leave no gap."""
        flat = spectrum.reshape([-1, *spectrum.shape[-3:]]).transpose([0, 1, 3, 2])
        frames = paddle.fft.irfft(paddle.complex(flat[:, 0], flat[:, 1]), self.size)
        whole = (frames.shape[1] - 1) * self.hop + self.size
        first, last = (self.size // 2, whole - self.size // 2) if self.center else (0, whole)
        last = last if length is None else min(first + length, whole)
        weight = np.zeros(whole)
        for start in range(0, whole - self.size + 1, self.hop):
            weight[start : start + self.size] += np.square(self.window, dtype=np.float64)
        added = add_frames(frames * paddle.to_tensor(self.window / np.float32(self._factor)), self.hop)
        share = (1.0 / weight[first:last]).astype(np.float32)
        x = card.cut(added, 1, first, last) * paddle.to_tensor(share)
        return x.reshape([*spectrum.shape[:-3], x.shape[-1]])

    @property
    def _factor(self) -> float:
        return self.size**-0.5 if self.normalized else 1.0
