"""Stems that go on through a network that restores: arrays and streams."""

import numpy as np
import pytest

import models
from dsp.resample import resample
from inference import Cancelled, Separator
from models import Description
from runtime.errors import UserError
from tests.inference.waves import FakeWave


class Same:
    """Restores by changing nothing but the gain; 1 kHz, chunks of 0.5 s of which 0.1 s at both ends are thrown away."""

    unit = 10

    def __init__(self, gain=1.0, rate=1000):
        self.description = Description(
            "same", ("restored",), rate, 2, "waveform", rate // 2, rate // 10, {}, hop=rate // 4
        )
        self.gain, self.training = gain, False

    def eval(self):
        self.training = False

    def __call__(self, mix):
        return self.gain * mix[:, None]


def separators(gain=1.0, **options):
    return Separator.from_model(FakeWave(**options)), Separator.from_model(Same(gain))


@pytest.mark.parametrize("hop", [0, 150], ids=["waits for the whole song", "as it comes"])
@pytest.mark.parametrize(("channels", "samples"), [(2, 3001), (1, 700), (3, 77), (2, 0)])
def test_what_is_restored_has_the_stems_length_place_and_level(noise, hop, channels, samples):
    separator, restorer = separators(gain=0.5, hop=hop)
    mix = noise(channels, samples)
    plain = separator.separate(mix, residual=True)
    both = separator.separate(mix, residual=True, restore={"rest": restorer, "vocals": restorer})
    assert list(both) == ["vocals", "rest", "rest_restored", "vocals_restored", "residual"]
    for name, stem in plain.items():
        np.testing.assert_array_equal(both[name], stem)
    for name in ("vocals", "rest"):
        assert (both[f"{name}_restored"].shape, both[f"{name}_restored"].dtype) == (mix.shape, np.float32)
        np.testing.assert_allclose(both[f"{name}_restored"], 0.5 * plain[name], rtol=1e-6, atol=0)
    blocks = (mix[:, start : start + 313] for start in range(0, samples, 313))
    streamed = list(separator.stream(blocks, channels, residual=True, restore={"vocals": restorer}))
    for name in ("vocals", "vocals_restored", "residual") if samples else ():
        np.testing.assert_array_equal(np.concatenate([block[name] for block in streamed], axis=1), both[name])


def test_other_rates_are_converted_without_a_lag(noise):
    separator, restorer = separators(rate=3000, hop=500)[0], Separator.from_model(Same(rate=2000))
    mix = resample(noise(2, 4000), 500, 4410)  # 8 s with nothing above what all of them hold
    stems = separator.separate(mix, 4410, restore={"vocals": restorer})
    found, wanted = stems["vocals_restored"][:, 600:-600], stems["vocals"][:, 600:-600]
    assert 10 * np.log10(((found - wanted) ** 2).sum() / (wanted**2).sum()) < -60
    np.testing.assert_array_equal(
        stems["vocals_restored"], restorer.separate(stems["vocals"], 4410)["restored"], strict=True
    )


def test_what_is_held_does_not_grow(noise):
    separator, restorer = separators(hop=150)
    taken = given = 0

    def blocks():
        nonlocal taken
        for seed in range(300):
            taken += 97
            yield noise(2, 97, seed)

    for block in separator.stream(blocks(), 2, restore={"vocals": restorer}):
        given += block["vocals_restored"].shape[1]
        assert taken - given <= 400 + 500 + 97
    assert given == taken


def test_the_end_of_the_restoration_counts_as_work_and_can_be_cancelled(noise):
    separator, restorer = separators(hop=150)
    mix, restore, shares, asked = noise(2, 3001), {"vocals": restorer}, [], []
    separator.separate(mix, progress=shares.append, cancel=lambda: asked.append("no"), restore=restore)
    assert shares == sorted(shares) and shares[-1] == 1
    alone = []
    separator.separate(mix, cancel=lambda: alone.append("no"))
    assert len(asked) > len(alone)
    with pytest.raises(Cancelled):
        separator.separate(mix, cancel=lambda: asked.pop() and not asked, restore=restore)


def test_silence_is_restored_to_numbers():
    apollo = models.create("apollo", sr=8000, win=20, feature_dim=16, layer=1, segment=1)
    separator, restorer = Separator.from_model(FakeWave(rate=8000, hop=1000)), Separator.from_model(apollo)
    silence = np.zeros((2, 12000), np.float32)
    restored = separator.separate(silence, restore={"vocals": restorer})["vocals_restored"]
    assert np.isfinite(restored).all()
    np.testing.assert_array_equal(restored, restorer.separate(silence)["restored"])


@pytest.mark.parametrize(
    ("name", "by", "sentence"),
    [
        ("drums", 1, "--restore drums: the stems that are made are vocals, rest"),
        ("vocals", 0, "fake separates vocals, rest, and cannot restore what others separate"),
    ],
)
def test_what_cannot_be_restored(noise, name, by, sentence):
    both = separators(hop=150)
    with pytest.raises(UserError, match=sentence):
        both[0].separate(noise(2, 100), restore={name: both[by]})


def test_a_song_is_not_restored_twice(noise):
    restorer = Separator.from_model(Same())
    with pytest.raises(UserError, match="this network restores songs itself"):
        restorer.separate(noise(2, 100), restore={"restored": restorer})
