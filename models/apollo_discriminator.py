"""The discriminator that Apollo is trained against: does a spectrogram show real music, at seven resolutions?

Layer by layer as ``MultiFrequencyDiscriminator`` of JusperLee/Apollo, so that its weights load by name.
"""

import zlib

import numpy as np
import paddle
from paddle import nn

from models import card, onednn
from models.apollo_config import REFERENCE_RATE, DiscriminatorConfig
from models.demucs_layers import Conv2d, torch_init_
from models.layers import he_uniform, total
from models.spectrum import STFT

_FIRST, _LEVELS = 8, 6  # channels after the first convolution, and how many of them there are
_SLOPE = 0.2
_POWER_EPSILON = float(np.finfo(np.float32).eps)
_NORM_EPSILON = 1e-12
_ZERO = nn.initializer.Constant(0.0)


class SpectralConv2d(nn.Layer):
    """A 3×3 convolution whose weight is divided by its largest singular value: ``[B, C, H, W] -> [B, K, H', W']``.

    Miyato et al.: "Spectral Normalization for Generative Adversarial Networks", 2018, as ``torch.nn.utils
    .spectral_norm`` has it: the singular vectors ``weight_u`` ``[K]`` and ``weight_v`` ``[9·C]`` are kept, come nearer
    by one step in every pass in training, and stay as they are in evaluation. Both give the same value to a pass, but
    no gradient.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride = stride
        self.bias = self.create_parameter([outputs], is_bias=True, default_initializer=_ZERO)
        self.weight_orig = self.create_parameter([outputs, inputs, 3, 3], default_initializer=_ZERO)
        self.register_buffer("weight_u", paddle.zeros([outputs]))
        self.register_buffer("weight_v", paddle.zeros([9 * inputs]))

    def initialise_(self, seed: int, name: str) -> None:
        """PyTorch's first values: those of any convolution, and random directions."""
        fan_in = int(np.prod(self.weight_orig.shape[1:]))
        for key, parameter in (("weight", self.weight_orig), ("bias", self.bias)):
            parameter.set_value(he_uniform(parameter.shape, 6 * fan_in, seed, f"{name}.{key}"))
        for key, vector in (("u", self.weight_u), ("v", self.weight_v)):
            generator = np.random.default_rng([seed, zlib.crc32(f"{name}.weight_{key}".encode())])
            direction = generator.standard_normal(vector.shape)
            vector.set_value((direction / np.linalg.norm(direction)).astype(np.float32))

    def weight(self) -> paddle.Tensor:
        """The weight of one pass; in training the singular vectors come nearer."""
        matrix = self.weight_orig.flatten(1)  # [K, 9·C]
        if self.training:
            self._approach(matrix.detach())
        image = paddle.matmul(matrix, self.weight_v.unsqueeze(1)).squeeze(1)
        return self.weight_orig / (self.weight_u * image).sum()

    @paddle.no_grad()
    def _approach(self, matrix: paddle.Tensor) -> None:
        self.weight_v = _direction(paddle.matmul(self.weight_u.unsqueeze(0), matrix).squeeze(0))
        self.weight_u = _direction(paddle.matmul(matrix, self.weight_v.unsqueeze(1)).squeeze(1))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if onednn.usable(x):
            return onednn.conv2d(x, self.weight(), self.bias, (self.stride, self.stride), (1, 1, 1, 1))
        return card.conv2d(x, self.weight(), self.bias, self.stride, 1)


def _direction(x: paddle.Tensor) -> paddle.Tensor:
    """A vector of length 1."""
    return x / paddle.clip(paddle.sqrt(x.square().sum()), min=_NORM_EPSILON)


class FrequencyDiscriminator(nn.Layer):
    """One resolution: planes ``[B, P, F, T]`` to the verdict ``[B, 1, F', T']`` and what is between, six maps."""

    def __init__(self, planes: int):
        super().__init__()
        widths = [planes, *(_FIRST * 2**level for level in range(_LEVELS))]
        self.discriminator = nn.LayerList(
            nn.Sequential(SpectralConv2d(widths[level], widths[level + 1], 1 + level % 2), nn.LeakyReLU(_SLOPE))
            for level in range(_LEVELS)
        )
        self.discriminator.append(Conv2d(widths[-1], 1, (3, 3), padding=(1, 1)))

    def forward(self, x: paddle.Tensor) -> tuple[paddle.Tensor, list[paddle.Tensor]]:
        maps = []
        for layer in self.discriminator:
            x = layer(x)
            maps.append(x)
        return x, maps[:-1]


class MultiFrequencyDiscriminator(nn.Layer):
    """How real music is at each resolution: waveforms ``[B, C, N]`` to a list of verdicts, and one of lists of maps.

    Examples are brought to power 1 first. N must be more than half the longest window.

    Args:
        config: see :class:`models.apollo_config.DiscriminatorConfig`
        name: what messages call it
    """

    def __init__(self, config: DiscriminatorConfig | None = None, name: str = "apollo_discriminator"):
        super().__init__()
        self.config = config = config or DiscriminatorConfig()
        self.description = config.describe(name)
        self.transforms = [STFT(size, size // 2) for size in config.window]
        self.discriminators = nn.LayerList(FrequencyDiscriminator(2 * config.nch) for _ in config.window)
        torch_init_(self, config.seed)
        for place, layer in self.named_sublayers():
            if isinstance(layer, SpectralConv2d):
                layer.initialise_(config.seed, place)

    def forward(
        self, x: paddle.Tensor, sample_rate: int = REFERENCE_RATE
    ) -> tuple[list[paddle.Tensor], list[list[paddle.Tensor]]]:
        """Verdicts ``[B, 1, F, T]`` and maps ``[B, channels, F, T]`` of waveforms ``[B, C, N]``.

        Below a ``sample_rate`` of 44100 Hz that share of the bins is seen, the lowest ones, as in the original.

        Raises:
            ValueError: another number of channels than ``nch``
        """
        batch, channels, _ = x.shape
        if channels != self.config.nch:
            raise ValueError(f"{channels} channels came, the discriminator is for {self.config.nch}")
        x = x / paddle.sqrt(total(x.square().flatten(1)) + _POWER_EPSILON).unsqueeze(2)
        verdicts, maps = [], []
        for transform, discriminator in zip(self.transforms, self.discriminators, strict=True):
            z = transform.forward(x)  # [B, C, 2, F, T]
            z = z.reshape([batch, 2 * channels, *z.shape[3:]])
            seen = int(z.shape[2] * sample_rate / REFERENCE_RATE)
            verdict, between = discriminator(z if seen >= z.shape[2] else card.cut(z, 2, 0, seen))
            verdicts.append(verdict)
            maps.append(between)
        return verdicts, maps
