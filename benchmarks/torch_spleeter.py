"""The rival: the same Spleeter U-Net and the same separation written for PyTorch eager mode.

It takes the weights by their TensorFlow names, so that both sides compute with identical numbers, and it is written as
a competent user of PyTorch would write it (``inference_mode``, ``torch.stft``, one batch of segments a call).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FRAME, HOP = 4096, 1024


def _name(kind: str, index: int) -> str:
    return f"{kind}_{index}" if index else kind


class TorchUNet(nn.Module):
    """One instrument's U-Net: magnitude ``[B, 2, T, F]`` to the logit of its mask, same shape."""

    def __init__(self, arrays: Mapping[str, np.ndarray], instrument: int, elu: bool):
        super().__init__()
        self.elu = elu

        def kernel(kind: str, index: int) -> nn.ParameterList:
            name = _name(kind, index)
            # TensorFlow [kh, kw, in, out] and [kh, kw, out, in] both become PyTorch's layout by the same transpose
            weight = torch.from_numpy(np.ascontiguousarray(arrays[f"{name}/kernel"].transpose(3, 2, 0, 1)))
            return nn.ParameterList([weight, torch.from_numpy(np.array(arrays[f"{name}/bias"]))])

        def norm(index: int) -> nn.BatchNorm2d:
            name = _name("batch_normalization", index)
            layer = nn.BatchNorm2d(len(arrays[f"{name}/gamma"]), eps=1e-3).eval()
            layer.weight.data = torch.from_numpy(np.array(arrays[f"{name}/gamma"]))
            layer.bias.data = torch.from_numpy(np.array(arrays[f"{name}/beta"]))
            layer.running_mean = torch.from_numpy(np.array(arrays[f"{name}/moving_mean"]))
            layer.running_var = torch.from_numpy(np.array(arrays[f"{name}/moving_variance"]))
            return layer

        self.down = nn.ModuleList(kernel("conv2d", 7 * instrument + k) for k in range(6))
        self.last = kernel("conv2d", 7 * instrument + 6)
        self.up = nn.ModuleList(kernel("conv2d_transpose", 6 * instrument + k) for k in range(6))
        self.norms = nn.ModuleList(norm(12 * instrument + k) for k in range(12))

    def train(self, mode: bool = True) -> "TorchUNet":
        """Batch norms keep their statistics while training, as in the original."""
        super().train(mode)
        self.norms.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for k, (weight, bias) in enumerate(self.down):
            x = F.conv2d(F.pad(x, (1, 2, 1, 2)), weight, bias, stride=2)
            skips.append(x)
            if k < 5:
                x = self.norms[k](x)
                x = F.elu(x) if self.elu else F.leaky_relu(x, 0.2)
        for k, (weight, bias) in enumerate(self.up):
            x = F.conv_transpose2d(x, weight, bias, stride=2)[..., 1:-2, 1:-2]
            x = self.norms[6 + k](F.elu(x) if self.elu else F.relu(x))
            if k < 5:
                x = torch.cat([skips[4 - k], x], dim=1)
        weight, bias = self.last
        return F.conv2d(F.pad(x, (3, 3, 3, 3)), weight, bias, dilation=2)


class TorchSpleeter(nn.Module):
    """Magnitudes ``[B, 2, T, F]`` to predicted magnitudes ``[B, S, 2, T, F]``."""

    def __init__(self, arrays: Mapping[str, np.ndarray], instruments: Sequence[str], elu: bool, softmax: bool):
        super().__init__()
        self.instruments, self.softmax = tuple(instruments), softmax
        self.nets = nn.ModuleList(TorchUNet(arrays, i, elu) for i in range(len(self.instruments)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.stack([net(x) for net in self.nets], dim=1)
        masks = torch.softmax(logits, dim=1) if self.softmax else torch.sigmoid(logits)
        return masks * x[:, None]


@torch.inference_mode()
def separate(model: TorchSpleeter, mix: np.ndarray, frames: int = 512, bins: int = 1024) -> np.ndarray:
    """Waveform ``[2, N]`` at the network's rate to stems ``[S, 2, N]`` with the original's squared ratio masks."""
    x = torch.from_numpy(mix)
    n, window = x.shape[-1], torch.hann_window(FRAME)
    count = -(-(n + FRAME) // HOP)
    padded = F.pad(x, (FRAME, (count - 1) * HOP - n))
    spec = torch.stft(padded, FRAME, HOP, window=window, center=False, return_complex=True).transpose(1, 2)  # [2, T, F]
    magnitude = F.pad(spec.abs()[..., :bins], (0, 0, 0, -count % frames))
    batch = magnitude.reshape(2, -1, frames, bins).transpose(0, 1)
    power = model(batch).square()  # [B, S, 2, T, F]
    sources = len(model.instruments)
    masks = (power + 1e-10 / sources) / (power.sum(1, keepdim=True) + 1e-10)
    masks = masks.permute(1, 2, 0, 3, 4).reshape(sources, 2, -1, bins)[:, :, :count]
    stems = []
    for mask in masks:
        masked = F.pad(mask * spec[..., :bins], (0, spec.shape[-1] - bins)).transpose(1, 2)
        frames_ = torch.fft.irfft(masked, dim=1) * window[:, None]  # [2, FRAME, T]
        wave = F.fold(frames_, (1, (count - 1) * HOP + FRAME), (1, FRAME), stride=(1, HOP))[:, 0, 0]
        stems.append(wave[:, FRAME : FRAME + n] * (2 / 3))
    return torch.stack(stems).numpy()
