"""The hybrid networks on an emulated card: the numbers of the CPU and nothing on the host, gradients included."""

from tests.models.on_both import assert_agreement
from tests.sdaa.cards import needs_compiler

HYBRID = {"channels": 4, "nfft": 256, "depth": 5, "dconv_comp": 1, "samplerate": 8000, "segment": "1/5"}
BANDS = {"multi_freqs": (0.4,), "norm_starts": 999}
TRANSFORMER = {"channels": 4, "nfft": 512, "depth": 3, "dconv_comp": 2, "dconv_mode": 3, "samplerate": 8000}
TRANSFORMER |= {"segment": "1/5", "t_layers": 2, "t_heads": 2, "t_dropout": 0.0, "bottom_channels": 16}
NETWORKS = [
    ("hdemucs", {**HYBRID, "norm_starts": 2, "dconv_attn": 3, "dconv_lstm": 3}),
    ("hdemucs", {**HYBRID, **BANDS, "cac": False, "wiener_iters": 1, "end_iters": 1, "wiener_residual": True}),
    ("hdemucs", {**HYBRID, "hybrid": False, "cac": False, "wiener_iters": -1, "end_iters": 0}),
    ("htdemucs", TRANSFORMER),
    (
        "htdemucs",
        {**TRANSFORMER, "t_emb": "scaled", "t_gelu": False, "t_norm_first": False, "t_sparse_self_attn": True},
    ),
    ("htdemucs", {**TRANSFORMER, "t_emb": "cape", "t_cape_augment": False, "t_group_norm": 2, "bottom_channels": 0}),
]


@needs_compiler
def test_nothing_goes_to_the_host():
    assert_agreement([(*network, 1500) for network in NETWORKS], channels=2, least=1e-1)
