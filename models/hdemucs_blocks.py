"""Layers of the hybrid networks: what encoder and decoder are made of in both branches.

Défossez: "Hybrid Spectrogram and Waveform Source Separation", ISMIR 2021 MDX workshop; layer by layer as in
facebookresearch/demucs 4. Layers of the spectrogram's branch work on ``[B, C, F, T]``, those of the waveform's, and of
both where one frequency is left, on ``[B, C, N]``.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import paddle
from paddle import nn

from models import card
from models.demucs_blocks import GELU, GLU, Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, DConv
from models.demucs_layers import trim
from models.layers import GroupNorm


@dataclass(frozen=True)
class LayerShape:
    """What a layer of the encoder and its counterpart in the decoder have in common.

    Attributes:
        kernel, stride: along frequency or, without ``freq``, time
        freq: a layer of the spectrogram's branch with frequencies left
        pad: what the kernel reaches beyond its stride is shared out to both ends
        margin: how much that is at each end of the decoder's result
        norm: with group normalisation
        norm_groups: of the channels
        rewrite: with a second convolution
        dconv: of its residual branches, see :class:`models.demucs_blocks.DConv`
    """

    kernel: int
    stride: int
    freq: bool
    pad: bool
    margin: int
    norm: bool
    norm_groups: int
    rewrite: bool = True
    dconv: dict[str, Any] = field(default_factory=dict)

    def normalisation(self, channels: int) -> nn.Layer:
        """Group normalisation or nothing."""
        return GroupNorm(self.norm_groups, channels) if self.norm else nn.Identity()


class _Layer(nn.Layer):
    def __init__(self, shape: LayerShape):
        super().__init__()
        self.shape = shape
        self.activate, self.gate = GELU(), GLU(1)
        self.rewrite = self.dconv = None

    def _refine(self, x: paddle.Tensor) -> paddle.Tensor:
        """The residual branches; each frequency by itself."""
        if self.dconv is None or not self.shape.freq:
            return x if self.dconv is None else self.dconv(x)
        batch, channels, rows, frames = x.shape
        x = self.dconv(x.transpose([0, 2, 1, 3]).reshape([batch * rows, channels, frames]))
        return x.reshape([batch, rows, channels, frames]).transpose([0, 2, 1, 3])


class EncoderLayer(_Layer):
    """A convolution with a stride, residual branches, a second convolution.

    ``[B, C, F, T] -> [B, K, F / stride, T]``, or ``[B, C, N] -> [B, K, ⌈N / stride⌉]``.

    Args:
        inputs, outputs: C and K
        shape: of the layer
        dconv: with residual branches
        context: neighbours on each side that the second convolution sees
        empty: only the first convolution, for what is added to the other branch
        idle_norm: an empty layer holds a norm that it never uses, as torchaudio's does
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        shape: LayerShape,
        dconv: bool,
        context: int = 0,
        empty: bool = False,
        idle_norm: bool = False,
    ):
        super().__init__(shape)
        self.empty = empty
        padding = shape.kernel // 4 if shape.pad else 0
        if shape.freq:
            self.conv = Conv2d(inputs, outputs, (shape.kernel, 1), (shape.stride, 1), (padding, 0))
        else:
            self.conv = Conv1d(inputs, outputs, shape.kernel, shape.stride, padding)
        if not empty or idle_norm:
            self.norm1 = shape.normalisation(outputs)
        if empty:
            return
        if shape.rewrite:
            width = 2 * context + 1
            if shape.freq:
                self.rewrite = Conv2d(outputs, 2 * outputs, (width, width), padding=(context, context))
            else:
                self.rewrite = Conv1d(outputs, 2 * outputs, width, padding=context)
            self.norm2 = shape.normalisation(2 * outputs)
        if dconv:
            self.dconv = DConv(outputs, **shape.dconv)

    def forward(self, x: paddle.Tensor, inject: paddle.Tensor | None = None) -> paddle.Tensor:
        """``inject``: what comes from the other branch, without an axis of frequencies, added to the convolution."""
        if not self.shape.freq:
            if x.ndim == 4:
                x = x.flatten(1, 2)  # one frequency is left
            x = card.pad(x, 0, -x.shape[2] % self.shape.stride)
        y = self.conv(x)
        if self.empty:
            return y
        if inject is not None:
            y = y + (inject.unsqueeze(2) if y.ndim == 4 else inject)
        y = self._refine(self.activate(self.norm1(y)))
        return y if self.rewrite is None else self.gate(self.norm2(self.rewrite(y)))


class DecoderLayer(_Layer):
    """The counterpart of :class:`EncoderLayer`, from K to C channels, with a transposed convolution at the end.

    Args:
        inputs, outputs: K and C
        shape: of the layer
        dconv: with residual branches
        context: neighbours on each side that the second convolution, here the first, sees
        context_freq: also across frequencies
        empty: only the transposed convolution
        last: without activation
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        shape: LayerShape,
        dconv: bool,
        context: int = 1,
        context_freq: bool = True,
        empty: bool = False,
        last: bool = False,
    ):
        super().__init__(shape)
        self.inputs, self.empty, self.last = inputs, empty, last
        if shape.freq:
            self.conv_tr = ConvTranspose2d(inputs, outputs, (shape.kernel, 1), (shape.stride, 1))
        else:
            self.conv_tr = ConvTranspose1d(inputs, outputs, shape.kernel, shape.stride)
        self.norm2 = shape.normalisation(outputs)
        if empty:
            return
        if shape.rewrite:
            width, across = 2 * context + 1, context if context_freq else 0
            if shape.freq:
                self.rewrite = Conv2d(inputs, 2 * inputs, (2 * across + 1, width), padding=(across, context))
            else:
                self.rewrite = Conv1d(inputs, 2 * inputs, width, padding=context)
            self.norm1 = shape.normalisation(2 * inputs)
        if dconv:
            self.dconv = DConv(inputs, **shape.dconv)

    def forward(
        self, x: paddle.Tensor | None, skip: paddle.Tensor | None, length: int | None
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Result, and what went into the transposed convolution.

        Args:
            x: from the layer before; None: nothing
            skip: from the encoder; None in an empty layer
            length: of the result, in layers along time
        """
        if x is not None and self.shape.freq and x.ndim == 3:
            x = x.reshape([x.shape[0], self.inputs, -1, x.shape[2]])
        if skip is not None:
            x = skip if x is None else x + skip
        if self.rewrite is not None:
            x = self.gate(self.norm1(self.rewrite(x)))
        x = self._refine(x)
        first = last = self.shape.margin
        if not self.shape.freq:
            last = (x.shape[2] - 1) * self.shape.stride + self.shape.kernel - first - length
        if isinstance(self.norm2, nn.Identity):  # nobody looks at the margins, so they need not be computed
            y = self.conv_tr(x, (first, last))
        else:
            y = trim(self.norm2(self.conv_tr(x)), first, last)
        return (y if self.last else self.activate(y)), x


class MultiWrap(nn.Layer):
    """A layer with weights of its own in every band of frequencies, joined without seams.

    With equal weights in all bands it is the layer itself. Kernel twice the stride.

    Args:
        kind: :class:`EncoderLayer` or :class:`DecoderLayer`
        arguments: of the layer
        shares: where the bands end, of all frequencies; the last band ends with them
    """

    def __init__(self, kind: type, arguments: dict[str, Any], shares: tuple[float, ...]):
        super().__init__()
        self.shares, self.last = (*shares, 1), arguments.get("last", False)
        shape = replace(arguments["shape"], pad=False, margin=0)
        self.stride, self.kernel = shape.stride, shape.kernel
        arguments = {**arguments, "shape": shape} | ({"last": True} if kind is DecoderLayer else {})
        self.layers = nn.LayerList([kind(**arguments) for _ in self.shares])
        self.encodes, self.activate = kind is EncoderLayer, GELU()

    def forward(self, x: paddle.Tensor, *others: Any) -> Any:
        """As the layer's; a band of an encoder takes nothing from the other branch."""
        return self._encode(x) if self.encodes else (self._decode(x, others[0]), None)

    def _encode(self, x: paddle.Tensor) -> paddle.Tensor:
        """``[B, C, F, T] -> [B, K, F / stride, T]``; a band ends where a kernel does, and the next overlaps with it."""
        rows, padding, start, bands = x.shape[2], self.kernel // 4, 0, []
        for number, share in enumerate(self.shares):
            layer = self.layers[number]
            end, before = rows, padding if start == 0 else 0
            if share != 1:
                steps = round((round(rows * share) - start + before - self.kernel) / self.stride + 1)
                end = start + (steps - 1) * self.stride + self.kernel - before
            if not start < end <= rows or end - start + before < self.kernel - padding:
                raise ValueError(f"multi_freqs: {rows} frequencies are too few for bands that end at {self.shares}")
            band = card.pad(card.cut(x, 2, start, end), before, padding if share == 1 else 0, axis=2)
            bands.append(layer(band))
            start = end - self.kernel + self.stride
        return paddle.concat(bands, axis=2)

    def _decode(self, x: paddle.Tensor, skip: paddle.Tensor) -> paddle.Tensor:
        """``[B, K, F, T] -> [B, C, F·stride, T]``; where the results of two bands overlap they are added."""
        rows, start, pieces, tail = skip.shape[2], 0, [], None
        for number, share in enumerate(self.shares):
            layer = self.layers[number]
            end = rows if share == 1 else round(rows * share)
            band = None if x is None else card.cut(x, 2, start, end)
            y, _ = layer(band, card.cut(skip, 2, start, end), None)
            size = y.shape[2] - self.stride
            if tail is None:
                pieces.append(card.cut(y, 2, self.stride // 2, size))
            else:
                bias = layer.conv_tr.bias.reshape([1, -1, 1, 1])  # which both bands have added
                pieces.append(tail + card.cut(y, 2, 0, self.stride) - bias)
                if size > self.stride:
                    pieces.append(card.cut(y, 2, self.stride, size))
            tail, start = card.cut(y, 2, size, size + self.stride), end
        pieces.append(card.cut(tail, 2, 0, self.stride - (self.stride + 1) // 2))
        y = paddle.concat(pieces, axis=2)
        return y if self.last else self.activate(y)


class ScaledEmbedding(nn.Layer):
    """A learned vector for every frequency, stored divided by ``scale`` so that it learns faster.

    Args:
        count, dim: frequencies and channels
        scale: factor of what is stored
        smooth: neighbours start alike
    """

    def __init__(self, count: int, dim: int, scale: float = 10.0, smooth: bool = False):
        super().__init__()
        self.embedding = nn.Embedding(count, dim)
        self.scale, self.smooth = scale, smooth

    def adjust_initial_(self) -> None:
        """Turns independent normal values into a random walk of steady size, where smooth."""
        weight = self.embedding.weight.numpy()
        if self.smooth:
            weight = np.cumsum(weight, axis=0) / np.sqrt(np.arange(1, len(weight) + 1, dtype=np.float32))[:, None]
        self.embedding.weight.set_value(weight / np.float32(self.scale))

    def forward(self, rows: int, weight: float) -> paddle.Tensor:
        """The first vectors as ``[1, dim, rows, 1]``, times ``weight``."""
        vectors = card.cut(self.embedding.weight, 0, 0, rows) * (self.scale * weight)
        return vectors.transpose([1, 0]).unsqueeze([0, 3])
