"""Levels of the files that are written: what is done where a stem would pass full scale, and the exact residual.

Our own way is one common gain for all outputs, so that they still sum to the mixture. The others are Demucs' (PyPI
demucs 4.1.0, ``demucs.audio.prevent_clip``), for each output by itself:

- ``rescale``: divided by 1.01 times its largest magnitude, if that is more than 1
- ``clamp``: samples beyond 0.99 become 0.99
- ``none``: nothing; integer formats limit what they cannot hold
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runtime.errors import UserError

if TYPE_CHECKING:
    from inference.naming import Selection

CLIP_MODES = ("rescale", "clamp", "none")
_CLAMP = np.float32(0.99)
_HEADROOM = 1.01


def check_clip_mode(mode: str | None, selection: Selection) -> None:
    """UserError for an unknown mode, or one that a residual cannot be exact with."""
    if mode not in (None, *CLIP_MODES):
        raise UserError(f"--clip-mode {mode} is none of {', '.join(CLIP_MODES)}")
    if mode is not None and selection.rest in selection.names and selection.rest == "residual":
        raise UserError("--residual needs the gain that all stems have in common: leave --clip-mode out")


def needs_peaks(mode: str | None, bits: int | None) -> bool:
    """Whether the largest magnitudes of a whole song decide on the gains; ``bits`` is 32 for floats."""
    return mode == "rescale" or (mode is None and bits != 32)


def choose_gains(peaks: np.ndarray, bits: int | None, mode: str | None) -> np.ndarray:
    """Factors ``[K]`` of outputs with these largest magnitudes ``[K]``."""
    if mode == "rescale":
        return 1 / np.maximum(_HEADROOM * peaks, 1)
    return np.full(len(peaks), _common_gain(peaks.max(), bits))


def finished(block: np.ndarray, gains: np.ndarray, bits: int | None, parts: int, mode: str | None) -> np.ndarray:
    """Outputs ``[K, C, n]`` as they go into the files.

    With ``parts`` the last one comes as the mixture, and becomes what the first so many leave of it.
    """
    if mode is not None:
        if parts:
            block[-1] -= block[:parts].sum(axis=0)
        block = block * gains.astype(np.float32)[:, None, None]
        return np.clip(block, -_CLAMP, _CLAMP) if mode == "clamp" else block
    if gains[0] != 1:
        block = block * np.float32(gains[0])
    return _with_residual(block, bits, parts) if parts else block


def decibels(gain: float) -> float:
    """A factor as a level."""
    return float(20 * np.log10(gain))


def _with_residual(block: np.ndarray, bits: int | None, parts: int) -> np.ndarray:
    """Replace the mixture, the last of ``[K, C, n]``, by what the first ``parts`` leave of it.

    For integer formats these are rounded first: then the numbers in the files sum to the rounded mixture.
    """
    if bits in (16, 24):
        block[:parts] = _quantised(block[:parts], bits)
    block[-1] -= block[:parts].sum(axis=0)
    return block


def _quantised(x: np.ndarray, bits: int) -> np.ndarray:
    """The values that a file of so many bits holds; exact in float32 up to 24 bits."""
    steps = np.float32(2 ** (bits - 1))
    return np.clip(np.rint(x * steps), -steps, steps - 1) / steps


def _common_gain(peak: float, bits: int | None) -> float:
    """Factor that brings ``peak`` to full scale if rounding it would not fit the format, else 1."""
    ceiling = 1 - 2.0 ** (1 - bits) if bits else 1.0
    tolerance = 2.0**-bits if bits else 0.0  # half a step is rounded away
    return ceiling / peak if peak > ceiling + tolerance else 1.0
