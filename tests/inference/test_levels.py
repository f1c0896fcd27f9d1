"""What is done against clipping: Demucs' ways beside our own."""

import numpy as np
import pytest
import soundfile

from inference import Separator, naming
from inference.files import separate_file
from runtime.errors import UserError
from tests.inference.waves import FakeWave


@pytest.fixture
def loud(tmp_path):
    """A song whose estimates pass full scale."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "loud.wav", rng.uniform(-1, 1, (1500, 2)), 1000, subtype="FLOAT")
    return tmp_path / "loud.wav"


def read(path):
    return soundfile.read(path, always_2d=True)[0].T


def test_each_mode(loud, tmp_path):
    separator = Separator.from_model(FakeWave(gain=3))
    exact = separator.separate(read(loud).astype(np.float32))
    peaks = {name: np.abs(stem).max() for name, stem in exact.items()}
    assert min(peaks.values()) > 1

    def run(mode, format="float32"):
        report = separate_file(separator, loud, tmp_path / f"{mode}-{format}", format, clip_mode=mode)
        return report, {name: read(path) for name, path in report.outputs.items()}

    report, files = run("rescale")
    for name, stem in exact.items():
        np.testing.assert_allclose(files[name], stem / (1.01 * peaks[name]), atol=1e-6)
        assert report.gains_db[name] == pytest.approx(-20 * np.log10(1.01 * peaks[name]), abs=1e-4)
    assert report.gain_db == 0
    for name, stem in run("clamp")[1].items():
        np.testing.assert_allclose(stem, np.clip(exact[name], -0.99, 0.99), atol=1e-6)
    report, files = run("none", "wav16")
    for name, stem in files.items():
        np.testing.assert_allclose(stem, np.clip(exact[name], -1, 1), atol=5e-5)
    assert all(report.clipped.values())


def test_what_does_not_clip_is_not_changed(tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "soft.wav", rng.uniform(-0.1, 0.1, (1500, 2)), 1000, subtype="FLOAT")
    separator = Separator.from_model(FakeWave())
    files = [
        separate_file(separator, tmp_path / "soft.wav", tmp_path / str(mode), "float32", clip_mode=mode).outputs
        for mode in (None, "rescale", "clamp", "none")
    ]
    for others in files[1:]:
        for name, path in files[0].items():
            np.testing.assert_array_equal(read(path), read(others[name]))


def test_the_mixture_minus_a_stem_is_rescaled_by_itself(loud, tmp_path):
    separator = Separator.from_model(FakeWave(gain=3))
    chosen = naming.select(separator.sources, two_stems="vocals", other="minus")
    assert chosen.names == ("vocals", "minus_vocals")
    report = separate_file(separator, loud, tmp_path, "float32", selection=chosen, clip_mode="rescale")
    mix = read(loud)
    rest = mix - separator.separate(mix.astype(np.float32))["vocals"]
    expected = rest / max(1.01 * np.abs(rest).max(), 1)
    np.testing.assert_allclose(read(report.outputs["minus_vocals"]), expected, atol=2e-6)


def test_refusals(loud, tmp_path):
    separator = Separator.from_model(FakeWave())
    with pytest.raises(UserError, match="none of rescale, clamp, none"):
        separate_file(separator, loud, tmp_path, clip_mode="tanh")
    with pytest.raises(UserError, match="leave --clip-mode out"):
        chosen = naming.select(separator.sources, residual=True)
        separate_file(separator, loud, tmp_path, selection=chosen, clip_mode="clamp")
