"""Recurrent layers that a card computes itself: its kernel knows only the LSTM, and refuses to evaluate.

Drop-in for Paddle's layers of the same names, with the same parameters; see :mod:`models.card` for where they differ.
"""

import paddle
import paddle.nn.functional as F
from paddle import nn

from models import card, onednn, onednn_recurrent


class LSTM(nn.LSTM):
    """``nn.LSTM``; on a card without dropout between the layers, and without ``sequence_length``."""

    def forward(self, inputs, initial_states=None, sequence_length=None):
        if self.training or not card.holds(inputs):
            return super().forward(inputs, initial_states, sequence_length)
        dropout, self.dropout, self.training = self.dropout, 0.0, True  # without dropout training is evaluation
        try:
            return super().forward(inputs, initial_states, sequence_length)
        finally:
            self.dropout, self.training = dropout, False


class GRU(nn.GRU):
    """``nn.GRU``; on a card step by step, from a state of zeros, without ``sequence_length``."""

    def forward(self, inputs, initial_states=None, sequence_length=None):
        if not card.holds(inputs):
            return super().forward(inputs, initial_states, sequence_length)
        if initial_states is not None or sequence_length is not None:
            raise ValueError("a GRU on a card starts from zeros and has no sequence_length")
        y = inputs if self.time_major else inputs.transpose([1, 0, 2])  # [T, B, features]
        states = []
        for layer in range(self.num_layers):
            if layer:
                y = F.dropout(y, self.dropout, training=self.training)
            both = [self._direction(y, layer, reverse) for reverse in range(self.num_directions)]
            states += [state for _, state in both]
            y = paddle.concat([outputs for outputs, _ in both], axis=-1)
        return y if self.time_major else y.transpose([1, 0, 2]), paddle.stack(states)

    def _direction(self, x: paddle.Tensor, layer: int, reverse: int) -> tuple[paddle.Tensor, paddle.Tensor]:
        """``[T, B, features]`` to all states ``[T, B, hidden]`` and the last one."""
        suffix = f"l{layer}" + "_reverse" * reverse
        weights = [getattr(self, f"{kind}_{suffix}", None) for kind in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")]
        x = _linear(paddle.flip(x, [0]) if reverse else x, *weights[:2])
        sizes = [2 * self.hidden_size, self.hidden_size]
        # divided once: a slice a step would give a gradient as long as the whole for each
        gates, candidates = (part.split(x.shape[0], 0) for part in x.split(sizes, -1))
        state, states = paddle.zeros([1, x.shape[1], self.hidden_size], x.dtype), []
        for gate, candidate in zip(gates, candidates, strict=True):
            own_gate, own_candidate = _linear(state, *weights[2:]).split(sizes, -1)
            reset, update = F.sigmoid(gate + own_gate).split(2, -1)
            candidate = F.tanh(candidate + reset * own_candidate)
            state = candidate + update * (state - candidate)
            states.append(state)
        outputs = paddle.concat(states, axis=0)
        return paddle.flip(outputs, [0]) if reverse else outputs, state.squeeze(0)


def states(layer: nn.LSTM | nn.GRU, x: paddle.Tensor) -> paddle.Tensor:
    """The states of a layer of this module with ``time_major``, ``[T, B, features] -> [T, B, directions·hidden]``.

    An LSTM of one layer and both directions is oneDNN's in eager mode on the CPU. In one direction Paddle's is taken:
    the library leaves the gradient of the weights of the state unfinished there.
    """
    if isinstance(layer, LSTM) and layer.num_layers == 1 and layer.num_directions == 2 and onednn.usable(x):
        kinds = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
        weights = [getattr(layer, f"{kind}_l0{way}") for way in ("", "_reverse") for kind in kinds]
        return onednn_recurrent.lstm(x, weights)
    return layer(x)[0]


def _linear(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor | None) -> paddle.Tensor:
    y = paddle.matmul(x, weight, transpose_y=True)
    return y if bias is None else y + bias
