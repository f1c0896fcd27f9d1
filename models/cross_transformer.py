"""The transformer between the branches of Hybrid Transformer Demucs.

Rouard, Massa, Défossez: "Hybrid Transformers for Music Source Separation", ICASSP 2023; layer by layer as in
facebookresearch/demucs 4. One branch holds the tokens of the spectrogram, the other those of the waveform; layers in
which each looks at itself alternate with layers in which each looks at the other.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from models import card, cross_masks, cross_positions
from models.attention import Linear, MultiheadAttention, SparseAttention
from models.demucs_blocks import LayerScale
from models.demucs_layers import gelu
from models.dropout import dropout
from models.layers import GroupNorm


def _constant(values: np.ndarray, like: paddle.Tensor) -> paddle.Tensor:
    return paddle.to_tensor(values, place=like.place)


@dataclass(frozen=True)
class LayerOptions:
    """What the layers of a cross-transformer have in common.

    Attributes:
        dim: channels of a token
        heads: independent attentions in a layer
        hidden: channels between the two linear layers
        dropout: probability, after every step of a layer and on the attention's weights
        gelu: GELU or else ReLU between the linear layers
        group_norm: groups of channels that are normalised over all tokens; 0: each token by itself
        norm_first: normalise what goes into a step, or else what comes out
        norm_out: groups of channels in one more normalisation at the end of a layer, only with ``norm_first``; 0: none,
            and so is every even number: the original asks for its last bit
        layer_scale: a learned factor for every channel of what a step adds, 1e-4 at first
        sparse: attention of some keys only
        mask_type, sparse_attn_window, global_window, sparsity, mask_random_seed: see :mod:`models.cross_masks`
        auto_sparsity: choose the keys by what they hold, see :class:`models.attention.SparseAttention`
    """

    dim: int
    heads: int
    hidden: int
    dropout: float = 0.0
    gelu: bool = True
    group_norm: int = 0
    norm_first: bool = True
    norm_out: int = 0
    layer_scale: bool = True
    sparse: bool = False
    mask_type: str = "diag"
    mask_random_seed: int = 42
    sparse_attn_window: int = 500
    global_window: int = 50
    sparsity: float = 0.95
    auto_sparsity: bool = False

    def attention(self) -> nn.Layer:
        """A new attention layer."""
        if self.sparse:
            return SparseAttention(self.dim, self.heads, self.dropout, self.sparsity if self.auto_sparsity else 0.0)
        return MultiheadAttention(self.dim, self.heads, self.dropout)

    def norm(self) -> nn.Layer:
        """A new normalisation of what goes into a step, or comes out of it."""
        return TokenGroupNorm(self.group_norm, self.dim) if self.group_norm else nn.LayerNorm(self.dim)

    def mask(self, queries: paddle.Tensor, keys: paddle.Tensor) -> paddle.Tensor | None:
        """``[Q, K]`` of zeros and ones, where attention is sparse and its pattern fixed."""
        if not self.sparse or self.auto_sparsity:
            return None
        pattern = self.sparse_attn_window, self.global_window, self.sparsity, self.mask_random_seed
        seen = cross_masks.mask(queries.shape[1], keys.shape[1], self.mask_type, *pattern)
        return _constant(seen.astype(np.float32), queries)


class TokenGroupNorm(GroupNorm):
    """Normalisation of groups of channels over all tokens together, ``[B, T, C] -> [B, T, C]``."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.groups != 1:
            return super().forward(x.transpose([0, 2, 1])).transpose([0, 2, 1])
        flat = x.flatten(1)
        return F.layer_norm(flat, flat.shape[1:], epsilon=self.epsilon).reshape(x.shape) * self.weight + self.bias


class _Layer(nn.Layer):
    """Attention and two linear layers, each added to its input; subclasses say who looks at whom."""

    def __init__(self, options: LayerOptions, attention: str, norms: int):
        super().__init__()
        self.options = options
        self.add_sublayer(attention, options.attention())
        self.linear1 = Linear(options.dim, options.hidden)
        self.linear2 = Linear(options.hidden, options.dim)
        for number in range(1, norms + 1):
            self.add_sublayer(f"norm{number}", options.norm())
        last = options.norm_out if options.norm_first and options.norm_out % 2 else 0
        self.norm_out = TokenGroupNorm(last, options.dim) if last else None
        scaled = options.layer_scale
        self.gamma_1 = LayerScale(options.dim, 1e-4, channel_last=True) if scaled else nn.Identity()
        self.gamma_2 = LayerScale(options.dim, 1e-4, channel_last=True) if scaled else nn.Identity()

    def _drop(self, x: paddle.Tensor) -> paddle.Tensor:
        return dropout(x, self.options.dropout, self.training) if self.options.dropout else x

    def _look(self, attention: nn.Layer, query: paddle.Tensor, key: paddle.Tensor) -> paddle.Tensor:
        mask = self.options.mask(query, key)
        looked = attention(query, key) if mask is None else attention(query, key, mask)
        return self.gamma_1(self._drop(looked))

    def _think(self, x: paddle.Tensor) -> paddle.Tensor:
        activate = gelu if self.options.gelu else F.relu
        return self.gamma_2(self._drop(self.linear2(self._drop(activate(self.linear1(x))))))

    def _finish(self, x: paddle.Tensor) -> paddle.Tensor:
        return x if self.norm_out is None else self.norm_out(x)


class SelfLayer(_Layer):
    """A branch looks at itself, ``[B, T, C] -> [B, T, C]``: PyTorch's encoder layer with factors and a last norm."""

    def __init__(self, options: LayerOptions):
        super().__init__(options, "self_attn", norms=2)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.options.norm_first:
            normed = self.norm1(x)
            x = x + self._look(self.self_attn, normed, normed)
            return self._finish(x + self._think(self.norm2(x)))
        x = self.norm1(x + self._look(self.self_attn, x, x))
        return self.norm2(x + self._think(x))


class CrossLayer(_Layer):
    """A branch looks at the other one, ``[B, T, C]``, ``[B, K, C]`` to ``[B, T, C]``.

    ``norm3`` has no use where norms come last, but is in checkpoints.
    """

    def __init__(self, options: LayerOptions):
        super().__init__(options, "cross_attn", norms=3)

    def forward(self, x: paddle.Tensor, other: paddle.Tensor) -> paddle.Tensor:
        if self.options.norm_first:
            x = x + self._look(self.cross_attn, self.norm1(x), self.norm2(other))
            return self._finish(x + self._think(self.norm3(x)))
        x = self.norm1(x + self._look(self.cross_attn, x, other))
        return self.norm2(x + self._think(x))


class ScaledPositions(nn.Layer):
    """A learned embedding of every position, stored divided by ``boost`` so that it learns faster.

    Args:
        count: number of positions
        dim: channels
        scale: deviation at first
        boost: factor of what is stored
    """

    def __init__(self, count: int, dim: int, scale: float = 0.2, boost: float = 3.0):
        super().__init__()
        self.embedding = nn.Embedding(count, dim)
        self.scale, self.boost = scale, boost

    def adjust_initial_(self) -> None:
        """Divides the standard normal values that the embedding starts with."""
        self.embedding.weight.set_value(self.embedding.weight.numpy() * np.float32(self.scale / self.boost))

    def forward(self, steps: int) -> paddle.Tensor:
        """The first ``steps`` positions, ``[steps, dim]``."""
        if steps > self.embedding.weight.shape[0]:
            raise ValueError(f"{steps} steps are more than the {self.embedding.weight.shape[0]} of t_max_positions")
        return card.cut(self.embedding.weight, 0, 0, steps) * self.boost


class CrossTransformer(nn.Layer):
    """Tokens of the spectrogram ``[B, C, F, T]`` and of the waveform ``[B, C, N]``, refined; same shapes.

    Args:
        options: of the layers; their ``sparse`` is set for each kind of layer
        layers: in each branch
        cross_first: begin with a layer in which the branches look at each other
        emb: positions in the waveform, ``sin``, ``cape`` (also uncertain in training) or ``scaled`` (learned); the
            spectrogram's are always waves
        norm_in: normalise the tokens first
        norm_in_group: groups of channels normalised over all tokens instead, unless ``norm_in``; 0: none
        max_positions: with ``scaled``
        max_period: longest wavelength, positions·2π
        sin_random_shift: with ``sin``, the first position in training is drawn from 0 to this
        weight_pos_embed: factor of the embeddings
        cape_mean_normalize, cape_augment, cape_glob_loc_scale: with ``cape``: positions around 0; make them uncertain
            in training; by how much, see :func:`models.cross_positions.cape`
        sparse_self_attn, sparse_cross_attn: which layers are sparse
    """

    def __init__(
        self,
        options: LayerOptions,
        layers: int,
        cross_first: bool = False,
        emb: str = "sin",
        norm_in: bool = True,
        norm_in_group: int = 0,
        max_positions: int = 1000,
        max_period: float = 10000.0,
        sin_random_shift: int = 0,
        weight_pos_embed: float = 1.0,
        cape_mean_normalize: bool = True,
        cape_augment: bool = True,
        cape_glob_loc_scale: tuple[float, float, float] = (5000.0, 1.0, 1.4),
        sparse_self_attn: bool = False,
        sparse_cross_attn: bool = False,
    ):
        super().__init__()
        self.emb, self.max_period, self.weight_pos_embed = emb, max_period, weight_pos_embed
        self.sin_random_shift = sin_random_shift
        self.cape_mean_normalize, self.cape_augment = cape_mean_normalize, cape_augment
        self.cape_glob_loc_scale = tuple(cape_glob_loc_scale)
        if emb == "scaled":
            self.position_embeddings = ScaledPositions(max_positions, options.dim)
        self.norm_in, self.norm_in_t = (_norm_in(options.dim, norm_in, norm_in_group) for _ in range(2))
        self.crosses = [number % 2 == (0 if cross_first else 1) for number in range(layers)]
        both = {True: (CrossLayer, sparse_cross_attn), False: (SelfLayer, sparse_self_attn)}
        kinds = [both[crosses] for crosses in self.crosses]
        self.layers = nn.LayerList([kind(_with(options, sparse)) for kind, sparse in kinds])
        self.layers_t = nn.LayerList([kind(_with(options, sparse)) for kind, sparse in kinds])

    def initialise_(self, seed: int, name: str) -> None:
        """First values of the attention layers, see :meth:`models.attention.MultiheadAttention.initialise_`."""
        for inner, layer in self.named_sublayers(prefix=name):
            if isinstance(layer, MultiheadAttention):
                layer.initialise_(seed, inner)

    def unused_parameters(self, with_t: bool = True) -> list[paddle.Tensor]:
        """Parameters that no gradient ever reaches: ``norm3`` where norms come last.

        Without a use of the waveform's tokens also the layers behind the last look at them (``with_t=False``).
        """
        last = len(self.crosses)
        while not with_t and last and not self.crosses[last - 1]:
            last -= 1
        last -= not with_t and last > 0  # its own last look, too
        unused = [parameter for layer in list(self.layers_t)[last:] for parameter in layer.parameters()]
        if not with_t and not any(self.crosses):
            unused += self.norm_in_t.parameters()
            unused += self.position_embeddings.parameters() if self.emb == "scaled" else []
        for layer in [*self.layers, *list(self.layers_t)[:last]]:
            if isinstance(layer, CrossLayer) and not layer.options.norm_first:
                unused += layer.norm3.parameters()
        return unused

    def forward(self, x: paddle.Tensor, xt: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        batch, dim, height, width = x.shape
        x = self.norm_in(x.transpose([0, 3, 2, 1]).reshape([batch, width * height, dim]))  # [B, T·F, C]
        plane = cross_positions.plane_waves(height, width, dim, self.max_period)
        x = x + _constant(plane * np.float32(self.weight_pos_embed), x)
        xt = self.norm_in_t(xt.transpose([0, 2, 1]))  # [B, N, C]
        xt = xt + self._positions(xt)
        for number, crosses in enumerate(self.crosses):
            layer, layer_t = self.layers[number], self.layers_t[number]
            x, xt = (layer(x, xt), layer_t(xt, x)) if crosses else (layer(x), layer_t(xt))
        return x.reshape([batch, width, height, dim]).transpose([0, 3, 2, 1]), xt.transpose([0, 2, 1])

    def _positions(self, tokens: paddle.Tensor) -> paddle.Tensor:
        """Embeddings of the waveform's tokens ``[B, N, C]``, for each example or for all."""
        batch, steps, dim = tokens.shape
        if self.emb == "scaled":
            return self.position_embeddings(steps) * self.weight_pos_embed
        if self.emb == "cape":
            disorder = self.cape_glob_loc_scale if self.training and self.cape_augment else None
            rng, examples = (None, 1) if disorder is None else (_drawn(), batch)
            centred = self.cape_mean_normalize
            values = cross_positions.cape(steps, dim, examples, self.max_period, centred, disorder, rng)
        else:
            shift = int(_drawn().integers(self.sin_random_shift + 1)) if self.training and self.sin_random_shift else 0
            values = cross_positions.waves(steps, dim, shift, self.max_period)
        return _constant(values * np.float32(self.weight_pos_embed), tokens)


def _norm_in(dim: int, each: bool, groups: int) -> nn.Layer:
    if each:
        return nn.LayerNorm(dim)
    return TokenGroupNorm(int(groups), dim) if groups else nn.Identity()


def _with(options: LayerOptions, sparse: bool) -> LayerOptions:
    values: dict[str, Any] = {**vars(options), "sparse": sparse}
    return LayerOptions(**values)


def _drawn() -> np.random.Generator:
    """A generator that follows Paddle's own, so that a seeded run repeats itself."""
    return np.random.default_rng(int(paddle.rand([1], "float32").item() * 2**24))
