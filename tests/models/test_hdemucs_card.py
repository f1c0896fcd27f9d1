"""The hybrid networks on an emulated card: the numbers of the CPU and nothing on the host, gradients included."""

from tests.sdaa.cards import LOGGED, needs_compiler, on_card, on_host

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

BODY = """
import models

mix = np.random.default_rng(0).standard_normal([1, 2, 1500]).astype("float32")

def run(name, options):
    model = models.create(name, **options)
    x = paddle.to_tensor(mix)
    output = model(x)
    output.square().mean().backward()
    slopes = [parameter.grad.numpy() for parameter in model.parameters() if parameter.grad is not None]
    model.eval()
    with paddle.no_grad():
        return [output.numpy(), model(x).numpy()] + slopes

for name, options in NETWORKS:
    results = []
    for device in ("cpu", "sdaa:0"):
        paddle.set_device(device)
        print("now:", name if device != "cpu" else "on the host", file=sys.stderr, flush=True)
        results.append(run(name, options))
    assert len(results[0]) == len(results[1])
    for host, computed in zip(*results):
        allowed = 1e-4 * max(1e-1, np.abs(host).max())
        assert np.abs(computed - host).max() <= allowed, (name, host.shape, np.abs(computed - host).max(), allowed)
print("agreed")
"""


@needs_compiler
def test_nothing_goes_to_the_host():
    done = on_card(BODY.replace("NETWORKS", repr(NETWORKS)), strict=True, variables=LOGGED)
    assert "agreed" in done.stdout
    assert on_host(done.stderr) == []
