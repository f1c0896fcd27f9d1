"""Apollo and its discriminator on an emulated card: the numbers of the CPU and nothing on the host, with gradients."""

from tests.models.on_both import assert_agreement
from tests.sdaa.cards import LOGGED, needs_compiler, on_card, on_host

NETWORKS = [
    ("apollo", {"sr": 8000, "feature_dim": 16, "layer": 2}, 2500),
    ("apollo", {"sr": 22050, "feature_dim": 20, "layer": 1}, 3000),  # a frame of an odd number of samples
    ("apollo", {"feature_dim": 32, "layer": 1}, 4410),
]

ADVERSARIES = """
from models.apollo_discriminator import MultiFrequencyDiscriminator
from training import apollo_losses as losses

rng = np.random.default_rng(0)
real, fake = (0.1 * rng.standard_normal([2, 2, 3000]).astype("float32") for _ in range(2))

def run():
    model = MultiFrequencyDiscriminator()
    target, output = paddle.to_tensor(real), paddle.to_tensor(fake, stop_gradient=False)
    against = losses.discriminator_loss(model(target)[0], model(output.detach())[0])
    against.backward()
    slopes = [parameter.grad.numpy() for parameter in model.parameters()]
    (_, real_maps), (fake_verdicts, fake_maps) = model(target), model(output)
    loss, terms = losses.generator_loss(fake_verdicts, fake_maps, real_maps, output, target)
    loss.backward()
    ratios = [losses.negative_sdr(output, target, kind).numpy() for kind in losses.SDR_KINDS]
    values = [against.numpy(), *(term.numpy() for term in terms.values())]
    vectors = [buffer.numpy() for _, buffer in model.named_buffers()]
    model.eval()
    return [*values, *ratios, *vectors, model(target)[0][0].numpy(), output.grad.numpy(), *slopes]

results = []
for device in ("cpu", "sdaa:0"):
    paddle.set_device(device)
    print("now:", "on the host" if device == "cpu" else "adversaries", file=sys.stderr, flush=True)
    results.append(run())
assert len(results[0]) == len(results[1])
for place, (host, computed) in enumerate(zip(*results)):
    allowed = 1e-4 * np.abs(host).max()
    assert np.abs(computed - host).max() <= allowed, (place, host.shape, np.abs(computed - host).max(), allowed)
print("agreed")
"""


@needs_compiler
def test_nothing_of_the_network_goes_to_the_host():
    assert_agreement(NETWORKS, channels=2, least=1e-4)


@needs_compiler
def test_nothing_of_an_adversarial_step_goes_to_the_host():
    done = on_card(ADVERSARIES, strict=True, variables=LOGGED)
    assert "agreed" in done.stdout
    assert on_host(done.stderr) == []
