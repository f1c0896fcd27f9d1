"""The time-domain networks on an emulated card: the numbers of the CPU and nothing on the host, gradients included."""

from tests.sdaa.cards import LOGGED, needs_compiler, on_card, on_host

NETWORKS = [
    ("demucs", {"channels": 8, "depth": 4, "dconv_comp": 2, "dconv_attn": 2, "dconv_lstm": 1, "dconv_mode": 3}),
    ("demucs_v1", {"channels": 4, "depth": 2}),
    ("demucs_v1", {"channels": 4, "depth": 2, "upsample": True, "stride": 2}),
    ("demucs_v2", {"channels": 4, "depth": 2, "normalize": True}),
    ("tasnet", {"N": 8, "B": 6, "H": 10, "X": 2, "R": 2}),
    ("tasnet", {"N": 8, "B": 6, "H": 10, "X": 2, "R": 2, "causal": True, "norm_type": "cLN"}),
    ("tasnet", {"N": 8, "B": 6, "H": 10, "X": 2, "R": 2, "norm_type": "BN", "mask_nonlinear": "softmax"}),
]

BODY = """
import models

mix = np.random.default_rng(0).standard_normal([1, 2, 15000]).astype("float32")

def run(name, options):
    model = models.create(name, **options)
    x = paddle.to_tensor(mix[..., :1500] if name == "tasnet" else mix)
    output = model(x)
    output.square().mean().backward()
    slopes = [parameter.grad.numpy() for parameter in model.parameters() if not parameter.stop_gradient]
    model.eval()
    with paddle.no_grad():
        return [output.numpy(), model(x).numpy()] + slopes

for name, options in NETWORKS:
    results = []
    for device in ("cpu", "sdaa:0"):
        paddle.set_device(device)
        print("now:", name if device != "cpu" else "on the host", file=sys.stderr, flush=True)
        results.append(run(name, options))
    for host, computed in zip(*results):
        allowed = 1e-4 * max(1e-2, np.abs(host).max())
        assert np.abs(computed - host).max() <= allowed, (name, host.shape, np.abs(computed - host).max(), allowed)
print("agreed")
"""


@needs_compiler
def test_nothing_goes_to_the_host():
    done = on_card(BODY.replace("NETWORKS", repr(NETWORKS)), strict=True, variables=LOGGED)
    assert "agreed" in done.stdout
    assert on_host(done.stderr) == []
