"""The rival: BandSplitRNN in PyTorch eager mode, layer by layer as in amanteur/BandSplitRNN-Pytorch.

It takes the weights by the original's names. As there, every band has its own small layers, one after the other, and
every recurrent layer is ``torch.nn.LSTM``, which PyTorch gives to oneDNN.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class _Gated(nn.Module):
    def __init__(self, features: int):
        super().__init__()
        self.linear = nn.Linear(features, 2 * features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.glu(self.linear(x))


class _Split(nn.Module):
    """``[B, P, F, T] -> [B, K, T, N]``."""

    def __init__(self, widths: list[int], features: int, frames: int):
        super().__init__()
        self.widths = widths
        self.layernorms = nn.ModuleList(nn.LayerNorm([4 * width, frames]) for width in widths)
        self.fcs = nn.ModuleList(nn.Linear(4 * width, features) for width in widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bands = zip(x.split(self.widths, dim=2), self.layernorms, self.fcs, strict=True)
        return torch.stack([fc(norm(band.flatten(1, 2)).transpose(1, 2)) for band, norm, fc in bands], dim=1)


class _Recurrent(nn.Module):
    """``[B, K, T, N] -> [B, T, K, N]``, along the third axis."""

    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.groupnorm = nn.GroupNorm(features, features)
        self.rnn = nn.LSTM(features, hidden, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.groupnorm(x.flatten(0, 1).transpose(1, 2)).transpose(1, 2)
        y = self.fc(self.rnn(y)[0])
        return (y.view_as(x) + x).transpose(1, 2).contiguous()


class _Sequence(nn.Module):
    def __init__(self, features: int, hidden: int, layers: int):
        super().__init__()
        pairs = (nn.Sequential(_Recurrent(features, hidden), _Recurrent(features, hidden)) for _ in range(layers))
        self.bsrnn = nn.ModuleList(pairs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for pair in self.bsrnn:
            x = pair(x)
        return x


class _Mask(nn.Module):
    def __init__(self, features: int, hidden: int, outputs: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, outputs), _Gated(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(x)


class _Masks(nn.Module):
    """``[B, K, T, N]`` to the complex mask ``[B, C, F, T]``."""

    def __init__(self, widths: list[int], features: int, hidden: int, frames: int):
        super().__init__()
        self.layernorms = nn.ModuleList(nn.LayerNorm([frames, features]) for _ in widths)
        self.mlp = nn.ModuleList(_Mask(features, hidden, 4 * width) for width in widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = []
        for band, norm, mlp in zip(x.unbind(1), self.layernorms, self.mlp, strict=True):
            part = mlp(norm(band)).transpose(1, 2).unflatten(1, (2, 2, -1))  # [B, C, re|im, w, T]
            parts.append(torch.view_as_complex(part.permute(0, 1, 3, 4, 2).contiguous()))
        return torch.cat(parts, dim=2)


class TorchBSRNN(nn.Module):
    """Stereo mixtures ``[B, 2, N]`` to the target's spectrograms and waveforms.

    Args:
        config: options of our network; ``t_timesteps`` must be a number
        widths: bins in each of its bands
        arrays: weights by the original's names
    """

    def __init__(self, config: Mapping[str, Any], widths: list[int], arrays: Mapping[str, Any]):
        super().__init__()
        features, frames = config["fc_dim"], config["t_timesteps"]
        self.size, self.hop = config["n_fft"], config["hop_length"]
        self.bandsplit = _Split(widths, features, frames)
        self.bandsequence = _Sequence(features, config["rnn_dim"], config["num_layers"])
        self.maskest = _Masks(widths, features, config["mlp_dim"], frames)
        self.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        self.register_buffer("window", torch.hann_window(self.size), persistent=False)

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, C, N]`` to complex ``[B, C, F, T]``."""
        z = torch.stft(x.flatten(0, 1), self.size, self.hop, window=self.window, return_complex=True)
        return z.unflatten(0, x.shape[:2])

    def inverse(self, z: torch.Tensor, length: int) -> torch.Tensor:
        """Complex ``[B, C, F, T]`` to ``[B, C, length]``."""
        x = torch.istft(z.flatten(0, 1), self.size, self.hop, window=self.window, length=length)
        return x.unflatten(0, z.shape[:2])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = self.transform(x)
        mean, deviation = z.mean(dim=(1, 2, 3), keepdim=True), z.std(dim=(1, 2, 3), keepdim=True)
        normal = (z - mean) / (deviation + 1e-5)
        parts = torch.view_as_real(normal).permute(0, 1, 4, 2, 3).flatten(1, 2)  # [B, P, F, T]
        mask = self.maskest(self.bandsequence(self.bandsplit(parts)))
        z = mask * normal * deviation + mean
        return z, self.inverse(z, x.shape[2])


def loss(model: TorchBSRNN, mixture: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute differences of real parts, imaginary parts and waveforms, added up."""
    (z, x), wanted = model(mixture), model.transform(target)
    spectra = (z.real - wanted.real).abs().mean() + (z.imag - wanted.imag).abs().mean()
    return spectra + (x - model.inverse(wanted, mixture.shape[2])).abs().mean()
