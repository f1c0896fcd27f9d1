"""Twice and half the sample rate inside a network: windowed sinc filters as products with matrices.

The filters are those of ``julius.resample_frac`` with 24 zero crossings and a roll-off of 0.945. A block of the result
depends on two neighbouring blocks of the input, so a signal of blocks times a banded matrix each gives all blocks: a
few times the multiplications of the filter itself, at many times the speed of a convolution on a single channel, and
made of nothing but products, so gradients come by themselves and every device has a kernel.
"""

import functools
import math

import numpy as np
import paddle

from models import card

ZEROS, ROLLOFF = 24, 0.945
_BLOCK = 64  # periods, at least what a filter is long


def upsample2(x: paddle.Tensor) -> paddle.Tensor:
    """``[..., N] -> [..., 2·N]``; beyond its ends the signal keeps its first and last value."""
    return _resample(x, 1, 2, 2 * x.shape[-1])


def downsample2(x: paddle.Tensor) -> paddle.Tensor:
    """``[..., N] -> [..., N // 2]``; beyond its ends the signal keeps its first and last value."""
    return _resample(x, 2, 1, x.shape[-1] // 2)


def _resample(x: paddle.Tensor, old: int, new: int, length: int) -> paddle.Tensor:
    shape = x.shape
    size, width = _BLOCK * old, (_filters(old, new).shape[1] - old) // 2
    blocks = max(-(-length // (_BLOCK * new)), 1)
    samples = (blocks + 1) * size
    # what is left over at the end meets zeros of the matrix, or results that are dropped
    padded = card.pad(x.reshape([-1, shape[-1]]), width, max(samples - width - shape[-1], 0), mode="replicate")
    padded = card.cut(padded, 1, 0, samples).reshape([-1, blocks + 1, size])
    matrix = paddle.to_tensor(_matrix(old, new), place=x.place)
    with paddle.amp.auto_cast(False):  # which would compute products of matrices in float16
        pairs = paddle.concat([card.cut(padded, 1, 0, blocks), card.cut(padded, 1, 1, blocks + 1)], axis=2)
        y = paddle.matmul(pairs, matrix)  # [R, blocks, block of results]
    y = card.cut(y.reshape([-1, blocks * _BLOCK * new]), 1, 0, length)
    return y.reshape([*shape[:-1], length])


@functools.cache
def _filters(old: int, new: int) -> np.ndarray:
    """Filters ``[new, taps]`` of the results of one period, ``(taps - old) / 2`` of the taps before its beginning."""
    rate = min(old, new) * ROLLOFF
    width = math.ceil(ZEROS * old / rate)
    taps = np.arange(-width, width + old)
    filters = []
    for phase in range(new):
        t = np.clip((taps / old - phase / new) * rate, -ZEROS, ZEROS)
        values = np.sinc(t) * np.cos(0.5 * np.pi * t / ZEROS) ** 2
        filters.append(values / values.sum())
    return np.stack(filters)


@functools.cache
def _matrix(old: int, new: int) -> np.ndarray:
    """``[2 · input block, output block]``: each column is a filter at the place where its result is."""
    filters = _filters(old, new)
    matrix = np.zeros((2 * _BLOCK * old, _BLOCK * new), np.float32)
    for period in range(_BLOCK):
        rows = slice(period * old, period * old + filters.shape[1])
        matrix[rows, period * new : (period + 1) * new] = filters.T
    return matrix
