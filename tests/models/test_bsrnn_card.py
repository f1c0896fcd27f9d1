"""BandSplitRNN on an emulated card: the numbers of the CPU and nothing on the host, gradients included."""

from tests.models.on_both import assert_agreement
from tests.sdaa.cards import needs_compiler

SMALL = {"fc_dim": 8, "rnn_dim": 6, "num_layers": 1, "mlp_dim": 8}
NETWORKS = [
    ("bsrnn_vocals", SMALL),
    ("bsrnn_bass", {**SMALL, "t_timesteps": 9}),
    ("bsrnn_drums", {**SMALL, "bottleneck_layer": "att"}),
    ("bsrnn_other", {**SMALL, "rnn_type": "GRU", "bidirectional": False, "complex_as_channel": False}),
]


@needs_compiler
def test_nothing_goes_to_the_host():
    assert_agreement([(*network, 8 * 512) for network in NETWORKS], channels=2, least=1e-2)
