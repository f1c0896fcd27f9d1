"""Blocks shared by the Demucs networks: residual branches with LSTMs and local attention.

Défossez: "Hybrid Spectrogram and Waveform Source Separation", ISMIR 2021 MDX workshop; layer by layer as in
facebookresearch/demucs 4. Layers have the names and the order of the original, so its weights load by name.
"""

import math

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from models import card, onednn, onednn_pointwise
from models.demucs_layers import (
    GELU,
    GLU,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    rescale_module,
    torch_init_,
)
from models.layers import GroupNorm
from models.recurrent import LSTM

__all__ = [
    "BLSTM",
    "GELU",
    "GLU",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "DConv",
    "LayerScale",
    "LocalState",
    "rescale_module",
    "torch_init_",
]

_ITSELF = -100.0  # score of a place with itself, so that attention looks elsewhere


class LayerScale(nn.Layer):
    """A learned factor for each channel, small at first: ``[B, C, ...]``, or ``[..., C]`` with ``channel_last``."""

    def __init__(self, channels: int, init: float = 0.0, channel_last: bool = False):
        super().__init__()
        self.channel_last = channel_last
        self.scale = self.create_parameter([channels], default_initializer=nn.initializer.Constant(init))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.channel_last and onednn.usable(x):
            return onednn_pointwise.scale_last(x, self.scale)
        return x * (self.scale if self.channel_last else self.scale.reshape([-1, *[1] * (x.ndim - 2)]))


class BLSTM(nn.Layer):
    """A bidirectional LSTM and a linear layer back to the channels of its input, ``[B, C, T] -> [B, C, T]``.

    Args:
        dim: C, also the state of each direction
        layers: of the LSTM
        max_steps: a longer input is cut into windows of so many steps, one every half window, and what is less than a
            quarter of a window from a cut is taken from the neighbour; a multiple of 4
        skip: add the input to the result

    Raises:
        ValueError: ``max_steps`` is no multiple of 4
    """

    def __init__(self, dim: int, layers: int = 1, max_steps: int | None = None, skip: bool = False):
        super().__init__()
        if max_steps is not None and max_steps % 4:
            raise ValueError(f"max_steps={max_steps} must be a multiple of 4")
        self.max_steps, self.skip = max_steps, skip
        self.lstm = LSTM(dim, dim, layers, direction="bidirect", time_major=True)
        self.lstm._sub_layers.clear()  # Paddle's cells hold the same parameters under second names
        self.linear = nn.Linear(2 * dim, dim)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.max_steps is None or x.shape[2] <= self.max_steps:
            y = self._run(x)
        else:
            y = self._in_windows(x, self.max_steps // 2)
        return x + y if self.skip else y

    def _run(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.linear(self.lstm(x.transpose([2, 0, 1]))[0]).transpose([1, 2, 0])

    def _in_windows(self, x: paddle.Tensor, hop: int) -> paddle.Tensor:
        batch, channels, steps = x.shape
        count = -(-steps // hop)
        halves = card.pad(x, 0, (count + 1) * hop - steps).reshape([batch, channels, count + 1, hop])
        windows = paddle.concat([card.cut(halves, 2, 0, count), card.cut(halves, 2, 1, count + 1)], axis=3)
        windows = windows.transpose([0, 2, 1, 3]).reshape([batch * count, channels, 2 * hop])
        y = self._run(windows).reshape([batch, count, channels, 2 * hop]).transpose([0, 2, 1, 3])
        edge = hop // 2
        inner = card.cut(y, 3, edge, edge + hop).reshape([batch, channels, count * hop])
        first = card.cut(card.cut(y, 2, 0, 1), 3, 0, edge).squeeze(2)
        last = card.cut(card.cut(y, 2, count - 1, count), 3, edge + hop, 2 * hop).squeeze(2)
        return card.cut(paddle.concat([first, inner, last], axis=2), 2, 0, steps)


class LocalState(nn.Layer):
    """Attention that fades with distance at a rate that each place chooses, ``[B, C, T] -> [B, C, T]``; no positions.

    Args:
        channels: C, a multiple of ``heads``
        heads: of the attention
        nfreqs: also weigh the places by so many waves of whole periods 1, 2, …
        ndecay: rates of fading among which a place mixes; 0 for none

    Raises:
        ValueError: the channels cannot be shared out to the heads
    """

    def __init__(self, channels: int, heads: int = 4, nfreqs: int = 0, ndecay: int = 4):
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be divided into {heads} heads")
        self.heads, self.nfreqs, self.ndecay = heads, nfreqs, ndecay
        self.content = Conv1d(channels, channels, 1)
        self.query = Conv1d(channels, channels, 1)
        self.key = Conv1d(channels, channels, 1)
        if nfreqs:
            self.query_freqs = Conv1d(channels, heads * nfreqs, 1)
        if ndecay:
            self.query_decay = Conv1d(channels, heads * ndecay, 1)
        self.proj = Conv1d(channels + heads * nfreqs, channels, 1)

    def adjust_initial_(self) -> None:
        """Starts with the widest view: hardly any fading, and the same one everywhere."""
        if self.ndecay:
            self.query_decay.weight.set_value(self.query_decay.weight.numpy() * np.float32(0.01))
            self.query_decay.bias.set_value(np.full(self.query_decay.bias.shape, -2.0, np.float32))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        batch, _, steps = x.shape
        distance = np.abs(np.arange(steps)[:, None] - np.arange(steps)).astype(np.float32)  # the same both ways
        query, key = self._per_head(self.query(x)), self._per_head(self.key(x))
        # [B, heads, T, T]: a row for each place that asks, with the scores of all the others
        scores = paddle.matmul(query * key.shape[2] ** -0.5, key, transpose_x=True)
        if self.nfreqs:
            periods = np.arange(1, self.nfreqs + 1).reshape(-1, 1, 1)
            waves = np.cos(2 * math.pi * distance / periods).astype(np.float32)  # [F, T, T]
            amounts = self._per_head(self.query_freqs(x)) * self.nfreqs**-0.5  # [B, heads, F, T]
            for k in range(self.nfreqs):
                scores = scores + _column(amounts, k) * self._tensor(waves[k], x)
        if self.ndecay:
            rates = np.arange(1, self.ndecay + 1, dtype=np.float32).reshape(1, 1, -1, 1) * (0.5 * self.ndecay**-0.5)
            shares = F.sigmoid(self._per_head(self.query_decay(x)))  # [B, heads, D, T]
            slope = (shares * self._tensor(rates, x)).sum(axis=2).unsqueeze(3)
            scores = scores - slope * self._tensor(distance, x)
        others = 1 - np.eye(steps, dtype=np.float32)
        scores = scores * self._tensor(others, x) + self._tensor((1 - others) * _ITSELF, x)
        weights = F.softmax(scores, axis=-1)
        result = paddle.matmul(self._per_head(self.content(x)), weights, transpose_y=True)
        if self.nfreqs:
            seen = [(weights * self._tensor(wave, x)).sum(axis=3) for wave in waves]
            result = paddle.concat([result, paddle.stack(seen, axis=2)], axis=2)
        return x + self.proj(result.reshape([batch, -1, steps]))

    def _per_head(self, x: paddle.Tensor) -> paddle.Tensor:
        return x.reshape([x.shape[0], self.heads, -1, x.shape[2]])

    @staticmethod
    def _tensor(values: np.ndarray, like: paddle.Tensor) -> paddle.Tensor:
        return paddle.to_tensor(values, place=like.place)


def _column(x: paddle.Tensor, index: int) -> paddle.Tensor:
    """``[B, heads, F, T] -> [B, heads, T, 1]``."""
    return card.cut(x, 2, index, index + 1).transpose([0, 1, 3, 2])


class DConv(nn.Layer):
    """Residual branches of dilated convolutions on few channels, one after the other, ``[B, C, T] -> [B, C, T]``.

    Args:
        channels: C
        compress: a branch works on ``int(C / compress)`` channels
        depth: number of branches; a negative number means as many without dilation, whatever ``dilate`` says, and a
            positive one with dilation 1, 2, 4, …, as in the original
        init: first value of the factors at the end of a branch
        norm: normalise over all channels and steps
        attn: with :class:`LocalState` of ``heads`` and ``ndecay``
        lstm: with a :class:`BLSTM` of two layers on windows of 200 steps, before the attention
        gelu: GELU or else ReLU after the first convolution
        kernel: of the first convolution; odd

    Raises:
        ValueError: an even kernel
    """

    def __init__(
        self,
        channels: int,
        compress: float = 4,
        depth: int = 2,
        init: float = 1e-4,
        norm: bool = True,
        attn: bool = False,
        heads: int = 4,
        ndecay: int = 4,
        lstm: bool = False,
        gelu: bool = True,
        kernel: int = 3,
        dilate: bool = True,
    ):
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        hidden = int(channels / compress)
        self.layers = nn.LayerList()
        for branch in range(abs(depth)):
            dilation = 2**branch if depth > 0 else 1
            layers = [
                Conv1d(channels, hidden, kernel, padding=dilation * (kernel // 2), dilation=dilation),
                GroupNorm(1, hidden) if norm else nn.Identity(),
                GELU() if gelu else nn.ReLU(),
            ]
            if lstm:
                layers.append(BLSTM(hidden, layers=2, max_steps=200, skip=True))
            if attn:
                layers.append(LocalState(hidden, heads=heads, ndecay=ndecay))
            layers += [
                Conv1d(hidden, 2 * channels, 1),
                GroupNorm(1, 2 * channels) if norm else nn.Identity(),
                GLU(1),
                LayerScale(channels, init),
            ]
            self.layers.append(nn.Sequential(*layers))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        for branch in self.layers:
            x = x + branch(x)
        return x
