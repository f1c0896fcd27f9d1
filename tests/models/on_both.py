"""Networks on an emulated card beside the CPU: the same numbers, gradients included, and nothing on the host."""

from typing import Any

from tests.sdaa.cards import LOGGED, on_card, on_host

BODY = """
import models

mix = np.random.default_rng(0).standard_normal(SHAPE).astype("float32")

def run(name, options, samples):
    model = models.create(name, **options)
    x = paddle.to_tensor(mix[..., :samples])
    output = model(x)
    output.square().mean().backward()
    slopes = [parameter.grad.numpy() for parameter in model.parameters() if parameter.grad is not None]
    model.eval()
    with paddle.no_grad():
        return [output.numpy(), model(x).numpy()] + slopes

for name, options, samples in NETWORKS:
    results = []
    for device in ("cpu", "sdaa:0"):
        paddle.set_device(device)
        print("now:", name if device != "cpu" else "on the host", file=sys.stderr, flush=True)
        results.append(run(name, options, samples))
    assert len(results[0]) == len(results[1])
    for host, computed in zip(*results):
        allowed = 1e-4 * max(LEAST, np.abs(host).max())
        assert np.abs(computed - host).max() <= allowed, (name, host.shape, np.abs(computed - host).max(), allowed)
print("agreed")
"""


def assert_agreement(networks: list[tuple[str, dict[str, Any], int]], channels: int, least: float) -> None:
    """Each network (name, options, samples of its input ``[1, channels, samples]``) computes alike on both.

    Values may differ by 1e-4 of the largest one of their tensor, or of ``least`` where all of them are smaller.
    """
    shape = [1, channels, max(samples for *_, samples in networks)]
    body = BODY.replace("NETWORKS", repr(networks)).replace("SHAPE", repr(shape)).replace("LEAST", repr(least))
    done = on_card(body, strict=True, variables=LOGGED)
    assert "agreed" in done.stdout
    assert on_host(done.stderr) == []
