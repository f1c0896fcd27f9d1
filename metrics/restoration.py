"""Scores of restored music by the names that Apollo's training fork and MSST give them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from metrics import log_spectral, sdr, spectral

# metric -> its unit as it is printed, and what else comes with it
UNITS = {
    "sdr": "dB",
    "si_sdr": "dB",
    "l1_freq": "0 … 100",
    "log_wmse": "-4 ln",
    "aura_stft": "0 … 100",
    "aura_mrstft": "0 … 100",
    "bleedless": "0 … 100",
    "fullness": "0 … 100",
    "lsd": "dB, less is better",
    "lsd_high": "dB above the cut-off, less is better",
}
_SINGLE: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "sdr": sdr.msst_sdr,
    "si_sdr": sdr.msst_si_sdr,
    "l1_freq": spectral.l1_freq,
    "aura_stft": spectral.aura_stft,
    "aura_mrstft": spectral.aura_mrstft,
    "lsd": log_spectral.log_spectral_distance,
}


def restoration_scores(
    names: Iterable[str],
    reference: np.ndarray,
    estimate: np.ndarray,
    codec: np.ndarray,
    cutoff: float | None = None,
) -> dict[str, float]:
    """The metrics called ``names`` (of `UNITS`); more is better for all of them but ``lsd`` and ``lsd_high``.

    Args:
        reference, estimate, codec: the music as it was, restored, and compressed, ``[C, N]``; cut to the shortest. All
            spectral ones take them for 44.1 kHz, whatever they are, as the original does
        cutoff: where ``lsd_high`` begins, cycles per sample (`log_spectral.cutoff` measures it); NaN without one
    """
    length = min(signal.shape[-1] for signal in (reference, estimate, codec))
    reference, estimate, codec = (signal[..., :length] for signal in (reference, estimate, codec))
    scores: dict[str, float] = {}
    for name in dict.fromkeys(names):
        if name in ("bleedless", "fullness"):
            if name not in scores:  # both come out of the same spectra
                both = zip(("bleedless", "fullness"), spectral.bleedless_fullness(reference, estimate), strict=True)
                scores |= {each: float(value) for each, value in both}
        elif name == "log_wmse":
            scores[name] = float(spectral.log_wmse(codec, reference, estimate))
        elif name == "lsd_high":
            above = cutoff is not None
            scores[name] = log_spectral.log_spectral_distance(reference, estimate, cutoff) if above else math.nan
        else:
            scores[name] = float(_SINGLE[name](reference, estimate))
    return {name: scores[name] for name in dict.fromkeys(names)}
