"""Multi-head attention with the tensors of PyTorch's, and its sparse relative."""

import paddle
import paddle.nn.functional as F
from paddle import nn

from models import onednn, onednn_matmul
from models.dropout import FEW
from models.layers import he_uniform

_ZERO = nn.initializer.Constant(0.0)
_NEVER = -1e9  # score of a key that may not be seen: its weight rounds to nothing


def attend(
    query: paddle.Tensor,
    key: paddle.Tensor,
    value: paddle.Tensor,
    heads: int,
    dropout: float = 0.0,
    training: bool = False,
    mask: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """Each query's mixture of the values: ``[B, Q, C]``, ``[B, K, C]``, ``[B, K, C]`` to ``[B, Q, C]``.

    Args:
        heads: C is shared out to so many independent attentions
        dropout: probability that a weight is dropped, while ``training``
        mask: ``[..., Q, K]``, 1 where a key may be seen and 0 elsewhere; a query that sees none gets zeros
    """
    dropout = dropout if training else 0.0
    if mask is None and dropout <= FEW and onednn.usable(query):
        return onednn_matmul.attention(query, key, value, heads, dropout)
    query = _heads(query, heads) * (query.shape[2] // heads) ** -0.5  # [B, heads, Q, c]
    scores = paddle.matmul(query, _heads(key, heads), transpose_y=True)  # [B, heads, Q, K]
    if mask is not None:
        scores = scores * mask + (1 - mask) * _NEVER
    weights = F.softmax(scores, axis=-1)
    if mask is not None:
        weights = weights * mask
    if dropout:
        weights = F.dropout(weights, dropout)
    mixture = paddle.matmul(weights, _heads(value, heads))
    return mixture.transpose([0, 2, 1, 3]).flatten(2)


def _heads(x: paddle.Tensor, heads: int) -> paddle.Tensor:
    """``[B, T, C] -> [B, heads, T, C / heads]``."""
    return x.reshape([x.shape[0], x.shape[1], heads, -1]).transpose([0, 2, 1, 3])


def project(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, turned: bool = False) -> paddle.Tensor:
    """``[..., in] -> [..., out]`` with ``weight`` ``[in, out]`` (``turned``: ``[out, in]``) and ``bias`` ``[out]``."""
    if onednn.usable(x):
        return onednn_matmul.linear(x, weight, bias, turned)
    return paddle.matmul(x, weight, transpose_y=turned) + bias


class Linear(nn.Linear):
    """``nn.Linear`` in the quickest way that there is."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return project(x, self.weight, self.bias)


class MultiheadAttention(nn.Layer):
    """``torch.nn.MultiheadAttention`` on ``[B, T, C]``: values are the keys' tokens, no masks.

    ``in_proj_weight`` ``[3·C, C]`` (rows of query, key and value) and ``in_proj_bias`` ``[3·C]`` have its layout.

    Args:
        dim: C, a multiple of ``heads``
        heads: number of independent attentions
        dropout: probability that an attention weight is dropped in training
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = self.create_parameter([3 * dim, dim], default_initializer=_ZERO)
        self.in_proj_bias = self.create_parameter([3 * dim], is_bias=True, default_initializer=_ZERO)
        self.out_proj = Linear(dim, dim)

    def initialise_(self, seed: int, name: str) -> None:
        """PyTorch's first values, which differ from those of linear layers: Xavier's, and no biases."""
        shape = self.in_proj_weight.shape
        self.in_proj_weight.set_value(he_uniform(shape, sum(shape), seed, f"{name}.in_proj_weight"))
        self.in_proj_bias.set_value(paddle.zeros_like(self.in_proj_bias))
        self.out_proj.bias.set_value(paddle.zeros_like(self.out_proj.bias))

    def forward(self, query: paddle.Tensor, key: paddle.Tensor) -> paddle.Tensor:
        dim = query.shape[2]
        if query is key:
            q, k, v = project(query, self.in_proj_weight, self.in_proj_bias, turned=True).split(3, -1)
        else:
            weights = paddle.split(self.in_proj_weight, [dim, 2 * dim])
            biases = paddle.split(self.in_proj_bias, [dim, 2 * dim])
            q = project(query, weights[0], biases[0], turned=True)
            k, v = project(key, weights[1], biases[1], turned=True).split(2, -1)
        return self.out_proj(attend(q, k, v, self.heads, self.dropout, self.training))


class SparseAttention(nn.Layer):
    """Attention with a layer for each of its four projections, and keys that queries do not see.

    Args:
        dim, heads, dropout: as in :class:`MultiheadAttention`; here the result is dropped from, too
        sparsity: instead of a mask every head sees so small a share of its keys (1 − ``sparsity``), those that fall on
            the same side of random planes as the query most often; 0: all that the mask lets through
    """

    _HASHES, _DIRECTIONS = 32, 2

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, sparsity: float = 0.0):
        super().__init__()
        self.heads, self.dropout, self.sparsity = heads, dropout, sparsity
        self.q, self.k, self.v = Linear(dim, dim), Linear(dim, dim), Linear(dim, dim)
        self.proj = Linear(dim, dim)

    def forward(self, query: paddle.Tensor, key: paddle.Tensor, mask: paddle.Tensor | None = None) -> paddle.Tensor:
        q, k, v = self.q(query), self.k(key), self.v(key)
        dropout = self.dropout
        if self.sparsity:
            mask, dropout = self._alike(q.detach(), k.detach()), 0.0
        mixture = attend(q, k, v, self.heads, dropout, self.training, mask)
        return F.dropout(self.proj(mixture), self.dropout, training=self.training)

    def _alike(self, query: paddle.Tensor, key: paddle.Tensor) -> paddle.Tensor:
        """A mask ``[B, heads, Q, K]`` of the pairs with the most hashes in common.

        The original draws new directions in every pass and leaves the choice to a kernel that was never published.
        """
        query, key = _heads(query, self.heads), _heads(key, self.heads)
        directions = paddle.randn([query.shape[-1], self._HASHES * self._DIRECTIONS])
        common = paddle.matmul(self._hash(query, directions), self._hash(key, directions), transpose_y=True)
        flat = common.flatten(2)
        kept = max(round((1 - self.sparsity) * flat.shape[2]), 1)
        least = flat.topk(kept, axis=2)[0].min(axis=2, keepdim=True)  # [B, heads, 1]
        return (flat >= least).astype(query.dtype).reshape(common.shape)

    def _hash(self, x: paddle.Tensor, directions: paddle.Tensor) -> paddle.Tensor:
        """``[B, heads, T, c]`` to ``[B, heads, T, hashes·buckets]``, a one in each hash's bucket: the nearest axis."""
        along = paddle.matmul(x, directions).reshape([*x.shape[:3], self._HASHES, self._DIRECTIONS])
        bucket = paddle.concat([along, -along], axis=-1).argmax(axis=-1)
        return F.one_hot(bucket, 2 * self._DIRECTIONS).flatten(3)
