"""What lies between the bands of BandSplitRNN and their masks: recurrent layers over time and over the bands in turn.

All layers take ``[S, M, N]``, where S is the axis that they run along, and go from one axis to the other by exchanging
the first two.
"""

import paddle
from paddle import nn

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
        x = x - x.mean(0, keepdim=True)
        scale = self.weight * paddle.rsqrt(x.square().mean(0, keepdim=True) + self.epsilon)
        return x * scale + self.bias


def _recurrent(kind: str, inputs: int, hidden: int, bidirectional: bool) -> nn.Layer:
    layer = {"LSTM": LSTM, "GRU": GRU}[kind](
        inputs, hidden, direction="bidirect" if bidirectional else "forward", time_major=True
    )
    layer._sub_layers.clear()  # Paddle's cells hold the same parameters under second names
    return layer


class RNNModule(nn.Layer):
    """A normalisation, a recurrent layer and a linear one, added to their input: ``[S, M, N] -> [S, M, N]``."""

    def __init__(self, features: int, hidden: int, kind: str, bidirectional: bool):
        super().__init__()
        self.groupnorm = StepNorm(features)
        self.rnn = _recurrent(kind, features, hidden, bidirectional)
        self.fc = Linear(hidden * (2 if bidirectional else 1), features)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x + self.fc(states(self.rnn, self.groupnorm(x)))


class TransformerModule(nn.Layer):
    """Attention with four heads, then a recurrent and a linear layer, each added to its input: ``[S, M, N]``, too.

    ``groupnorm`` has no effect, because the original forgets its result, but is in checkpoints.
    """

    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.groupnorm = StepNorm(features)
        self.mha = MultiheadAttention(features, 4)
        self.recurrent = _recurrent("LSTM", features, hidden, True)
        self.linear = Linear(2 * hidden, features)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = x.transpose([1, 0, 2])
        x = x + self.mha(y, y).transpose([1, 0, 2])
        return x + self.linear(states(self.recurrent, x))


class _BandSequence(nn.Layer):
    """Pairs of layers, over the frames and over the bands, ``[K, B, T, N] -> [K, B, T, N]``."""

    def _run(self, pairs: nn.LayerList, x: paddle.Tensor) -> paddle.Tensor:
        bands, batch, frames, features = x.shape
        for over_time, over_bands in pairs:
            x = x.transpose([2, 1, 0, 3]).reshape([frames, batch * bands, features])
            x = over_time(x).reshape([frames, batch, bands, features])
            x = x.transpose([2, 1, 0, 3]).reshape([bands, batch * frames, features])
            x = over_bands(x).reshape([bands, batch, frames, features])
        return x


class BandSequence(_BandSequence):
    """So many pairs of :class:`RNNModule`."""

    def __init__(self, features: int, hidden: int, kind: str, bidirectional: bool, layers: int):
        super().__init__()
        options = features, hidden, kind, bidirectional
        pairs = [nn.Sequential(RNNModule(*options), RNNModule(*options)) for _ in range(layers)]
        self.bsrnn = nn.LayerList(pairs)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self._run(self.bsrnn, x)


class BandTransformer(_BandSequence):
    """So many pairs of :class:`TransformerModule`."""

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
        return self._run(self.dptransformers, x)
