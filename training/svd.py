"""A penalty on the largest singular value of every big weight, as Demucs is trained with (``svd.penalty``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from data.sampler import generator
from models.demucs_layers import ConvTranspose1d, ConvTranspose2d

PENALTY = 11  # stream of `data.sampler.generator`: whether a step has the penalty
_MEGABYTE = 2**18  # float32 values
_TRANSPOSED = (nn.Conv1DTranspose, nn.Conv2DTranspose, ConvTranspose1d, ConvTranspose2d)
_NEGLIGIBLE = 1e-6  # of the largest eigenvalue: directions below are rounding errors of a float32 product


@dataclass(frozen=True)
class SVDPenalty:
    """The options of the configuration group ``svd``.

    Attributes:
        penalty: factor of the sum in the loss; 0 is off
        min_size: smallest weight that counts, in MB of float32
        dim: directions of the randomised estimate
        niters: its power iterations
        powm: power iteration on the Gram matrix instead of the subspace
        proba: share of the steps that have the penalty, which then counts 1/proba
        conv_only: leave out matrices (linear layers, recurrent layers)
        convtr: read a transposed convolution's weight as the convolution that it is the transpose of
        bs: starting vectors of ``powm``
    """

    penalty: float = 0.0
    min_size: float = 0.1
    dim: int = 1
    niters: int = 2
    powm: bool = False
    proba: float = 1.0
    conv_only: bool = False
    convtr: bool = True
    bs: int = 1

    def is_due(self, seed: int, epoch: int, position: int) -> bool:
        """Whether a step has the penalty: a function of its place only, hence the same in all processes."""
        return self.penalty > 0 and generator(seed, PENALTY, epoch, position).random() <= self.proba

    def estimate(self, model: nn.Layer) -> paddle.Tensor:
        """The sum of the squared largest singular values over ``proba``, a scalar with a gradient.

        Paddle's random numbers are the starting vectors. The left singular vector u is found without a gradient; then
        ‖Aᵀu‖² is the estimate: where u is right its derivative by u vanishes, so the gradient is that of σ².
        """
        squares = [self._square(matrix) for matrix in self.matrices(model)]
        return paddle.stack(squares).sum() * (1.0 / self.proba) if squares else paddle.zeros([])

    def exact(self, model: nn.Layer) -> float:
        """The sum of the squared largest singular values over ``proba``, from the whole spectrum, in doubles."""
        return float(sum(largest_square(matrix.numpy()) for matrix in self.matrices(model)) / self.proba)

    def matrices(self, model: nn.Layer) -> Iterator[paddle.Tensor]:
        """The weights that count, as matrices ``[outputs, rest]``."""
        seen: set[int] = set()
        for layer in model.sublayers(include_self=True):
            for weight in layer.parameters(include_sublayers=False):
                if id(weight) in seen or weight.stop_gradient:
                    continue
                seen.add(id(weight))
                if weight.size / _MEGABYTE < self.min_size or weight.ndim < 2 or (weight.ndim == 2 and self.conv_only):
                    continue
                if self.convtr and isinstance(layer, _TRANSPOSED):
                    weight = weight.transpose([1, 0, *range(2, weight.ndim)])
                yield weight.reshape([weight.shape[0], -1])

    def _square(self, matrix: paddle.Tensor) -> paddle.Tensor:
        if self.powm:
            return _power_square(matrix, self.niters, self.bs)
        left = _top_direction(matrix.detach(), self.dim, self.niters)  # [m, 1]
        image = paddle.matmul(matrix, left, transpose_x=True)  # [n, 1]
        return (image * image).sum()


def largest_square(matrix: np.ndarray) -> float:
    """The squared largest singular value of a matrix ``[m, n]``."""
    from scipy.linalg import eigvalsh

    matrix = matrix.astype(np.float64)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    last = len(gram) - 1
    return float(eigvalsh(gram, subset_by_index=[last, last])[0])


@paddle.no_grad()
def _top_direction(matrix: paddle.Tensor, dim: int, iterations: int) -> paddle.Tensor:
    """Unit vector ``[m, 1]``: the best left singular vector in a random subspace that A Aᵀ was applied to.

    Halko, Martinsson, Tropp (2011), "Finding structure with randomness", algorithms 4.4 and 5.1. Only products run on
    the device; the small eigenproblems (``dim`` rows) are the host's, which every device has.
    """
    rows, columns = matrix.shape
    basis = _orthonormal(paddle.matmul(matrix, paddle.randn([columns, min(dim, rows, columns)])))
    for _ in range(iterations):
        basis = _orthonormal(paddle.matmul(matrix, paddle.matmul(matrix, basis, transpose_x=True)))
    inside = paddle.matmul(matrix, basis, transpose_x=True)  # [n, k]
    _, vectors = np.linalg.eigh(_gram(inside))
    return paddle.matmul(basis, _tensor(vectors[:, -1:]))


def _orthonormal(columns: paddle.Tensor) -> paddle.Tensor:
    """An orthonormal basis of the space of ``columns [m, k]``, without what is lost in rounding."""
    values, vectors = np.linalg.eigh(_gram(columns))
    kept = values > max(values[-1], 0.0) * _NEGLIGIBLE
    kept[-1] = True  # a weight of zeros keeps one direction, too
    scale = np.sqrt(np.maximum(values[kept], np.finfo(np.float32).tiny))
    return paddle.matmul(columns, _tensor(vectors[:, kept] / scale))


def _gram(columns: paddle.Tensor) -> np.ndarray:
    return paddle.matmul(columns, columns, transpose_x=True).numpy().astype(np.float64)


def _tensor(values: np.ndarray) -> paddle.Tensor:
    return paddle.to_tensor(np.ascontiguousarray(values, np.float32))


def _power_square(matrix: paddle.Tensor, iterations: int, starts: int) -> paddle.Tensor:
    """The mean norm of the last product of the power method on AᵀA (or AAᵀ, whichever is smaller)."""
    wide = matrix.shape[0] < matrix.shape[1]

    def gram(vectors: paddle.Tensor) -> paddle.Tensor:
        return paddle.matmul(matrix, paddle.matmul(matrix, vectors, transpose_x=wide), transpose_x=not wide)

    with paddle.no_grad():
        vectors = paddle.randn([min(matrix.shape), starts])
        for _ in range(iterations - 1):
            image = gram(vectors)
            vectors = image / (_norms(image) + 1e-10)
    return _norms(gram(vectors)).mean()


def _norms(vectors: paddle.Tensor) -> paddle.Tensor:
    return (vectors * vectors).sum(axis=0, keepdim=True).sqrt()
