"""Short-time Fourier transforms in numpy: PyTorch's pair, Demucs's conventions on top of it, and Spleeter's pair.

float32 in, complex64 out, and back. The Spleeter classes live in `dsp.spleeter_stft` and are offered here too.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.fft

from dsp.framing import add_frames, blocks_for, frame_blocks, frame_view, periodic_hann
from dsp.spleeter_stft import SpleeterSTFT, StreamISTFT, StreamSTFT

__all__ = [
    "SpleeterSTFT",
    "StreamISTFT",
    "StreamSTFT",
    "demucs_ispec",
    "demucs_magnitude",
    "demucs_spec",
    "istft",
    "periodic_hann",
    "stft",
]

_NUMPY_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_ENVELOPE_FLOOR = 1e-11  # below this torch.istft calls the windows' sum zero


def stft(
    x: np.ndarray,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: np.ndarray | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool = True,
    workers: int = 1,
) -> np.ndarray:
    """``torch.stft(…, return_complex=True)``: ``x [..., N]`` → ``[..., F, T]`` complex64.

    Args:
        x: real signal
        n_fft: FFT length, samples
        hop_length: samples between frames (``n_fft // 4``)
        win_length: window length (``n_fft``); a shorter window stands in the middle of the frame
        window: ``[win_length]``; without one, a rectangle
        center: pad ``n_fft // 2`` samples at both ends, so that frame t is centred on sample t·hop
        pad_mode: ``reflect``, ``constant``, ``replicate`` or ``circular``
        normalized: divide by √n_fft
        onesided: ``F = n_fft // 2 + 1`` bins rather than ``n_fft``
        workers: threads of the FFT

    Raises:
        ValueError: where torch raises: sizes out of range, or a signal too short for the padding or for one frame
    """
    hop, window = _check(n_fft, hop_length, win_length, window)
    signal = np.asarray(x, np.float32)
    if center:
        signal = _pad(signal, n_fft // 2, n_fft // 2, pad_mode)
    if not 0 < n_fft <= signal.shape[-1]:
        raise ValueError(f"n_fft must lie in 1 … {signal.shape[-1]}, the number of samples to transform, not {n_fft}")
    frames = frame_view(signal, n_fft, hop)
    scale = np.float32(n_fft**-0.5 if normalized else 1.0)
    transform = scipy.fft.rfft if onesided else scipy.fft.fft
    out = np.empty((*frames.shape[:-1], n_fft // 2 + 1 if onesided else n_fft), np.complex64)
    for piece in frame_blocks(frames.shape[-2], math.prod(frames.shape[:-2]), n_fft):
        out[..., piece, :] = transform(frames[..., piece, :] * window, workers=workers)
        out[..., piece, :] *= scale
    return np.swapaxes(out, -1, -2)


def istft(
    spec: np.ndarray,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: np.ndarray | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    workers: int = 1,
) -> np.ndarray:
    """``torch.istft``: ``spec [..., F, T]`` → ``[..., length]`` float32, divided by the sum of the squared windows.

    The arguments are those of `stft`. ``length`` is in samples; without it the signal ends where the last frame says,
    and a longer one than the frames reach is filled with zeros.

    Raises:
        ValueError: where torch raises: sizes out of range, no frames, a wrong number of bins, or a sample at which the
            windows sum to zero
    """
    hop, window = _check(n_fft, hop_length, win_length, window)
    bins, count = spec.shape[-2:]
    one_sided = bins != n_fft if onesided is None else onesided
    if bins != (n_fft // 2 + 1 if one_sided else n_fft):
        raise ValueError(f"a spectrogram of n_fft={n_fft} does not have {bins} bins")
    if spec.size == 0:
        raise ValueError("there are no frames to invert")
    signal = np.zeros((*spec.shape[:-2], blocks_for(count, n_fft, hop), hop), np.float32)
    spec = np.swapaxes(spec, -1, -2)
    scaled = window * np.float32(n_fft**0.5 if normalized else 1.0)
    for piece in frame_blocks(count, math.prod(spec.shape[:-2]), n_fft):
        part = spec[..., piece, :]
        inverse = scipy.fft.irfft if one_sided else scipy.fft.ifft
        add_frames(signal, inverse(part, n_fft, workers=workers).real * scaled, hop, piece.start)
    reach = n_fft + hop * (count - 1)
    start = n_fft // 2 if center else 0
    end = min(reach, start + length) if length is not None else reach - start
    envelope = _envelope(window, hop, count)[start:end]
    if envelope.min(initial=1.0) < _ENVELOPE_FLOOR:
        raise ValueError("the windows sum to zero at some sample: they overlap too little to be inverted")
    kept = signal.reshape(*signal.shape[:-2], -1)[..., start:end] / envelope
    missing = (length or 0) - kept.shape[-1]
    return kept if missing <= 0 else np.pad(kept, [(0, 0)] * (kept.ndim - 1) + [(0, missing)])


def demucs_spec(x: np.ndarray, nfft: int = 4096, hybrid: bool = True, old: bool = False) -> np.ndarray:
    """Complex spectrogram of HDemucs and HTDemucs (``_spec``): ``x [..., N]`` → ``[..., nfft / 2, T]`` complex64.

    Hop nfft/4, ÷√nfft, without the Nyquist bin. With ``hybrid``, ``T = ceil(N / hop)``: the signal is padded by 1.5
    hops and the two outer frames of each end are dropped, so that frames fall in step with the strides of the time
    branch. A signal too short to be mirrored gets zeros first.

    Args:
        x: waveform; N may be 0 when ``hybrid``
        nfft: FFT length, a multiple of 8
        hybrid: False for the plain centred transform of models without a time branch
        old: pad with zeros instead of the mirrored signal (``hybrid_old``)
    """
    hop, window = nfft // 4, periodic_hann(nfft)
    if not hybrid:
        return stft(x, nfft, hop, window=window, normalized=True)[..., :-1, :]
    samples = x.shape[-1]
    count, pad = -(-samples // hop), hop // 2 * 3
    right = pad + count * hop - samples
    signal = _pad(x, pad, right, "constant") if old else _pad_short(x, pad, right)
    return stft(signal, nfft, hop, window=window, normalized=True)[..., :-1, 2 : 2 + count]


def demucs_ispec(spec: np.ndarray, length: int, hybrid: bool = True, old: bool = False) -> np.ndarray:
    """Inverse of `demucs_spec` (``_ispec``): ``spec [..., nfft / 2, T]`` → ``[..., length]`` float32."""
    nfft = 2 * spec.shape[-2]
    hop, window = nfft // 4, periodic_hann(nfft)
    frames = (2, 2) if hybrid else (0, 0)
    spec = np.pad(spec, [(0, 0)] * (spec.ndim - 2) + [(0, 1), frames])
    if not hybrid:
        return istft(spec, nfft, hop, window=window, normalized=True, length=length)
    pad = 0 if old else hop // 2 * 3
    whole = -(-length // hop) * hop + 2 * pad
    signal = istft(spec, nfft, hop, window=window, normalized=True, length=whole)
    return np.ascontiguousarray(signal[..., pad : pad + length])


def demucs_magnitude(spec: np.ndarray, cac: bool = True) -> np.ndarray:
    """What the Demucs networks eat (``_magnitude``): ``spec [..., C, F, T]`` complex → float32.

    With ``cac`` (complex as channels) ``[..., 2·C, F, T]`` in the order ch0.re, ch0.im, ch1.re, …; without, ``|spec|``.
    """
    if not cac:
        return np.abs(spec)
    *batch, channels, bins, count = spec.shape
    return np.stack([spec.real, spec.imag], axis=-3).reshape(*batch, 2 * channels, bins, count)


def _check(
    n_fft: int, hop_length: int | None, win_length: int | None, window: np.ndarray | None
) -> tuple[int, np.ndarray]:
    """Hop, and the window ``[n_fft]``, by torch's defaults and rules."""
    hop = n_fft // 4 if hop_length is None else hop_length
    size = n_fft if win_length is None else win_length
    if hop <= 0:
        raise ValueError(f"hop_length must be positive, not {hop}")
    if not 0 < size <= n_fft:
        raise ValueError(f"win_length must lie in 1 … n_fft={n_fft}, not {size}")
    window = np.ones(size, np.float32) if window is None else np.asarray(window, np.float32)
    if window.shape != (size,):
        raise ValueError(f"the window must have the shape ({size},), not {window.shape}")
    left = (n_fft - size) // 2
    return hop, np.pad(window, (left, n_fft - size - left))


def _pad(x: np.ndarray, left: int, right: int, mode: str) -> np.ndarray:
    """torch's ``F.pad`` of the last axis, which refuses to mirror or wrap more than there is."""
    if mode not in _NUMPY_MODES:
        raise ValueError(f"pad_mode must be one of {', '.join(_NUMPY_MODES)}, not {mode!r}")
    needed = {"constant": 0, "reflect": max(left, right) + 1, "replicate": 1, "circular": max(left, right, 1)}[mode]
    if x.shape[-1] < needed:
        raise ValueError(f"{mode} padding by ({left}, {right}) needs {needed} samples, the signal has {x.shape[-1]}")
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(left, right)], _NUMPY_MODES[mode])


def _pad_short(x: np.ndarray, left: int, right: int) -> np.ndarray:
    """Mirrors the ends; a signal too short for that first grows by zeros, at the right end as far as that reaches."""
    lacking = max(0, max(left, right) + 1 - x.shape[-1])
    zeros_right = min(right, lacking)
    zeros_left = lacking - zeros_right
    x = _pad(x, zeros_left, zeros_right, "constant")
    return _pad(x, left - zeros_left, right - zeros_right, "reflect")


def _envelope(window: np.ndarray, hop: int, count: int) -> np.ndarray:
    """Sum of the squared windows of ``count`` frames at every sample they reach."""
    n_fft = len(window)
    total = np.zeros((blocks_for(count, n_fft, hop), hop), np.float32)
    squared = window * window
    for piece in frame_blocks(count, 1, n_fft):
        add_frames(total, np.broadcast_to(squared, (piece.stop - piece.start, n_fft)), hop, piece.start)
    return total.reshape(-1)
