"""Multichannel Wiener filter (expectation-maximisation) over songs that are never in memory as a whole.

The spatial covariance of a source is a sum over all frames, so every iteration is one pass over the song:
``observe`` each block, ``advance``, and finally ``apply``. Conventions are those of norbert 0.2.1 (which Spleeter
calls with a ratio-mask start) and of open-unmix (which Demucs calls with the mixture's phase, optionally a residual).
"""

from __future__ import annotations

import numpy as np

NORBERT_EPS = float(np.finfo(np.float32).eps)
OPEN_UNMIX_EPS = 1e-10


def initial_estimates(
    magnitudes: np.ndarray, mixture: np.ndarray, softmask: bool = True, residual: bool = False, eps: float = NORBERT_EPS
) -> np.ndarray:
    """First guess of the source spectra, complex64 ``[S(+1), C, T, F]``.

    ``magnitudes [S, C, T, F]`` and ``mixture [C, T, F]`` (complex). With ``softmask`` the mixture is shared in the
    proportion of the magnitudes; without, the magnitudes take the mixture's phase. ``residual`` appends what is left.
    """
    if softmask:
        share = magnitudes / (magnitudes.sum(axis=0) + np.float32(eps))
        estimates = share * mixture
    else:
        modulus = np.abs(mixture)
        silent = modulus == 0
        # the phase of zero is zero, as atan2 has it
        phase = np.where(silent, np.complex64(1), mixture / np.where(silent, np.float32(1), modulus))
        estimates = magnitudes * phase
    if residual:
        estimates = np.concatenate([estimates, (mixture - estimates.sum(axis=0))[None]])
    return estimates


class WienerFilter:
    """EM refinement in passes; one or two channels.

    ``iterations`` passes of ``observe(block)`` … ``advance()`` over the whole song, in any block sizes, then
    ``apply(block)`` in any order. Zero iterations need no pass. Memory: a few numbers per bin and source.
    """

    def __init__(
        self,
        iterations: int = 1,
        softmask: bool = True,
        residual: bool = False,
        eps: float = NORBERT_EPS,
        scale_factor: float = 10.0,
    ):
        self.iterations = iterations
        self._start = {"softmask": softmask, "residual": residual, "eps": eps}
        self._eps = eps
        self._scale_factor = scale_factor
        self._peak = 0.0
        self._models: list[np.ndarray] = []
        self._sums: np.ndarray | None = None

    @property
    def passes_left(self) -> int:
        """How many times the song has to be observed before ``apply`` gives the final estimate."""
        return self.iterations - len(self._models)

    def observe(self, magnitudes: np.ndarray, mixture: np.ndarray) -> None:
        """Add one block: ``magnitudes [S, C, T, F]``, ``mixture [C, T, B]`` with ``B >= F``.

        Bins above F have no estimate and stay silent, yet they count for the level the regularisation refers to.
        """
        if not self._models:
            self._peak = max(self._peak, float(np.abs(mixture).max(initial=0.0)))
        estimates = self.apply(magnitudes, mixture[..., : magnitudes.shape[-1]])
        sums = _covariance_sums(estimates)
        self._sums = sums if self._sums is None else self._sums + sums

    def advance(self) -> None:
        """End of one pass: turn the sums into the spatial model of this iteration."""
        if self._sums is None:
            raise ValueError("the Wiener filter has observed nothing: call observe() before advance()")
        channels = self._sums.shape[1]
        # the sum over frames of the power (mean over channels) is the trace of the sum of the covariances
        power = np.einsum("sccf->sf", self._sums).real / channels
        self._models.append(self._sums / (self._level * self._eps + power)[:, None, None])
        self._sums = None

    def apply(self, magnitudes: np.ndarray, mixture: np.ndarray) -> np.ndarray:
        """Estimates complex64 ``[S(+1), C, T, F]`` after the passes done so far; ``mixture [C, T, F]``.

        Raises:
            ValueError: magnitudes and mixture differ in channels, bins or frames, or have more than two channels
        """
        if magnitudes.shape[1:] != mixture.shape:
            raise ValueError(f"the magnitudes have the shape {magnitudes.shape[1:]}, the mixture {mixture.shape}")
        estimates = initial_estimates(magnitudes, mixture, **self._start)
        for model in self._models:
            estimates = _filter(estimates, mixture, model, self._level * np.sqrt(self._eps))
        return estimates

    @property
    def _level(self) -> float:
        """Square of the factor by which the references scale the signal down; here eps is scaled up instead."""
        return max(1.0, self._peak / self._scale_factor) ** 2


def wiener(
    magnitudes: np.ndarray,
    mixture: np.ndarray,
    iterations: int = 1,
    softmask: bool = True,
    residual: bool = False,
    eps: float = NORBERT_EPS,
    scale_factor: float = 10.0,
) -> np.ndarray:
    """Whole-song filter: ``magnitudes [S, C, T, F]``, ``mixture [C, T, F]`` complex -> complex64 ``[S(+1), C, T, F]``.

    The defaults are ``norbert.wiener(v, x)``; open-unmix is ``softmask=False, eps=1e-10``.
    Raises ValueError for more than two channels.
    """
    song = WienerFilter(iterations, softmask, residual, eps, scale_factor)
    while song.passes_left:
        song.observe(magnitudes, mixture)
        song.advance()
    return song.apply(magnitudes, mixture)


def _covariance_sums(estimates: np.ndarray) -> np.ndarray:
    """Sum over frames of y y^H: ``[S, C, T, F]`` -> complex128 ``[S, C, C, F]``."""
    sources, channels, _, bins = estimates.shape
    sums = np.empty((sources, channels, channels, bins), np.complex128)
    for i in range(channels):
        for k in range(channels):
            sums[:, i, k] = (estimates[:, i] * estimates[:, k].conj()).sum(axis=1, dtype=np.complex128)
    return sums


def _filter(estimates: np.ndarray, mixture: np.ndarray, model: np.ndarray, regularisation: float) -> np.ndarray:
    """One E-step: gains ``v_j R_j (sum_j v_j R_j + regularisation I)^-1`` applied to the mixture.

    The inverse is taken in float64: a centred song makes the 2 x 2 covariance nearly singular.
    """
    channels = mixture.shape[0]
    if channels > 2:
        raise ValueError(f"the Wiener filter handles one or two channels, not {channels}")
    power = np.square(estimates.real, dtype=np.float64) + np.square(estimates.imag, dtype=np.float64)
    power = power.mean(axis=1)  # [S, T, F]
    # Hermitian, so three numbers describe the 2 x 2 mixture covariance: a, d real and b complex; each [T, F]
    a = np.einsum("stf,sf->tf", power, model[:, 0, 0].real) + regularisation
    if channels == 1:
        whitened = mixture / a
    else:
        d = np.einsum("stf,sf->tf", power, model[:, 1, 1].real) + regularisation
        b = np.einsum("stf,sf->tf", power, model[:, 0, 1])
        determinant = a * d - (np.square(b.real) + np.square(b.imag))
        left, right = mixture
        whitened = np.stack([d * left - b * right, a * right - b.conj() * left]) / determinant
    out = np.empty(estimates.shape, np.complex64)
    for source, (gain, spatial) in enumerate(zip(power, model, strict=True)):
        for i in range(channels):
            out[source, i] = gain * sum(spatial[i, k] * whitened[k] for k in range(channels))
    return out
