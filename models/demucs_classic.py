"""The first two generations of Demucs, whose decoder convolutions have no padding, so that the stems come out shorter.

Défossez, Usunier, Bottou, Bach: "Music Source Separation in the Waveform Domain", 2019; layer by layer as
``demucs.model.Demucs`` of facebookresearch/demucs 1 and 2. An input of ``valid_length(n)`` samples gives at least n,
those of its middle (:func:`models.demucs.center_trim`).
"""

import paddle
from paddle import nn

from models import card
from models.demucs import center_trim, loudness
from models.demucs_blocks import BLSTM, GLU, Conv1d, ConvTranspose1d, rescale_module, torch_init_
from models.demucs_config import DemucsV1Config, DemucsV2Config
from models.demucs_resample import downsample2, upsample2


class _Classic(nn.Layer):
    """Encoder, LSTM and decoder of both generations, under the names and in the order of the originals."""

    def __init__(self, config: DemucsV1Config | DemucsV2Config, name: str):
        super().__init__()
        self.config, self.description = config, config.describe(name)
        upsample = getattr(config, "upsample", False)
        encoder, decoder = [], []
        inputs, stems = config.audio_channels, len(config.sources) * config.audio_channels
        for level, width in enumerate(config.widths()):
            outputs = inputs if level else config.channels if upsample else stems
            encoder.append(nn.Sequential(*self._down(inputs, width, upsample)))
            decoder.append(nn.Sequential(*self._up(width, outputs, level == 0, upsample)))
            inputs = width
        self.encoder, self.decoder = nn.LayerList(encoder), nn.LayerList(reversed(decoder))
        self.final = Conv1d(config.channels + config.audio_channels, stems, 1) if upsample else None
        self.lstm = BLSTM(inputs, config.lstm_layers) if config.lstm_layers else None
        torch_init_(self, config.seed)
        if config.rescale:
            rescale_module(self, config.rescale)

    def _down(self, inputs: int, width: int, upsample: bool) -> list[nn.Layer]:
        config = self.config
        layers = [Conv1d(inputs, width, config.kernel_size, 1 if upsample else config.stride), nn.ReLU()]
        return layers + self._rewrite(width, 1) if config.rewrite else layers

    def _up(self, width: int, outputs: int, last: bool, upsample: bool) -> list[nn.Layer]:
        config = self.config
        layers = self._rewrite(width, config.context) if config.rewrite else []
        if upsample:
            layers.append(Conv1d(width, outputs, config.kernel_size))
        else:
            layers.append(ConvTranspose1d(width, outputs, config.kernel_size, config.stride))
        return layers if last else [*layers, nn.ReLU()]

    def _rewrite(self, width: int, taps: int) -> list[nn.Layer]:
        if self.config.glu:
            return [Conv1d(width, 2 * width, taps), GLU(1)]
        return [Conv1d(width, width, taps), nn.ReLU()]

    def _run(self, x: paddle.Tensor) -> paddle.Tensor:
        """``[B, C, N] -> [B, S·C, M]`` without decimation."""
        skips = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
        if self.lstm is not None:
            x = self.lstm(x)
        for level in self.decoder:
            x = level(x + center_trim(skips.pop(), x.shape[2]))
        return x

    def _stems(self, x: paddle.Tensor) -> paddle.Tensor:
        return x.reshape([0, len(self.config.sources), self.config.audio_channels, x.shape[2]])


class DemucsV1(_Classic):
    """The first generation, 2019: ``[B, C, N] -> [B, S, C, M]`` waveforms, the M samples in the middle.

    Args:
        config: see :class:`models.demucs_config.DemucsV1Config`
        name: registry name
    """

    def valid_length(self, length: int) -> int:
        """How many samples give at least ``length``, and leave no rest to the strides."""
        config = self.config
        if not config.upsample:
            return _classic_length(config, length)
        for _ in range(config.depth):
            length = max(-(-length // config.stride) + config.kernel_size - 1, 1) + config.context - 1
        for _ in range(config.depth):
            length = length * config.stride + config.kernel_size - 1
        return length

    def forward(self, mix: paddle.Tensor) -> paddle.Tensor:
        return self._stems(self._decimated(mix) if self.config.upsample else self._run(mix))

    def _decimated(self, mix: paddle.Tensor) -> paddle.Tensor:
        """As Wave-U-Net: every ``stride``-th sample goes down, straight lines between them go up."""
        x, skips, stride = mix, [mix], self.config.stride
        for level in self.encoder:
            x = level(x)
            skips.append(x)
            x = _decimate(x, stride)
        if self.lstm is not None:
            x = self.lstm(x)
        for level in self.decoder:
            x = _interpolate(x, stride)
            x = level(x + center_trim(skips.pop(), x.shape[2]))
        return self.final(paddle.concat([x, center_trim(skips.pop(), x.shape[2])], axis=1))


class DemucsV2(_Classic):
    """The second generation, 2021, at twice the sample rate: ``[B, C, N] -> [B, S, C, M]``, the samples in the middle.

    Args:
        config: see :class:`models.demucs_config.DemucsV2Config`
        name: registry name
    """

    def valid_length(self, length: int) -> int:
        """How many samples give at least ``length``, and leave no rest to the strides."""
        if not self.config.resample:
            return _classic_length(self.config, length)
        return -(-_classic_length(self.config, 2 * length) // 2)

    def forward(self, mix: paddle.Tensor) -> paddle.Tensor:
        config = self.config
        if config.normalize:
            mean, deviation = loudness(mix)
            x = (mix - mean) / (deviation + 1e-5)
        else:
            x = mix * (1 / (1 + 1e-5))  # the original guards a division by 1, too
        x = downsample2(self._run(upsample2(x))) if config.resample else self._run(x)
        if config.normalize:
            x = x * deviation + mean
        return self._stems(x)


def _classic_length(config: DemucsV1Config | DemucsV2Config, length: int) -> int:
    for _ in range(config.depth):
        length = max(-(-(length - config.kernel_size) // config.stride) + 1, 1) + config.context - 1
    for _ in range(config.depth):
        length = (length - 1) * config.stride + config.kernel_size
    return length


def _decimate(x: paddle.Tensor, stride: int) -> paddle.Tensor:
    """``x[..., ::stride]``, made of a reshape and a cut, which every device has."""
    count = -(-x.shape[2] // stride)
    whole = card.pad(x, 0, count * stride - x.shape[2]).reshape([0, x.shape[1], count, stride])
    return card.cut(whole, 3, 0, 1).squeeze(3)


def _interpolate(x: paddle.Tensor, stride: int) -> paddle.Tensor:
    """``[B, C, N] -> [B, C, (N - 1)·stride]``: straight lines from each sample to the next, the last one left out."""
    size = x.shape[2]
    start, end = card.cut(x, 2, 0, size - 1).unsqueeze(3), card.cut(x, 2, 1, size).unsqueeze(3)
    share = paddle.to_tensor([k / stride for k in range(stride)], dtype=x.dtype, place=x.place)
    return (start * (1.0 - share) + end * share).reshape([0, x.shape[1], (size - 1) * stride])
