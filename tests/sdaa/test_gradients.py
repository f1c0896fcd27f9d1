"""Two cards compute the gradients that one process computes on the joined batch."""

import numpy as np

from tests.sdaa.cards import on_card, on_cards

STEP = """
import sys
import numpy as np
from runtime import device, distributed
chosen = device.select("sdaa", "spleeter_2stems")
device.activate(chosen)
group = distributed.init(chosen)
import models, paddle
paddle.seed(0)
network = models.create("spleeter_2stems", filters=[2, 3, 4, 5, 6, 7], frequency_bins=64, segment_frames=64)
random = np.random.default_rng(0)
for parameter in network.parameters():
    parameter.set_value(random.standard_normal(parameter.shape).astype("float32") * 0.3)
batch = random.random((4, 2, 64, 64), "float32")
share = np.array_split(batch, group.size)[group.rank]
wrapped = group.wrap_model(network)
predicted = wrapped(paddle.to_tensor(share))
(predicted - 0.5 * paddle.to_tensor(share).unsqueeze(1)).abs().mean().backward()
if group.is_main:
    np.savez(FILE, **{name: p.grad.numpy() for name, p in network.named_parameters() if p.grad is not None})
"""


def test_two_cards_and_the_joined_batch(tmp_path):
    """The one card is as it is used, the two are strict: the host must not touch their memory."""
    files = [tmp_path / "one.npz", tmp_path / "two.npz"]
    on_card(f"FILE = {str(files[0])!r}\n" + STEP)
    on_cards(f"FILE = {str(files[1])!r}\n" + STEP, 2, tmp_path, strict=True)
    one, two = map(np.load, files)
    assert len(one.files) > 50 and set(one.files) == set(two.files)
    norm = np.sqrt(sum(np.square(one[name], dtype=np.float64).sum() for name in one.files))
    difference = np.sqrt(sum(np.square(np.float64(two[name]) - one[name]).sum() for name in one.files))
    assert norm > 0 and difference <= 1e-6 * norm
    for name in one.files:  # no parameter is left out, however small its share of the norm
        assert np.abs(two[name] - one[name]).max() <= 1e-5 * np.abs(one[name]).max(), name
