"""The rival: RMVPE in PyTorch eager mode, layer by layer as in yxlllc/RMVPE, from the waveform to the pitch.

It takes the weights by the original's names. As there, a song goes through the network as one piece.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from dsp.mel import mel_filters
from dsp.salience import CENTS_PER_BIN, FIRST_CENTS
from models.rmvpe_config import HIDDEN, PITCHES

_IDLE = "unet.tf."  # weights of blocks that E2E0 has and does not use
_PLANES, _MOMENTUM = 3, 0.01


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=_MOMENTUM)


class _Residual(nn.Module):
    """``[B, inputs, T, F] -> [B, outputs, T, F]``."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), _norm(outputs), nn.ReLU()]
        self.conv = nn.Sequential(*layers)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + self.shortcut(x)


def _residuals(inputs: int, outputs: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Residual(outputs if block else inputs, outputs) for block in range(count)))


class _Level(nn.Module):
    """A level of the encoder, or one between encoder and decoder."""

    def __init__(self, inputs: int, outputs: int, blocks: int):
        super().__init__()
        self.conv = _residuals(inputs, outputs, blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class _UpLevel(nn.Module):
    """A level of the decoder: twice the frames and bands, half the channels."""

    def __init__(self, inputs: int, stride: tuple[int, int], blocks: int):
        super().__init__()
        outputs, ends = inputs // 2, tuple(step - 1 for step in stride)
        up = nn.ConvTranspose2d(inputs, outputs, 3, stride, padding=1, output_padding=ends, bias=False)
        self.conv1 = nn.Sequential(up, _norm(outputs), nn.ReLU())
        self.conv2 = _residuals(2 * outputs, outputs, blocks)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.conv2(torch.cat([self.conv1(x), skip], dim=1))


class _Encoder(nn.Module):
    def __init__(self, widths: list[int], blocks: int):
        super().__init__()
        self.bn = _norm(1)
        self.layers = nn.ModuleList(_Level(*pair, blocks) for pair in zip([1, *widths], widths, strict=False))


class _Levels(nn.Module):
    def __init__(self, levels: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(levels)


class _UNet(nn.Module):
    """``[B, 1, T, F] -> [B, channels, T, F]``."""

    def __init__(self, config: Mapping[str, Any]):
        super().__init__()
        blocks, self.pool = config["n_blocks"], tuple(config["kernel_size"])
        widths = [config["en_out_channels"] * 2**level for level in range(config["en_de_layers"])]
        deepest = 2 * widths[-1]
        between = [widths[-1], *[deepest] * (config["inter_layers"] - 1)]
        self.encoder = _Encoder(widths, blocks)
        self.intermediate = _Levels([_Level(inputs, deepest, blocks) for inputs in between])
        self.decoder = _Levels([_UpLevel(2 * width, self.pool, blocks) for width in reversed(widths)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, skips = self.encoder.bn(x), []
        for level in self.encoder.layers:
            skips.append(level(x))
            x = F.avg_pool2d(skips[-1], self.pool)
        for level in self.intermediate.layers:
            x = level(x)
        for level in self.decoder.layers:
            x = level(x, skips.pop())
        return x


class _BiGRU(nn.Module):
    def __init__(self, inputs: int, layers: int):
        super().__init__()
        self.gru = nn.GRU(inputs, HIDDEN, layers, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gru(x)[0]


class TorchRMVPE(nn.Module):
    """Log-mel spectrograms ``[B, mel bands, T]`` to the salience ``[B, T, 360]``; T a multiple of 32.

    Args:
        config: options of our network, as its description has them; it has a recurrent layer
        arrays: weights by the original's names
    """

    def __init__(self, config: Mapping[str, Any], arrays: Mapping[str, Any]):
        super().__init__()
        self.config = config
        self.unet = _UNet(config)
        self.cnn = nn.Conv2d(config["en_out_channels"], _PLANES, 3, padding=1)
        recurrent = _BiGRU(_PLANES * config["n_mels"], config["n_gru"])
        dropout = nn.Dropout(config["dropout"])
        self.fc = nn.Sequential(recurrent, nn.Linear(2 * HIDDEN, PITCHES), dropout, nn.Sigmoid())
        state = {name: torch.from_numpy(array) for name, array in arrays.items() if not name.startswith(_IDLE)}
        found = self.load_state_dict(state, strict=False)
        missing = [name for name in found.missing_keys if not name.endswith("num_batches_tracked")]
        if missing or found.unexpected_keys:
            raise ValueError(f"not the weights of this network: {missing} {found.unexpected_keys}")
        rate, window, f_min, f_max = (config[key] for key in ("sample_rate", "window", "f_min", "f_max"))
        bank = torch.from_numpy(mel_filters(rate, window, config["n_mels"], f_min, f_max).copy())
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("hann", torch.hann_window(window), persistent=False)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        planes = self.cnn(self.unet(mel.transpose(1, 2).unsqueeze(1)))
        return self.fc(planes.transpose(1, 2).flatten(2))

    def log_mel(self, audio: torch.Tensor) -> torch.Tensor:
        """``[B, N]`` at the network's rate to ``[B, mel bands, T]``."""
        size, hop = self.config["window"], self.config["hop_length"]
        magnitude = torch.stft(audio, size, hop, window=self.hann, return_complex=True).abs()
        return (self.bank @ magnitude).clamp(min=1e-5).log()

    def track(self, audio: torch.Tensor, threshold: float = 0.03) -> tuple[torch.Tensor, torch.Tensor]:
        """f0 in Hz (0 where nothing is sung) and the highest salience of each frame, ``[T]``, of a song ``[1, N]``."""
        mel = self.log_mel(audio)
        frames = mel.shape[2]
        salience = self(F.pad(mel, (0, -frames % 32), mode="reflect"))[0, :frames]
        confidence, centre = salience.max(dim=1, keepdim=True)
        bins = torch.arange(PITCHES)
        weights = salience * ((bins - centre).abs() <= 4)
        cents = (weights * (CENTS_PER_BIN * bins + FIRST_CENTS)).sum(1) / weights.sum(1).clamp(min=1e-30)
        confidence = confidence[:, 0]
        return 10 * 2 ** (cents / 1200) * (confidence >= threshold), confidence
