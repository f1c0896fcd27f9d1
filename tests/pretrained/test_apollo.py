"""Files of Apollo's originals in all their forms: which network they are of, and their weights."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

import models
import pretrained
from inference.planning import plan
from models.apollo_config import DiscriminatorConfig
from models.apollo_discriminator import MultiFrequencyDiscriminator
from pretrained import apollo, reference_state
from runtime.errors import UserError
from tests.pretrained.torch_writer import Call, Global, save

OPTIONS = {"sr": 22050, "win": 20, "feature_dim": 16, "layer": 1}


@pytest.fixture(scope="module")
def state():
    """Reference name -> array of a small network, not as it begins."""
    return {
        name: array + np.float32(0.25) for name, array in reference_state(models.create("apollo", **OPTIONS)).items()
    }


def official(state):
    version = Call(Global("torch.torch_version", "TorchVersion"), "2.1.0")
    infos = {"software_versions": {"torch_version": version, "pytorch_lightning_version": "2.1"}}
    return {"model_name": "Apollo", "state_dict": state, "model_args": {"n_sample_rate": 2}, "infos": infos}


def training(state):
    judge = reference_state(MultiFrequencyDiscriminator(DiscriminatorConfig(window=[32])))
    names = [(f"audio_model.{name}", array) for name, array in state.items()]
    names += [(f"discriminator.{name}", array) for name, array in judge.items()]
    optimisers = [{"state": {0: {"step": 1}}, "param_groups": [{"lr": 1e-3}]}] * 2
    return {"epoch": 3, "pytorch-lightning_version": "2.1", "state_dict": OrderedDict(names)} | {
        "optimizer_states": optimisers
    }


def exchanged(state, **config):
    about = {"software_versions": {}, "description": "small"}
    return {"name": "apollo", "info": about, "config": {**OPTIONS, **config}, "state_dict": state}


FORMS = {
    "pytorch_model.bin": official,
    "best_model.pth": official,
    "epoch=3-val_loss=-1.5.ckpt": training,
    "model_apollo.ckpt": exchanged,
    "plain.pt": OrderedDict,
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_says_its_options_and_loads(tmp_path, state, name):
    save(FORMS[name](state), tmp_path / name)
    found = plan(tmp_path / name)
    assert (found.network, dict(found.model)) == ("apollo", OPTIONS) and found.weights == tmp_path / name
    assert apollo.options_of(tmp_path / name) == OPTIONS == dict(plan("apollo", tmp_path / name).model)
    model = models.create(found.network, **found.model)
    pretrained.load_weights(model, tmp_path / name)
    loaded = reference_state(model)
    assert loaded.keys() == state.keys() and all(np.array_equal(loaded[key], state[key]) for key in state)


def test_the_wide_network_has_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr("models.apollo.torch_init_", lambda model, seed: None)
    save(reference_state(models.create("apollo_384", layer=1)), tmp_path / "wide.pt")
    options = {"sr": 44100, "win": 20, "feature_dim": 384, "layer": 1}
    assert apollo.identify(tmp_path / "wide.pt") == ("apollo_384", options)


@pytest.mark.parametrize("place", ["config_apollo.yaml", "config.yaml", "../config.yaml"])
def test_a_configuration_beside_the_file_says_what_shapes_do_not(tmp_path, place):
    options = {"sr": 10000, "win": 30, "feature_dim": 16, "layer": 1}
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    path = folder / "model_apollo.ckpt"
    save(reference_state(models.create("apollo", **options)), path)
    with pytest.raises(UserError, match=r"80 bands in .* not those of frames of 20 ms at any usual rate: put"):
        apollo.identify(path)
    (folder / place).write_text("exp: {dir: Exps}\nmodel: {sr: 10000, win: 30, feature_dim: 16, layer: 1}\n")
    assert apollo.options_of(path) == options


def test_configurations_that_do_not_fit_are_a_sentence(tmp_path, state):
    path = tmp_path / "model_apollo.ckpt"
    save(exchanged(state, layer=6), path)
    with pytest.raises(UserError, match=r"says layer=6, but the weights in .* have layer=1"):
        apollo.options_of(path)
    save(exchanged(state, sr=44100), path)
    with pytest.raises(UserError, match=r"says sr=44100, win=20, but the bands in .* are others"):
        plan(path)
    save(OrderedDict(state), path)
    (tmp_path / "config.yaml").write_text("model: [")
    with pytest.raises(UserError, match="no sound configuration"):
        apollo.options_of(path)


def test_files_of_other_networks_are_left_alone(tmp_path, state):
    save({"weight": np.zeros(3, np.float32)}, tmp_path / "other.pt")
    assert apollo.identify(tmp_path / "other.pt") is None and apollo.identify(tmp_path) is None
    assert apollo.identify(Path("apollo")) is None
    with pytest.raises(UserError, match="holds no weights of an Apollo"):
        apollo.options_of(tmp_path / "other.pt")
    save(OrderedDict(state), tmp_path / "own.pt")
    with pytest.raises(UserError, match="weights of an Apollo, not of tasnet"):
        apollo.identify(tmp_path / "own.pt", "tasnet")
    state = {name: array for name, array in state.items() if name != "BN.7.1.weight"}
    save(OrderedDict(state), tmp_path / "own.pt")
    with pytest.raises(UserError, match=r"holds no whole Apollo: 'BN.7.1.weight'"):
        apollo.options_of(tmp_path / "own.pt")
