"""Distortion filters of BSS Eval: least-squares projections of estimates on delayed copies of the references.

A signal set is ``[P, N]`` here: P = sources x channels rows, N samples.  With L taps, the space that a row is
projected on is spanned by the P references delayed by 0 … L-1 samples, so the normal equations are block-Toeplitz and
follow from correlations at lags below L alone.  The method is that of Vincent, Gribonval and Févotte (IEEE TASLP 14(4),
2006) in the form of museval 0.4.1; the way of computing it is this project's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import scipy.fft
import scipy.linalg
from numpy.lib.stride_tricks import sliding_window_view
from threadpoolctl import ThreadpoolController

_EPS = np.finfo(np.float64).eps
_REFINEMENTS = 3
_ODD_FACTORS = (1, 3, 5, 9, 15, 25, 27, 45)


def single_threaded() -> AbstractContextManager:
    """Keeps BLAS to one thread: its threads wait for each other by spinning, which is fatal where cores are shared.

    Songs are evaluated side by side in processes; on a busy machine two threads took 15 times as long as one.
    """
    return _blas().limit(limits=1, user_api="blas")


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def fft_size(minimum: int) -> int:
    """Smallest size of the form 2^k·m, m in {1, 3, 5, 9, 15, 25, 27, 45}, that is at least ``minimum`` (and even)."""
    return min(m << max(1, ((minimum + m - 1) // m - 1).bit_length()) for m in _ODD_FACTORS)


def correlations(references: np.ndarray, estimates: np.ndarray, taps: int) -> np.ndarray:
    """Correlations of the references with the references and with the estimates, at lags |d| < taps.

    ``references [..., N]`` and ``estimates [..., N]``, any float type, P and E rows in all; they are read in blocks, so
    that the memory does not depend on N.
    Returns float64 ``r [P, P + E, 2·taps - 1]`` with ``r[p, q, d + taps - 1] = Σ_n references[p, n] · x[q, n + d]``,
    x being the references followed by the estimates.
    """
    rows, others = (math.prod(signals.shape[:-1]) for signals in (references, estimates))
    margin = taps - 1
    size = max(8192, fft_size(8 * taps))
    step = size - 2 * margin
    total = np.zeros((size // 2 + 1, rows, rows + others), np.complex128)
    for signal, blocks in _groups(references, estimates, margin, step):
        centre = signal[:rows, margin : margin + blocks * step].reshape(rows, blocks, step)
        around = sliding_window_view(signal, size, axis=1)[:, ::step]  # each block with `margin` samples at both sides
        left = np.ascontiguousarray(scipy.fft.rfft(centre, size).transpose(2, 0, 1))  # [F, P, blocks]
        right = np.ascontiguousarray(scipy.fft.rfft(around).transpose(2, 1, 0))  # [F, blocks, P + E]
        total += np.matmul(np.conj(left, out=left), right)
    return np.ascontiguousarray(np.moveaxis(scipy.fft.irfft(total, size, axis=0)[: 2 * margin + 1], 0, -1))


def _groups(
    references: np.ndarray, estimates: np.ndarray, margin: int, step: int, blocks: int = 4
) -> Iterator[tuple[np.ndarray, int]]:
    """Stretches of up to ``blocks`` blocks as float64 ``[P + E, margin + blocks·step + margin]``, zeros outside."""
    length = references.shape[-1]
    rows, others = (math.prod(signals.shape[:-1]) for signals in (references, estimates))
    count = -(-length // step)
    for first in range(0, count, blocks):
        here = min(blocks, count - first)
        start, stop = first * step - margin, (first + here) * step + margin
        low, high = max(start, 0), min(stop, length)
        signal = np.zeros((rows + others, stop - start))
        signal[:rows, low - start : high - start] = references[..., low:high].reshape(rows, -1)
        signal[rows:, low - start : high - start] = estimates[..., low:high].reshape(others, -1)
        yield signal, here


def gram_matrix(r: np.ndarray) -> np.ndarray:
    """Inner products of all delayed references, ``[P·L, P·L]`` ordered row by row then tap, from ``r [P, P, 2L-1]``."""
    rows, taps = r.shape[0], (r.shape[-1] + 1) // 2
    backwards = np.ascontiguousarray(r[..., ::-1])
    gram = np.empty((rows, taps, rows, taps))
    for p in range(rows):
        for q in range(rows):  # entry [k, m] is the correlation at lag k - m
            gram[p, :, q, :] = sliding_window_view(backwards[p, q], taps)[::-1]
    return gram.reshape(rows * taps, rows * taps)


def distortion_filters(r: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Filters whose output is nearest to each estimate: ``[P, L, E]`` (input row, tap, estimate).

    ``r [P, P, 2L-1]``: correlations of the references, ``targets [P, E, L]``: with the estimates at lags 0 … L-1.

    References that are linearly dependent (the same channel twice, a band-limited recording) have a singular matrix to
    working precision.  There the smallest ridge that makes it positive definite is added, and a few refinements against
    the matrix without it remove its effect on all but the null directions, which carry no signal.
    """
    rows, estimates, taps = targets.shape
    right = np.ascontiguousarray(targets.transpose(0, 2, 1)).reshape(rows * taps, estimates)
    try:
        solution = scipy.linalg.cho_solve(_factor(r, _EPS), right, check_finite=False)
    except np.linalg.LinAlgError:
        solution = _solve_singular(r, right)
    return solution.reshape(rows, taps, estimates)


def _factor(r: np.ndarray, ridge: float) -> tuple[np.ndarray, bool]:
    gram = gram_matrix(r)
    gram.flat[:: len(gram) + 1] += ridge
    # the transpose is the same matrix in the memory order that LAPACK can overwrite
    return scipy.linalg.cho_factor(gram.T, lower=True, overwrite_a=True, check_finite=False)


def _solve_singular(r: np.ndarray, right: np.ndarray) -> np.ndarray:
    gram = gram_matrix(r)
    ridge = 16 * _EPS * gram.diagonal().max()
    while True:  # ends at the latest when the ridge outweighs the matrix; it is finite
        try:
            factor = _factor(r, ridge)
            break
        except np.linalg.LinAlgError:
            ridge *= 4
    solution = scipy.linalg.cho_solve(factor, right, check_finite=False)
    for _ in range(_REFINEMENTS):
        solution += scipy.linalg.cho_solve(factor, right - gram @ solution, check_finite=False)
    return solution
