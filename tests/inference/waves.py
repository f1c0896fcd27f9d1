"""Networks on waveforms for tests: what they give depends on all that they are given, context included."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from models import Description


class FakeWave:
    """Two stems, 1 kHz, stereo, chunks of 0.4 s; every estimate depends on the whole input.

    ``unit`` is what lengths are rounded up to; ``fixed`` makes it a network that takes no more than its segment,
    ``fills`` (or ``fixed``) one whose chunks are brought to the length that was asked for; ``hop`` (samples) one that
    separates chunks of a stream.
    """

    def __init__(
        self,
        unit=1,
        fixed=False,
        gain=1.0,
        rate=1000,
        segment=0.4,
        name="fake",
        fills=False,
        hop=0,
        sources=("vocals", "rest"),
    ):
        size, config = int(rate * segment), {"segment": segment}
        self.description = Description(name, sources, rate, 2, "waveform", size, 0, config, fixed, hop)
        self.unit, self.gain, self.fills_segments = unit, gain, fixed or fills
        self.training = False
        self.lengths = []

    def valid_length(self, samples):
        if self.description.fixed_length:
            return self.description.segment
        return -(-samples // self.unit) * self.unit

    def eval(self):
        self.training = False

    def train(self):
        self.training = True

    def state_dict(self):
        return {}

    def compute(self, mix):
        """``[B, C, N] -> [B, S, C, N]``: two filters whose strength follows the level and the position."""
        samples = mix.shape[-1]
        self.lengths.append(samples)
        level = np.tanh(np.sqrt((mix**2).mean(axis=(1, 2), keepdims=True))) + 0.1
        ramp = np.linspace(0.5, 1.5, samples, dtype=np.float32)
        one = mix * level * ramp * np.float32(self.gain)
        both = np.stack([one, mix - one[..., ::-1]], axis=1).astype(np.float32)
        return both[:, : len(self.description.sources)]

    def __call__(self, mix):
        import paddle

        return paddle.to_tensor(self.compute(mix.numpy()))


@dataclass
class FakeBag:
    """What `pretrained.get_model` gives for a bag."""

    models: list
    weights: list
    name: str = "bag"
    config: SimpleNamespace = field(default_factory=SimpleNamespace)


def plainly(model, mix, delay=0, split=True, overlap=0.25, power=1.0, segment=None):
    """One pass over ``mix [B, C, N]``, written down as the rules are, with everything in memory."""
    facts = model.description
    size = facts.segment if segment is None else int(segment * facts.sample_rate)
    margin = 4 * max(size, mix.shape[-1]) + delay
    padded = np.pad(mix, [(0, 0), (0, 0), (margin, margin)])
    length = mix.shape[-1] + delay
    size = size if split else length
    hop = int((1 - overlap) * size) if split else length
    total, weight = np.zeros((len(mix), 2, mix.shape[1], length)), np.zeros(length)
    triangle = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)) / -(-size // 2)
    for start in range(0, length, hop):
        count = min(size, length - start)
        target = int(segment * facts.sample_rate) if segment and model.fills_segments else model.valid_length(count)
        begin = margin - delay + start - (target - count) // 2
        estimate = model.compute(padded[..., begin : begin + target])
        inside = (target - count) // 2
        shape = triangle[:count] ** power
        total[..., start : start + count] += shape * estimate[..., inside : inside + count]
        weight[start : start + count] += shape
    return (total / weight)[..., delay:]
