"""What `models.card` and `models.spectrum` compute, and how Paddle's own operators say the same."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F

from models import card, spectrum
from models.layers import ELU, GroupNorm, SameConv2D, SameConv2DTranspose
from models.spectrum import STFT


@dataclass
class Piece:
    """A function, what it must equal, and the shapes of the tensors that both get."""

    mine: Callable
    reference: Callable
    shapes: list[list[int]]


def evaluate(function: Callable, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The value, and the gradients of a weighted sum of it."""
    tensors = [paddle.to_tensor(each, stop_gradient=False) for each in arrays]
    y = function(*tensors)
    weights = np.random.default_rng(9).standard_normal(y.shape).astype(np.float32)
    if not y.stop_gradient:
        (y * paddle.to_tensor(weights)).sum().backward()
    gradients = [np.zeros(each.shape, np.float32) if each.grad is None else each.grad.numpy() for each in tensors]
    return [y.numpy(), *gradients]


def inputs(piece: Piece) -> list[np.ndarray]:
    """Normally distributed, with some zeros."""
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in piece.shapes]
    for each in arrays:
        each[np.abs(each) < 0.02] = 0.0
    return arrays


def agree(mine: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    """Within 1e-5 of the largest value."""
    for ours, other in zip(mine, theirs, strict=True):
        assert ours.shape == other.shape, (ours.shape, other.shape)
        np.testing.assert_allclose(ours, other, rtol=0, atol=1e-5 * max(1.0, float(np.abs(other).max())))


def convolution(operator: str, x: list[int], weight: list[int], **options) -> Piece:
    """A convolution with a bias; uneven padding is that of the reference, too."""
    reference = dict(options)
    outputs = weight[1] * options.get("groups", 1) if "transpose" in operator else weight[0]
    return Piece(
        lambda x, w, b: getattr(card, operator)(x, w, b, **options),
        lambda x, w, b: getattr(F, operator)(x, w, b, **reference),
        [x, weight, [outputs]],
    )


def padding(shape: list[int], before: int, after: int, axis: int, mode: str) -> Piece:
    def reference(x):
        order = [each for each in range(len(shape)) if each != axis % len(shape)] + [axis % len(shape)]
        moved = x.transpose(order)
        flat = moved.reshape([1, -1, moved.shape[-1]])
        done = F.pad(flat, [before, after], mode=mode, data_format="NCL")
        return done.reshape([*moved.shape[:-1], done.shape[-1]]).transpose(np.argsort(order).tolist())

    return Piece(lambda x: card.pad(x, before, after, axis, mode), reference, [shape])


def layer(make: Callable, reference: Callable, shape: list[int]) -> Piece:
    """A layer whose parameters are given."""
    parameters = [each.shape for each in make().parameters()]

    def mine(x, *values):
        built = make()
        for (name, _), value in zip(list(built.named_parameters()), values, strict=True):
            setattr(built, name, None)
            del built._parameters[name]
            object.__setattr__(built, name, value)
        return built(x)

    return Piece(mine, reference, [shape, *parameters])


def group_norm(shape: list[int], groups: int) -> Piece:
    def reference(x, weight, bias):
        flat = F.group_norm(x.reshape([*x.shape[:2], -1, 1]), groups, 1e-5, weight, bias)
        return flat.reshape(x.shape)

    return Piece(lambda x, w, b: card.group_norm(x, groups, w, b), reference, [shape, [shape[1]], [shape[1]]])


def pairs(z: paddle.Tensor) -> paddle.Tensor:
    return paddle.stack([z.real(), z.imag()], axis=-3)


def complexes(z: paddle.Tensor) -> paddle.Tensor:
    real, imaginary = paddle.split(z, 2, axis=-3)
    return paddle.complex(real.squeeze(-3), imaginary.squeeze(-3))


def forward(shape: list[int], size: int, hop: int, **options) -> Piece:
    stft, window = STFT(size, hop, **options), paddle.to_tensor(np.hanning(size + 1)[:-1].astype(np.float32))

    def reference(x):
        rows = x.reshape([-1, x.shape[-1]])
        z = pairs(paddle.signal.stft(rows, size, hop, window=window.cpu(), **options))
        return z.reshape([*x.shape[:-1], *z.shape[1:]])

    return Piece(stft.forward, reference, [shape])


def inverse(shape: list[int], size: int, hop: int, length: int | None, **options) -> Piece:
    stft, window = STFT(size, hop, **options), paddle.to_tensor(np.hanning(size + 1)[:-1].astype(np.float32))

    def reference(z):
        rows = complexes(z.reshape([-1, *z.shape[-3:]]))
        x = paddle.signal.istft(rows, size, hop, window=window.cpu(), length=length, **options)
        return x.reshape([*z.shape[:-3], x.shape[-1]])

    return Piece(lambda z: stft.inverse(z, length), reference, [shape])


PIECES = {
    "elu": Piece(card.elu, F.elu, [[3, 50]]),
    "elu layer": Piece(lambda x: ELU()(x * 3), lambda x: F.elu(x * 3), [[2, 3, 4, 5]]),
    "log1p": Piece(lambda x: card.log1p(x.abs()), lambda x: paddle.log1p(x.abs()), [[3, 40]]),
    "sign": Piece(card.sign, paddle.sign, [[1, 2, 3, 2, 20]]),
    "atan2": Piece(lambda y, x: card.atan2(y, x + 0.1), lambda y, x: paddle.atan2(y, x + 0.1), [[2, 200]] * 2),
    "zeros before": padding([2, 3, 4], 2, 0, 1, "constant"),
    "zeros around": padding([2, 3, 4, 5, 2], 1, 3, 3, "constant"),
    "reflect": padding([2, 3, 10], 4, 9, -1, "reflect"),
    "reflect inside": padding([2, 6, 3, 2], 5, 0, 1, "reflect"),
    "replicate": padding([2, 3, 10], 4, 12, -1, "replicate"),
    "replicate inside": padding([4, 3, 5], 2, 1, 0, "replicate"),
    "circular": padding([2, 3, 10], 4, 9, -1, "circular"),
    "roll": Piece(lambda x: card.roll(x, -3, 1), lambda x: paddle.roll(x, -3, 1), [[2, 8, 3]]),
    "roll round": Piece(lambda x: card.roll(x, 16, 1), lambda x: paddle.roll(x, 16, 1), [[2, 8, 3]]),
    "linear": Piece(
        lambda x: card.upsample_linear(x, 3),
        lambda x: F.interpolate(x, scale_factor=3, mode="linear", align_corners=False, data_format="NCW"),
        [[2, 3, 7]],
    ),
    "group norm 3": group_norm([2, 6, 50], 3),
    "group norm 4": group_norm([2, 6, 5, 7], 2),
    "group norm of one": group_norm([3, 4, 400], 1),
    "group norm of all": group_norm([2, 4, 5, 3, 2], 4),
    "group norm layer": layer(lambda: GroupNorm(2, 4), lambda x, w, b: F.group_norm(x, 2, 1e-5, w, b), [2, 4, 5, 6]),
    "same": convolution("conv2d", [2, 3, 8, 12], [4, 3, 5, 5], stride=2, padding=[1, 2, 1, 2]),
    "uneven": convolution("conv2d", [2, 3, 9, 11], [4, 3, 3, 5], stride=3, padding=[0, 4, 7, 1], dilation=2),
    "causal": convolution("conv2d", [2, 3, 9, 11], [4, 3, 3, 5], padding=[2, 0, 0, 0]),
    "even": convolution("conv2d", [2, 3, 9, 11], [4, 3, 3, 5], stride=[2, 1], padding=[1, 2]),
    "groups": convolution("conv2d", [2, 6, 9, 8], [4, 3, 3, 3], padding=1, groups=2),
    "depthwise": convolution("conv2d", [2, 6, 9, 8], [6, 1, 3, 3], padding=[0, 1, 2, 1], groups=6),
    "depthwise twice": convolution("conv2d", [2, 3, 9, 8], [6, 1, 3, 3], padding=1, groups=3),
    "transposed same": convolution("conv2d_transpose", [2, 3, 4, 6], [3, 4, 5, 5], stride=2, padding=[1, 2, 1, 2]),
    "transposed uneven": convolution("conv2d_transpose", [2, 3, 4, 6], [3, 4, 4, 6], stride=2, padding=[2, 0, 0, 3]),
    "transposed groups": convolution("conv2d_transpose", [2, 6, 4, 5], [6, 2, 4, 4], stride=2, padding=1, groups=3),
    "conv1d": convolution("conv1d", [2, 3, 20], [4, 3, 5], stride=2, padding=2),
    "conv1d causal": convolution("conv1d", [2, 3, 20], [4, 3, 3], dilation=2, padding=[4, 0]),
    "conv1d depthwise": convolution("conv1d", [2, 6, 20], [6, 1, 7], padding=3, groups=6),
    "conv1d groups": convolution("conv1d", [2, 6, 20], [4, 3, 3], padding=1, groups=2),
    "conv1d transposed": convolution("conv1d_transpose", [2, 3, 7], [3, 4, 8], stride=4, padding=2),
    "same layer": layer(
        lambda: SameConv2D(2, 3, 5, 2), lambda x, w, b: F.conv2d(x, w, b, 2, [1, 2, 1, 2]), [1, 2, 8, 6]
    ),
    "dilated same layer": layer(
        lambda: SameConv2D(1, 2, 4, 1, 2), lambda x, w, b: F.conv2d(x, w, b, 1, 3, 2), [1, 1, 8, 6]
    ),
    "transposed same layer": layer(
        lambda: SameConv2DTranspose(2, 3, 5, 2),
        lambda x, w, b: F.conv2d_transpose(x, w, b, 2, [1, 2, 1, 2]),
        [1, 2, 4, 6],
    ),
    "glu": Piece(lambda x: F.glu(x, 1), lambda x: F.glu(x, 1), [[2, 6, 5]]),
    "stft": forward([2, 2, 3000], 512, 128),
    "stft of Spleeter's size": forward([1, 9000], 4096, 1024),
    "stft that starts at the first sample": forward([3, 1200], 400, 160, center=False, pad_mode="constant"),
    "stft of odd factors, normalised": forward([2, 900], 147, 49, normalized=True),
    "stft of a prime size": forward([2, 100], 13, 5),
    "istft": inverse([2, 2, 2, 257, 20], 512, 128, 2400),
    "istft of Spleeter's size": inverse([1, 2, 2049, 5], 4096, 1024, 4096),
    "istft of all there is": inverse([2, 2, 46, 9], 90, 30, None, normalized=True),
    "istft of an uneven hop": inverse([1, 2, 201, 9], 400, 160, 1200),
    "product": Piece(
        spectrum.product, lambda a, b: pairs(complexes(a) * complexes(b)), [[2, 3, 2, 4, 5], [2, 3, 2, 4, 5]]
    ),
    "magnitude": Piece(spectrum.magnitude, lambda z: complexes(z).abs(), [[2, 3, 2, 4, 5]]),
    "phase": Piece(lambda z: spectrum.phase(z + 0.1), lambda z: complexes(z + 0.1).angle(), [[2, 3, 2, 4, 5]]),
}
