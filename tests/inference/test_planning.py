"""Which network and weights a name means."""

import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from inference import Separator
from inference.planning import newest_run, plan, separating
from runtime import checkpoint
from runtime.errors import UserError


@pytest.fixture
def run(tmp_path, small_model, small_options):
    """A run folder with one checkpoint of the small network."""
    folder = tmp_path / "model" / "small" / "0123abcd"
    config = {
        "network": "spleeter_2stems",
        "model": {key: list(value) if isinstance(value, tuple) else value for key, value in small_options.items()},
        "separation": {"exponent": 1.0, "mask_extension": "average", "mwf": False},
    }
    arrays = {name: value.numpy() for name, value in small_model.state_dict().items()}
    state = {"step": 7, "network": "spleeter_2stems", "config": config}
    checkpoint.save(folder / "checkpoints", {"model": arrays}, state)
    return folder


@pytest.mark.parametrize("part", ["", "checkpoints/step-00000007"])
def test_a_run_says_what_it_is(run, noise, small_model, part):
    found = plan(run / part)
    assert (found.network, found.label) == ("spleeter_2stems", "small-0123abcd")
    assert found.description.sample_rate == 8000
    separator = Separator(run / part)
    assert separator.options.exponent == 1.0
    assert separator.options.mask_extension == "average"
    assert separator.weights_path == run / "checkpoints" / "step-00000007"
    mix = noise(2, 4000)
    expected = Separator.from_model(small_model, exponent=1.0, mask_extension="average").separate(mix)
    for name, stem in separator.separate(mix).items():
        np.testing.assert_allclose(stem, expected[name], rtol=0, atol=1e-5)


def test_weights_of_a_run_bring_their_configuration(run):
    assert plan(None, run).description.sample_rate == 8000
    assert plan("2stems", run).description.sample_rate == 8000
    with pytest.raises(UserError, match="weights of spleeter_2stems, not of spleeter_4stems"):
        plan("spleeter_4stems", run)


def test_published_names(tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="downloading is off"):
        plan("spleeter:4stems-16kHz", offline=True)
    weights = tmp_path / "w.safetensors"
    save_file({"x": np.zeros(1)}, weights)
    found = plan("spleeter:4stems-16kHz", weights)
    assert (found.network, found.label, found.weights) == ("spleeter_4stems_16khz", "spleeter_4stems_16khz", weights)
    with pytest.raises(UserError, match="did you mean"):
        plan("spleeter_3stems")


def test_newest_run(run, tmp_path):
    assert newest_run(tmp_path / "nothing") is None
    os.makedirs(tmp_path / "model" / "pretrained" / "2stems")
    assert newest_run(tmp_path / "model") == run / "checkpoints" / "step-00000007"


def test_pitch_networks_are_refused_before_anything_is_fetched(tmp_path):
    folder = tmp_path / "runs" / "small" / "0123abcd"
    checkpoint.save(folder / "checkpoints", {"model": {}}, {"step": 1, "network": "rmvpe", "config": {}})
    for name in ("rmvpe", folder):
        with pytest.raises(UserError, match="follows the pitch of a voice and separates nothing"):
            separating(name, offline=True)
