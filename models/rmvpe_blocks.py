"""The deep U-Net of RMVPE: residual blocks of convolutions, between pooling and its reverse.

Wei, Cao, Dan, Chen: "RMVPE: A Robust Model for Vocal Pitch Estimation in Polyphonic Music", Interspeech 2023; layer by
layer as in Dream-High/RMVPE and yxlllc/RMVPE. Layers have the names and the order of the originals, so their weights
load by name. Pictures are ``[B, channels, frames, mel bands]``.
"""

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import nn

from models import card, onednn, onednn_residual
from models.demucs_layers import Conv2d, ConvTranspose2d
from models.rmvpe_config import RMVPEConfig

_EPSILON = 1e-5


class BatchNorm2d(nn.Layer):
    """PyTorch's batch normalisation with momentum 0.01: ``[B, C, H, W] -> [B, C, H, W]``.

    Its running variance learns from the unbiased variance of a batch, Paddle's from the biased one. All four tensors
    ``[C]`` have PyTorch's names.

    Raises:
        ValueError: in training, one number a channel, which has no variance
    """

    kept = 0.99  # of the running statistics at each step

    def __init__(self, channels: int):
        super().__init__()
        self.weight = self.create_parameter([channels], default_initializer=nn.initializer.Constant(1.0))
        self.bias = self.create_parameter([channels], is_bias=True)
        self.register_buffer("running_mean", paddle.zeros([channels]))
        self.register_buffer("running_var", paddle.ones([channels]))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not self.training:
            return self._normalise(x, self.running_var)
        count = x.shape[0] * x.shape[2] * x.shape[3]
        if count < 2:
            raise ValueError("batch normalisation learns nothing from one number a channel: give it more frames")
        biased = self.running_var.clone()  # the gradient wants what was used to stay as it is
        y = self._normalise(x, biased)
        with paddle.no_grad():  # what the batch has brought lacks its share of 1 / (count - 1)
            brought = biased - self.running_var * self.kept
            paddle.assign(biased + brought * (1 / (count - 1)), self.running_var)
        return y

    def affine(self) -> tuple[paddle.Tensor, paddle.Tensor]:
        """The factor and the shift ``[C]`` that the layer is outside of training."""
        scale = self.weight * (self.running_var + _EPSILON).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def _normalise(self, x: paddle.Tensor, variance: paddle.Tensor) -> paddle.Tensor:
        how = {"training": self.training, "momentum": self.kept, "epsilon": _EPSILON}
        return F.batch_norm(x, self.running_mean, variance, self.weight, self.bias, **how)


class ConvBlockRes(nn.Layer):
    """Two convolutions with ReLU and a way past them: ``[B, inputs, T, F] -> [B, outputs, T, F]``."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Sequential(
            Conv2d(inputs, outputs, (3, 3), padding=(1, 1), bias=False),
            BatchNorm2d(outputs),
            nn.ReLU(),
            Conv2d(outputs, outputs, (3, 3), padding=(1, 1), bias=False),
            BatchNorm2d(outputs),
            nn.ReLU(),
        )
        self.shortcut = Conv2d(inputs, outputs, (1, 1)) if inputs != outputs else None

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.conv(x) + (x if self.shortcut is None else self.shortcut(x))

    def in_numbers(self) -> onednn_residual.Block:
        """What the block is outside of training."""
        first, norm, _, second, last_norm, _ = self.conv
        shortcut = None if self.shortcut is None else (self.shortcut.weight, self.shortcut.bias)
        return onednn_residual.Block(_fused(first, norm), _fused(second, last_norm), shortcut)


def _fused(convolution: Conv2d | ConvTranspose2d, norm: BatchNorm2d) -> onednn_residual.Convolution:
    return onednn_residual.Convolution(convolution.weight, *norm.affine())


def _fusible(layer: nn.Layer, x: paddle.Tensor) -> bool:
    """Whether oneDNN may compute several layers in one go: on the CPU, without gradients and outside of training."""
    return not (layer.training or paddle.is_grad_enabled()) and onednn.usable(x)


def _blocks(inputs: int, outputs: int, count: int) -> nn.LayerList:
    return nn.LayerList([ConvBlockRes(outputs if block else inputs, outputs) for block in range(count)])


def _follow(blocks: Sequence[ConvBlockRes], x: paddle.Tensor) -> paddle.Tensor:
    """Residual blocks one after the other."""
    if _fusible(blocks[0], x):
        return onednn_residual.residual(x, (block.in_numbers() for block in blocks))
    for block in blocks:
        x = block(x)
    return x


class ResEncoderBlock(nn.Layer):
    """``count`` residual blocks: ``[B, inputs, T, F] -> [B, outputs, T, F]``."""

    def __init__(self, inputs: int, outputs: int, count: int):
        super().__init__()
        self.conv = _blocks(inputs, outputs, count)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return _follow(self.conv, x)


class Encoder(nn.Layer):
    """Normalises the picture; a level doubles the channels and pools: the last result, and each before its pooling."""

    def __init__(self, config: RMVPEConfig):
        super().__init__()
        self.pool = list(config.kernel_size)
        self.bn = BatchNorm2d(1)
        widths = [1, *_widths(config)]
        self.layers = nn.LayerList(
            [ResEncoderBlock(*widths[k : k + 2], config.n_blocks) for k in range(len(widths) - 1)]
        )

    def forward(self, x: paddle.Tensor) -> tuple[paddle.Tensor, list[paddle.Tensor]]:
        x, skips = self.bn(x), []
        for layer in self.layers:
            skips.append(layer(x))
            x = F.avg_pool2d(skips[-1], self.pool)
        return x, skips


class Intermediate(nn.Layer):
    """Levels without pooling, the first of which doubles the channels."""

    def __init__(self, config: RMVPEConfig):
        super().__init__()
        width = _widths(config)[-1]
        inputs = [width, *[2 * width] * (config.inter_layers - 1)]
        self.layers = nn.LayerList([ResEncoderBlock(each, 2 * width, config.n_blocks) for each in inputs])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return _follow([block for layer in self.layers for block in layer.conv], x)


class TimbreFilter(nn.Layer):
    """A residual block for each of the encoder's results on their way to the decoder."""

    def __init__(self, config: RMVPEConfig):
        super().__init__()
        self.layers = nn.LayerList([ConvBlockRes(width, width) for width in _widths(config)])

    def forward(self, skips: list[paddle.Tensor]) -> list[paddle.Tensor]:
        return [_follow([layer], skip) for layer, skip in zip(self.layers, skips, strict=True)]


class Unpool(ConvTranspose2d):
    """``[B, C, T, F] -> [B, K, T·stride, F·stride]``: a transposed 3×3 convolution that ends on the stride."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]):
        super().__init__(inputs, outputs, (3, 3), stride, (1, 1), bias=False)
        height, width = (2 - step for step in stride)  # with stride 2 the last row stays: PyTorch's output_padding 1
        self.ends = [1, height, 1, width]

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if onednn.usable(x):
            return onednn.conv2d_transpose(x, self.weight, None, tuple(self.stride), tuple(self.ends))
        return card.conv2d_transpose(x, self.weight, None, self.stride, self.ends)


class ResDecoderBlock(nn.Layer):
    """Half the channels at the next finer level, joined with what the encoder has there, and ``count`` blocks."""

    def __init__(self, inputs: int, stride: tuple[int, int], count: int):
        super().__init__()
        outputs = inputs // 2
        self.conv1 = nn.Sequential(Unpool(inputs, outputs, stride), BatchNorm2d(outputs), nn.ReLU())
        self.conv2 = _blocks(2 * outputs, outputs, count)

    def forward(self, x: paddle.Tensor, skip: paddle.Tensor) -> paddle.Tensor:
        unpool, norm, _ = self.conv1
        if _fusible(self, x):
            x = onednn_residual.transposed(x, _fused(unpool, norm), tuple(unpool.stride), tuple(unpool.ends))
        else:
            x = self.conv1(x)
        return _follow(self.conv2, paddle.concat([x, skip], axis=1))


class Decoder(nn.Layer):
    """The levels of the encoder backwards: ``[B, 2^levels·C, T/2^levels, F/2^levels] -> [B, C, T, F]``."""

    def __init__(self, config: RMVPEConfig):
        super().__init__()
        inputs = [2 * width for width in reversed(_widths(config))]
        self.layers = nn.LayerList([ResDecoderBlock(each, config.kernel_size, config.n_blocks) for each in inputs])

    def forward(self, x: paddle.Tensor, skips: list[paddle.Tensor]) -> paddle.Tensor:
        for layer, skip in zip(self.layers, reversed(skips), strict=True):
            x = layer(x, skip)
        return x


class DeepUnet(nn.Layer):
    """``[B, 1, T, F] -> [B, en_out_channels, T, F]``; T a multiple of ``config.step``."""

    def __init__(self, config: RMVPEConfig):
        super().__init__()
        self.filters = config.timbre_filter == "used"
        self.encoder = Encoder(config)
        self.intermediate = Intermediate(config)
        if config.timbre_filter != "none":
            self.tf = TimbreFilter(config)
        self.decoder = Decoder(config)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x, skips = self.encoder(x)
        return self.decoder(self.intermediate(x), self.tf(skips) if self.filters else skips)


def _widths(config: RMVPEConfig) -> list[int]:
    """Channels of the levels of the encoder."""
    return [config.en_out_channels * 2**level for level in range(config.en_de_layers)]
