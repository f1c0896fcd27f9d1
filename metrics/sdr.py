"""The scalar members of the SDR family, all in dB, over the whole signal.

Every function takes ``reference`` and ``estimate`` as ``[..., C, N]`` of the same shape and returns ``[...]``.  The
constants (where they are added, how large they are) belong to the definitions: results published under these names used
them.
"""

from __future__ import annotations

import numpy as np


def nsdr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """SDR of the Music Demixing Challenge 2021 ("new SDR"; Demucs `nsdr`), over channels and time together."""
    return _plain_sdr(reference, estimate, 1e-7)


def usdr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Utterance-level SDR of BandSplitRNN (Luo and Yu, 2022): the same formula and constant as :func:`nsdr`."""
    return _plain_sdr(reference, estimate, 1e-7)


def msst_sdr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """`sdr` of Music-Source-Separation-Training: :func:`nsdr` with the constant 1e-8."""
    return _plain_sdr(reference, estimate, 1e-8)


def msst_si_sdr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """`si_sdr` of Music-Source-Separation-Training: one scale for all channels, mean not removed.

    The constant 1e-8 enters both sums of the scale once per sample, as in the original.
    """
    reference, estimate = _pair(reference, estimate)
    constant = 1e-8 * reference.shape[-1] * reference.shape[-2]
    cross = (reference * estimate).sum((-2, -1)) + constant
    scale = cross / ((reference**2).sum((-2, -1)) + constant)
    target = reference * scale[..., None, None]
    return _db(_energy(target) / (_energy(target - estimate) + 1e-8) + 1e-8)


def snr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Signal-to-noise ratio of each channel with the mean removed; average over channels (look2hear, Apollo)."""
    reference, estimate = _centred(reference, estimate)
    return _channel_ratio(reference, reference - estimate)


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Scale-invariant SDR (Le Roux et al., 2019) of each channel, mean removed; average over channels.

    Its negative is Apollo's validation loss.
    """
    reference, estimate = _centred(reference, estimate)
    target = _projected(reference, estimate)
    return _channel_ratio(target, target - estimate)


def sd_sdr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Scale-dependent SDR (Le Roux et al., 2019): like :func:`si_sdr`, but a wrong scale counts as distortion."""
    reference, estimate = _centred(reference, estimate)
    return _channel_ratio(_projected(reference, estimate), reference - estimate)


def _plain_sdr(reference: np.ndarray, estimate: np.ndarray, constant: float) -> np.ndarray:
    reference, estimate = _pair(reference, estimate)
    return _db((_energy(reference) + constant) / (_energy(reference - estimate) + constant))


def _pair(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    reference, estimate = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    if reference.shape != estimate.shape or reference.ndim < 2:
        raise ValueError(
            f"expected two arrays [..., channels, samples] of one shape: {reference.shape}, {estimate.shape}"
        )
    return reference, estimate


def _centred(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    reference, estimate = _pair(reference, estimate)
    return reference - reference.mean(-1, keepdims=True), estimate - estimate.mean(-1, keepdims=True)


def _projected(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    cross = (reference * estimate).sum(-1, keepdims=True)
    return reference * cross / ((reference**2).sum(-1, keepdims=True) + 1e-8)


def _channel_ratio(target: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return _db((target**2).sum(-1) / ((noise**2).sum(-1) + 1e-8) + 1e-8).mean(-1)


def _energy(signal: np.ndarray) -> np.ndarray:
    return (signal**2).sum((-2, -1))


def _db(ratio: np.ndarray) -> np.ndarray:
    return 10 * np.log10(ratio)
