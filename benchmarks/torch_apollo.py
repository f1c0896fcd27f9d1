"""The rival: Apollo, its discriminator and their losses in PyTorch eager mode, layer by layer as in JusperLee/Apollo.

Both networks take the weights by the original's names. As there, every band has its own small layers, one after the
other, features are ``[B, N, T]``, layers with one tap are ``torch.nn.Conv1d``, attention is PyTorch's own, and a step
of training passes both halves of a pair through the discriminator twice.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

HEADS, TAPS, POSITIONS, SLOPE = 8, 7, 100, 0.2
EPSILON = torch.finfo(torch.float32).eps

Maps = Sequence[Sequence[torch.Tensor]]


def spectrogram(x: torch.Tensor, size: int) -> torch.Tensor:
    """``[R, N]`` to complex ``[R, F, T]``."""
    window = torch.hann_window(size, device=x.device)
    return torch.stft(x, size, size // 2, window=window, return_complex=True)


# ------------------------------------------------------------------------------------------------------------ generator


class _RMSNorm(nn.Module):
    """``[B, N, T]``, over the second axis."""

    def __init__(self, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-5) * self.weight[:, None]


class _Bands(nn.Module):
    """Attention over the last axis of ``[B, N, K]``, and the gated layer behind it."""

    def __init__(self, features: int):
        super().__init__()
        self.size = features // HEADS
        self.register_buffer("cos_freq", torch.empty(POSITIONS, self.size))
        self.register_buffer("sin_freq", torch.empty(POSITIONS, self.size))
        self.input_norm = _RMSNorm(features)
        self.weight = nn.Conv1d(features, 3 * self.size * HEADS, 1, bias=False)
        self.output = nn.Conv1d(self.size * HEADS, features, 1, bias=False)
        self.MLP = nn.Sequential(_RMSNorm(features), nn.Conv1d(features, 8 * features, 1, bias=False), nn.SiLU())
        self.MLP_output = nn.Conv1d(4 * features, features, 1, bias=False)

    def turn(self, x: torch.Tensor) -> torch.Tensor:
        """Pairs of features ``[B, heads, K, size]`` turned by the angles of their places."""
        bands = x.shape[2]
        first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
        quarter = torch.stack([-second, first], dim=-1).flatten(-2)
        return x * self.cos_freq[:bands] + quarter * self.sin_freq[:bands]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.weight(self.input_norm(x)).unflatten(1, (HEADS, 3 * self.size)).transpose(2, 3)
        query, key, value = heads.split(self.size, dim=-1)
        query, key = self.turn(query).contiguous(), self.turn(key).contiguous()
        mixed = F.scaled_dot_product_attention(query, key, value.contiguous())
        x = x + self.output(mixed.transpose(2, 3).flatten(1, 2))
        gate, value = self.MLP(x).chunk(2, dim=1)
        return x + self.MLP_output(F.silu(gate) * value)


class _Block(nn.Module):
    """``[B, N, T]``, over time."""

    def __init__(self, features: int):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(features, features, TAPS, padding=TAPS // 2, groups=features),
            _RMSNorm(features),
            nn.Conv1d(features, 4 * features, 1),
            nn.SiLU(),
            nn.Conv1d(4 * features, features, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x)


class _Times(nn.Module):
    def __init__(self, features: int):
        super().__init__()
        self.blocks = nn.Sequential(*(_Block(features) for _ in range(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


class _Layer(nn.Module):
    """``[B, K, N, T] -> [B, K, N, T]``."""

    def __init__(self, features: int):
        super().__init__()
        self.band_net, self.seq_net = _Bands(features), _Times(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, bands, features, frames = x.shape
        frame = x.permute(0, 3, 2, 1).reshape(-1, features, bands)
        x = self.band_net(frame).view(batch, frames, features, bands).permute(0, 3, 2, 1)
        return self.seq_net(x.reshape(-1, features, frames)).view(batch, bands, features, frames)


class TorchApollo(nn.Module):
    """Waveforms ``[B, C, N] -> [B, C, N]``.

    Args:
        config: options of our network
        widths: bins in each of its bands
        arrays: weights by the original's names
    """

    def __init__(self, config: Mapping[str, Any], widths: Sequence[int], arrays: Mapping[str, Any]):
        super().__init__()
        features = config["feature_dim"]
        self.size, self.widths = int(config["sr"] * config["win"] // 1000), list(widths)
        self.BN = nn.ModuleList(
            nn.Sequential(_RMSNorm(2 * width + 1), nn.Conv1d(2 * width + 1, features, 1)) for width in widths
        )
        self.net = nn.Sequential(*(_Layer(features) for _ in range(config["layer"])))
        self.output = nn.ModuleList(
            nn.Sequential(_RMSNorm(features), nn.Conv1d(features, 4 * width, 1), nn.GLU(1)) for width in widths
        )
        self.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Signals ``[R, N]`` to ``[R, K, N', T]``."""
        features = []
        for band, layer in zip(spectrogram(x, self.size).split(self.widths, dim=1), self.BN, strict=True):
            power = torch.sqrt(band.abs().square().sum(1, keepdim=True) + EPSILON)
            features.append(layer(torch.cat([band.real / power, band.imag / power, torch.log(power)], dim=1)))
        return torch.stack(features, dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.net(self.features(x.flatten(0, 1)))
        bands = []
        for band, layer in zip(features.unbind(1), self.output, strict=True):
            bands.append(torch.complex(*layer(band).chunk(2, dim=1)))
        window = torch.hann_window(self.size, device=x.device)
        spectrum = torch.cat(bands, dim=1)
        return torch.istft(spectrum, self.size, self.size // 2, window=window, length=x.shape[2]).view_as(x)


# -------------------------------------------------------------------------------------------------------- discriminator


class _Resolution(nn.Module):
    """Planes ``[B, P, F, T]`` to the verdict and six maps."""

    def __init__(self, planes: int):
        super().__init__()
        widths = [planes, 8, 16, 32, 64, 128, 256]
        self.discriminator = nn.ModuleList(
            nn.Sequential(
                nn.utils.spectral_norm(nn.Conv2d(widths[place], widths[place + 1], 3, 1 + place % 2, 1)),
                nn.LeakyReLU(SLOPE, inplace=True),
            )
            for place in range(len(widths) - 1)
        )
        self.discriminator.append(nn.Conv2d(widths[-1], 1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        maps = []
        for layer in self.discriminator:
            maps.append(x := layer(x))
        return x, maps[:-1]


class TorchDiscriminator(nn.Module):
    """Waveforms ``[B, C, N]`` to verdicts and maps at each resolution.

    Args:
        channels: C
        windows: samples of a frame at each resolution
        arrays: weights by the original's names
    """

    def __init__(self, channels: int, windows: Sequence[int], arrays: Mapping[str, Any]):
        super().__init__()
        self.windows = list(windows)
        self.discriminators = nn.ModuleList(_Resolution(2 * channels) for _ in windows)
        self.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
        x = x / torch.sqrt(x.square().sum((1, 2), keepdim=True) + EPSILON)
        verdicts, maps = [], []
        for size, layer in zip(self.windows, self.discriminators, strict=True):
            z = spectrogram(x.flatten(0, 1), size)
            planes = torch.stack([z.real, z.imag], dim=1).view(len(x), -1, *z.shape[1:])
            verdict, between = layer(planes)
            verdicts.append(verdict)
            maps.append(between)
        return verdicts, maps


# ------------------------------------------------------------------------------------------------------------- training


def frequency_error(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Distance of magnitudes in shares of the target's, mean over seven resolutions."""
    total = 0.0
    for power in range(5, 12):
        ours, theirs = (spectrogram(x.flatten(0, 1), 2**power).abs() for x in (output, target))
        total = total + (ours - theirs).abs().mean() / (theirs.abs().mean() + EPSILON)
    return total / 7


def discriminator_loss(real: Sequence[torch.Tensor], fake: Sequence[torch.Tensor]) -> torch.Tensor:
    """Least squares: 1 is wanted for real music, 0 for fakes."""
    wanted = [(each - 1).square().mean() for each in real], [each.square().mean() for each in fake]
    return sum(sum(each) / len(each) for each in wanted)


def generator_loss(
    verdicts: Sequence[torch.Tensor], fake: Maps, real: Maps, output: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of the generator, and the terms that it is the sum of."""
    pairs = [pair for both in zip(fake, real, strict=True) for pair in zip(*both, strict=True)]
    shares = [(a - b.detach()).abs().mean() / (b.detach().abs().mean() + 1e-8) for a, b in pairs]
    terms = {
        "freq_mae": frequency_error(output, target),
        "adversarial": sum((each - 1).square().mean() for each in verdicts) / len(verdicts),
        "features": sum(shares) / len(shares),
    }
    return sum(terms.values()), terms


class TorchAdversaries:
    """Both networks and their optimisers, trained as in the original's Lightning module.

    Args:
        train: the section of our configuration
        generator, discriminator: the networks
    """

    def __init__(self, train: Any, generator: TorchApollo, discriminator: TorchDiscriminator):
        self.networks = generator, discriminator
        self.limits = train.clip, train.discriminator.clip
        self.optimizers = [
            torch.optim.AdamW(
                network.parameters(), keys.lr, tuple(keys.betas), keys.epsilon, weight_decay=keys.weight_decay
            )
            for network, keys in zip(self.networks, (train, train.discriminator), strict=True)
        ]

    def step(self, codec: torch.Tensor, original: torch.Tensor) -> dict[str, float]:
        """Updates the discriminator, then the generator; the losses of both, ``[B, C, N]`` each."""
        generator, discriminator = self.networks
        self.optimizers[0].zero_grad()
        output = generator(codec)
        self.optimizers[1].zero_grad()
        fake, real = discriminator(output.detach())[0], discriminator(original)[0]
        against = discriminator_loss(real, fake)
        against.backward()
        self._update(1)

        (verdicts, maps), (_, wanted) = discriminator(output), discriminator(original)
        loss, terms = generator_loss(verdicts, maps, wanted, output, original)
        loss.backward()
        self._update(0)
        values = {"loss": loss, **terms, "discriminator": against}
        return {name: value.item() for name, value in values.items()}

    def _update(self, which: int) -> None:
        nn.utils.clip_grad_norm_(self.networks[which].parameters(), self.limits[which])
        self.optimizers[which].step()
