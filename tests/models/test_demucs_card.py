"""The time-domain networks on an emulated card: the numbers of the CPU and nothing on the host, gradients included."""

from tests.models.on_both import assert_agreement
from tests.sdaa.cards import needs_compiler

NETWORKS = [
    ("demucs", {"channels": 8, "depth": 4, "dconv_comp": 2, "dconv_attn": 2, "dconv_lstm": 1, "dconv_mode": 3}),
    ("demucs_v1", {"channels": 4, "depth": 2}),
    ("demucs_v1", {"channels": 4, "depth": 2, "upsample": True, "stride": 2}),
    ("demucs_v2", {"channels": 4, "depth": 2, "normalize": True}),
    ("tasnet", {"N": 8, "B": 6, "H": 10, "X": 2, "R": 2}),
    ("tasnet", {"N": 8, "B": 6, "H": 10, "X": 2, "R": 2, "causal": True, "norm_type": "cLN"}),
    ("tasnet", {"N": 8, "B": 6, "H": 10, "X": 2, "R": 2, "norm_type": "BN", "mask_nonlinear": "softmax"}),
]


@needs_compiler
def test_nothing_goes_to_the_host():
    lengths = [1500 if name == "tasnet" else 15000 for name, _ in NETWORKS]
    networks = [(*network, samples) for network, samples in zip(NETWORKS, lengths, strict=True)]
    assert_agreement(networks, channels=2, least=1e-2)
