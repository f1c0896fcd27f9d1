"""What lies between the bands of BandSplitRNN and their masks: recurrent layers over time and over the bands in turn.

Layers run along the first axis of ``[S, B, K, N]`` and exchange it with the third, along which the next one runs.
"""

import paddle
from paddle import nn

from models import onednn, onednn_groups
from models.attention import Linear, MultiheadAttention
from models.recurrent import GRU, LSTM, states

_ONE, _ZERO = nn.initializer.Constant(1.0), nn.initializer.Constant(0.0)


class StepNorm(nn.Layer):
    """Every feature of every sequence to mean 0 and variance 1 over its steps, ``[S, M, N] -> [S, M, N]``.

    It is group normalisation with as many groups as features. Weight and bias ``[N]``.
    """

    def __init__(self, features: int, epsilon: float = 1e-5):
        super().__init__()
        self.epsilon = epsilon
        self.weight = self.create_parameter([features], default_initializer=_ONE)
        self.bias = self.create_parameter([features], is_bias=True, default_initializer=_ZERO)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if onednn.usable(x):
            return onednn_groups.normalise_steps(x, self.weight, self.bias, self.epsilon)
        x = x - x.mean(0, keepdim=True)
        scale = self.weight * paddle.rsqrt(x.square().mean(0, keepdim=True) + self.epsilon)
        return x * scale + self.bias


def _add_and_turn(a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
    """The sum of two tensors ``[S, B, K, N]`` as ``[K, B, S, N]``."""
    return onednn_groups.add_and_turn(a, b) if onednn.usable(a) else (a + b).transpose([2, 1, 0, 3])


def _recurrent(kind: str, inputs: int, hidden: int, bidirectional: bool) -> nn.Layer:
    layer = {"LSTM": LSTM, "GRU": GRU}[kind](
        inputs, hidden, direction="bidirect" if bidirectional else "forward", time_major=True
    )
    layer._sub_layers.clear()  # Paddle's cells hold the same parameters under second names
    return layer


class RNNModule(nn.Layer):
    """A normalisation, a recurrent layer and a linear one, added to their input: ``[S, B, K, N] -> [K, B, S, N]``."""

    def __init__(self, features: int, hidden: int, kind: str, bidirectional: bool):
        super().__init__()
        self.groupnorm = StepNorm(features)
        self.rnn = _recurrent(kind, features, hidden, bidirectional)
        self.fc = Linear(hidden * (2 if bidirectional else 1), features)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = self.fc(states(self.rnn, self.groupnorm(x.flatten(1, 2))))
        return _add_and_turn(x, y.reshape(x.shape))


class TransformerModule(nn.Layer):
    """Attention with four heads, then a recurrent and a linear layer, each added to its input; as :class:`RNNModule`.

    ``groupnorm`` has no effect, because the original forgets its result, but is in checkpoints.
    """

    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.groupnorm = StepNorm(features)
        self.mha = MultiheadAttention(features, 4)
        self.recurrent = _recurrent("LSTM", features, hidden, True)
        self.linear = Linear(2 * hidden, features)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        sequences = x.flatten(1, 2).transpose([1, 0, 2])
        x = x + self.mha(sequences, sequences).transpose([1, 0, 2]).reshape(x.shape)
        y = self.linear(states(self.recurrent, x.flatten(1, 2)))
        return _add_and_turn(x, y.reshape(x.shape))


class BandSequence(nn.Layer):
    """So many pairs of :class:`RNNModule`, over the frames and over the bands: ``[T, B, K, N] -> [T, B, K, N]``."""

    def __init__(self, features: int, hidden: int, kind: str, bidirectional: bool, layers: int):
        super().__init__()
        options = features, hidden, kind, bidirectional
        pairs = [nn.Sequential(RNNModule(*options), RNNModule(*options)) for _ in range(layers)]
        self.bsrnn = nn.LayerList(pairs)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        for pair in self.bsrnn:
            x = pair(x)
        return x


class BandTransformer(nn.Layer):
    """So many pairs of :class:`TransformerModule`, as :class:`BandSequence`."""

    def __init__(self, features: int, hidden: int, layers: int):
        super().__init__()
        pairs = [
            nn.Sequential(TransformerModule(features, hidden), TransformerModule(features, hidden))
            for _ in range(layers)
        ]
        self.dptransformers = nn.LayerList(pairs)

    def initialise_(self, seed: int, name: str) -> None:
        """First values of the attention layers, see :meth:`models.attention.MultiheadAttention.initialise_`."""
        for inner, layer in self.named_sublayers(prefix=name):
            if isinstance(layer, MultiheadAttention):
                layer.initialise_(seed, inner)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        for pair in self.dptransformers:
            x = pair(x)
        return x
