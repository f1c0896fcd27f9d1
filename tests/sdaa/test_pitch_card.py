"""The pitch tracker on an emulated card."""

import numpy as np
import paddle

import inference.pitch as pitch_module
import models
from inference.pitch import PitchTracker
from tests.sdaa.cards import needs_compiler, on_card


@needs_compiler
def test_a_card_follows_the_same_pitch(monkeypatch):
    options = {"n_blocks": 1, "inter_layers": 1, "en_out_channels": 2, "en_de_layers": 2}
    body = f"""
    import inference.pitch as pitch_module
    import models
    from inference.pitch import PitchTracker

    pitch_module.CHUNK = 8
    tracker = PitchTracker.from_model(models.create("rmvpe", **{options}))
    tracker.context = 4
    x = (np.random.default_rng(0).standard_normal((1, 3000)) * 0.1).astype("float32")
    found = tracker.track([x], 16000)
    print("found:", *found.f0.tolist(), *found.confidence.tolist())
    """
    said = on_card(body).stdout.partition("found:")[2]
    paddle.set_device("cpu")
    monkeypatch.setattr(pitch_module, "CHUNK", 8)
    tracker = PitchTracker.from_model(models.create("rmvpe", **options))
    tracker.context = 4
    x = (np.random.default_rng(0).standard_normal((1, 3000)) * 0.1).astype("float32")
    expected = tracker.track([x], 16000)
    assert len(expected) == 19
    np.testing.assert_allclose(
        np.array(said.split(), float), [*expected.f0, *expected.confidence], rtol=1e-4, atol=1e-4
    )
