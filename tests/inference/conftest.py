"""Small networks for the tests of the inference room."""

from pathlib import Path

import numpy as np
import pytest

SMALL = {
    "filters": (4, 6, 8, 10, 12, 16),
    "sample_rate": 8000,
    "frame_length": 512,
    "frame_step": 128,
    "frequency_bins": 192,
    "segment_frames": 64,
}


@pytest.fixture(scope="session")
def programs(tmp_path_factory) -> Path:
    """Where the tests of this room keep exported programs."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module", autouse=True)
def out_of_the_users_cache(programs):
    """Other rooms keep the user's cache: there the emulated card is, which takes minutes to build."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PADDLESTEMS_CACHE", str(programs))
        yield


@pytest.fixture(scope="session")
def small_options() -> dict:
    """Options of a two-stem network that separates a second in milliseconds: 8 kHz, 192 of 257 bins."""
    return dict(SMALL)


@pytest.fixture(scope="session")
def small_model():
    """That network with its initial weights."""
    import models

    model = models.create("spleeter_2stems", **SMALL)
    model.eval()
    return model


@pytest.fixture(scope="session")
def keep_all():
    """A network that gives the whole mixture to the first stem."""
    import paddle

    import models

    class KeepAll(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.description = models.describe("spleeter_2stems", **SMALL)

        def forward(self, magnitude):
            return paddle.stack([magnitude, magnitude * 0], axis=1)

    return KeepAll()


@pytest.fixture
def noise():
    """Function (channels, samples, seed) -> float32 noise."""

    def make(channels: int, samples: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal((channels, samples)).astype(np.float32) * np.float32(0.2)

    return make
