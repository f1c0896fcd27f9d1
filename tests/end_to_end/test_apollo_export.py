"""Apollo for others, as people write it: the mode export."""

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

import models
from inference import restoration
from models.apollo_config import DiscriminatorConfig
from models.apollo_discriminator import MultiFrequencyDiscriminator
from pretrained import apollo_exchange, load_weights, reference_state, torch_pickle
from run_scripts import apollo_export, static_program
from runtime import checkpoint
from runtime.errors import UserError
from tests.pretrained import torch_writer

OPTIONS = {"sr": 8000, "win": 20, "feature_dim": 16, "layer": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkpoint of the training fork, its configuration, and the tensors of its generator."""
    folder = tmp_path_factory.mktemp("apollo")
    model = models.create("apollo", **OPTIONS)
    state = {name: array * np.float32(1.5) for name, array in reference_state(model).items()}
    judge = reference_state(MultiFrequencyDiscriminator(DiscriminatorConfig(window=[32])))
    module = [(f"audio_model.{name}", array) for name, array in state.items()]
    module += [(f"discriminator.{name}", array) for name, array in judge.items()]
    content = {"pytorch-lightning_version": "2.1", "state_dict": OrderedDict(module)}
    torch_writer.save(content, folder / "epoch=12-val_loss=-9.25.ckpt")
    torch_writer.save(content, folder / "last.ckpt")
    (folder / "apollo.yml").write_text("model: {sr: 8000, win: 20, feature_dim: 16, layer: 1}\n")
    return folder, state


def exported(place, out, *more):
    source = str(place[0] / "epoch=12-val_loss=-9.25.ckpt")
    words = ["-m", source, "-c", str(place[0] / "apollo.yml"), "-o", str(out), *more]
    assert apollo_export.main(words) == 0
    return out / "model_apollo_ep_12_val_loss_-9.25.ckpt", out / "config_apollo_ep_12_val_loss_-9.25.yaml"


def test_the_pair(place, tmp_path):
    from omegaconf import OmegaConf

    weights, settings = exported(place, tmp_path / "new", "-d", "MP3, 64 kbit/s")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {weights.name, settings.name}
    content = torch_pickle.load(weights)
    assert content["name"] == "apollo" and content["info"]["description"] == "MP3, 64 kbit/s"
    assert content["config"] == OPTIONS
    state = content["state_dict"]
    assert state.keys() == place[1].keys()  # no discriminator
    assert all(np.array_equal(state[name], array) for name, array in place[1].items())
    config = OmegaConf.to_container(OmegaConf.load(settings))
    assert config["model"] == OPTIONS and config["inference"] == {"batch_size": 1, "num_overlap": 4}
    assert config["audio"] == {"chunk_size": 80000, "min_mean_abs": 0.0, "num_channels": 2, "sample_rate": 8000}
    assert config["training"]["instruments"] == ["restored", "addition"]
    assert config["training"]["target_instrument"] == "restored"
    plan = restoration.plan(weights, settings)
    assert plan.network == "apollo" and dict(plan.model) == OPTIONS
    load_weights(models.create("apollo", **plan.model), weights)


def test_names_without_a_score_and_the_other_spelling(place, tmp_path):
    words = ["-m", str(place[0] / "last.ckpt"), "-c", str(place[0] / "apollo.yml"), "-o", str(tmp_path)]
    assert apollo_export.main([*words, "--discription", "x"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"model_apollo.ckpt", "config_apollo.yaml"}


def test_a_checkpoint_of_ours_says_its_epoch_and_its_loss(tmp_path):
    """The loss of just these weights, if they were judged."""
    history = [{"step": 3, "valid": {"loss": -1.23456}}, {"step": 6, "valid": {"loss": -2.0}}]
    expected = {3: "_ep_2_val_loss_-1.2346", 6: "_ep_2_val_loss_-2.0000", 7: "_ep_2"}
    for step, suffix in expected.items():
        path = checkpoint.save(tmp_path / "best", {}, {"step": step, "epoch": 2, "history": history})
        assert apollo_exchange.names(path) == (f"model_apollo{suffix}.ckpt", f"config_apollo{suffix}.yaml")


def test_torch_loads_it(place, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    weights, _ = exported(place, tmp_path)
    content = torch.load(weights, map_location="cpu", weights_only=True)
    assert content["config"] == OPTIONS and content["state_dict"].keys() == place[1].keys()
    for name, array in place[1].items():
        tensor = content["state_dict"][name]
        assert tensor.dtype == torch.float32 and tensor.is_contiguous()
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_a_program(place, tmp_path):
    import paddle

    weights, _ = exported(place, tmp_path, "--static", "--segments", "0.5")
    folder = tmp_path / "apollo-epoch=12-val_loss=-9.25-static"
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["sources"] == ["restored"] and facts["input"] == [1, 2, 4000] and facts["deviation"] < 1e-5
    model = models.create("apollo", **OPTIONS)
    load_weights(model, weights)
    model.eval()
    mix = np.random.default_rng(5).standard_normal((1, 2, 4000)).astype(np.float32)
    with paddle.no_grad():
        expected = model(paddle.to_tensor(mix)).numpy()
    result = static_program.run(folder, mix)
    assert np.abs(result - expected).max() < 1e-4 * np.abs(expected).max()


def test_what_cannot_be_is_a_sentence(place, tmp_path):
    with pytest.raises(UserError, match=r"missing\.ckpt"):
        apollo_export.main(["-m", str(tmp_path / "missing.ckpt"), "-o", str(tmp_path)])
    file = Path(tmp_path / "file")
    file.write_text("")
    words = ["-m", str(place[0] / "last.ckpt"), "-c", str(place[0] / "apollo.yml"), "-o", str(file)]
    with pytest.raises(UserError, match="file"):
        apollo_export.main(words)
