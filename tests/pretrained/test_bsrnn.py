"""Files of BandSplitRNN's original: which network they are of, and their weights, averaged or not."""

from pathlib import Path

import numpy as np
import pytest

import models
import pretrained
from models.bsrnn_config import SCHEMES
from models.tensors import tensors
from pretrained import __main__ as commands
from pretrained import bsrnn, lightning, reference_state
from runtime import checkpoint
from runtime.errors import UserError
from tests.pretrained.torch_writer import lightning as lightning_content
from tests.pretrained.torch_writer import save

SMALL = {"fc_dim": 8, "rnn_dim": 4, "mlp_dim": 6, "num_layers": 1, "t_timesteps": 9}


def network(**options):
    return models.create("bsrnn_vocals", **{**SMALL, **options})


def state_of(**options):
    return reference_state(network(**options))


def same(model, arrays):
    found = reference_state(model)
    return found.keys() == arrays.keys() and all(np.array_equal(found[name], arrays[name]) for name in arrays)


@pytest.fixture(scope="module")
def state():
    """Reference name -> array of a small network, not as it begins."""
    return {name: array + np.float32(0.25) for name, array in state_of().items()}


@pytest.fixture(scope="module")
def average(state):
    return {name: array * np.float32(0.5) for name, array in state.items()}


def written(path: Path, content, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save(content, path, **options)
    return path


# ------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"t_timesteps": None},
        {"rnn_type": "GRU", "bidirectional": False, "num_layers": 3, "rnn_dim": 5},
        {"bottleneck_layer": "att", "num_layers": 2},
        {"is_mono": True},
        {"is_mono": True, "complex_as_channel": False},
        *({"bandsplits": scheme} for scheme in SCHEMES),
    ],
    ids=str,
)
def test_shapes_say_what_the_options_are(tmp_path, options):
    path = written(tmp_path / "vocals.pt", state_of(**options))
    found = bsrnn.options_of(path)
    assert found.keys() >= {"bandsplits", "t_timesteps", "fc_dim", "rnn_dim", "num_layers", "mlp_dim", "is_mono"}
    wanted, seen = (models.describe("bsrnn_vocals", **each).config for each in ({**SMALL, **options}, found))
    assert seen == wanted
    pretrained.load_weights(models.create("bsrnn_vocals", **found), path)


def hyper_parameters(**model):
    return {
        "model": {
            **{"sr": 44100, "n_fft": 2048, "bandsplits": [list(pair) for pair in SCHEMES["V7"]]},
            **{"t_timesteps": 9, "fc_dim": 8, "rnn_type": "LSTM", "is_mono": "${..train_dataset.is_mono}", **model},
        },
        "featurizer": {"direct_transform": {"hop_length": 256, "power": None}},
        "train_dataset": {"target": "other", "is_mono": False, "file_dir": "${oc.env:NOWHERE_AT_ALL}"},
    }


def test_a_checkpoint_has_its_configuration_inside(tmp_path, state):
    path = written(tmp_path / "last.ckpt", lightning_content(state, hyper_parameters=hyper_parameters()))
    name, options = bsrnn.identify(path)
    assert name == "bsrnn_other"
    facts = (options["hop_length"], options["bandsplits"], options["is_mono"])
    assert facts == (256, hyper_parameters()["model"]["bandsplits"], False)
    assert models.describe(name, **options).config["bandsplits"] == "V7"


@pytest.mark.parametrize("place", ["hparams.yaml", "../tb_logs/hparams.yaml"])
def test_the_configuration_beside_a_file_counts_most(tmp_path, state, place):
    from omegaconf import OmegaConf

    content = lightning_content(state, hyper_parameters=hyper_parameters())
    path = written(tmp_path / "weights" / "epoch01.ckpt", content)
    beside = path.parent / place
    beside.parent.mkdir(exist_ok=True)
    OmegaConf.save({**hyper_parameters(return_mask=True), "audio_params": {"target": "piano"}}, beside)
    name, options = bsrnn.identify(path)
    assert (name, options["target"], options["return_mask"]) == ("bsrnn_vocals", "piano", True)


def test_a_configuration_that_contradicts_the_weights_is_named(tmp_path, state):
    path = written(tmp_path / "x.ckpt", lightning_content(state, hyper_parameters=hyper_parameters(t_timesteps=263)))
    with pytest.raises(UserError, match=r"x\.ckpt says t_timesteps=263, but the weights in .* have t_timesteps=9"):
        bsrnn.options_of(path)
    beside = hyper_parameters(bandsplits=[[1000, 500]])
    path = written(tmp_path / "x.ckpt", lightning_content(state, hyper_parameters=beside))
    with pytest.raises(UserError, match=r"the bands in .*x\.ckpt .* are not those of its configuration"):
        bsrnn.options_of(path)


def test_bands_of_no_scheme_need_a_configuration(tmp_path):
    path = written(tmp_path / "vocals.pt", state_of(bandsplits=[[4000, 2000]]))
    with pytest.raises(UserError, match=r"vocals\.pt .* are of no known scheme .*hparams\.yaml"):
        bsrnn.options_of(path)
    (tmp_path / "hparams.yaml").write_text("model:\n  bandsplits: [[4000, 2000]]\n")
    assert bsrnn.options_of(path)["bandsplits"] == [[4000, 2000]]
    (tmp_path / "hparams.yaml").write_text("model: [")
    with pytest.raises(UserError, match=r"hparams\.yaml is no configuration"):
        bsrnn.options_of(path)


def test_files_of_other_networks_are_told_apart(tmp_path, state):
    path = written(tmp_path / "x.pt", {"layer.weight": np.zeros(3, np.float32)})
    assert bsrnn.identify(path) is None
    with pytest.raises(UserError, match=r"x\.pt holds no weights of a BandSplitRNN"):
        bsrnn.options_of(path)
    lacking = {name: array for name, array in state.items() if not name.startswith("maskest.mlp.0.")}
    with pytest.raises(UserError, match=r"y\.pt holds no whole BandSplitRNN"):
        bsrnn.options_of(written(tmp_path / "y.pt", lacking))


# ------------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("legacy", [False, True])
def test_state_dicts_are_loaded(tmp_path, state, legacy):
    path, model = written(tmp_path / "x.pt", state, legacy=legacy), network()
    assert pretrained.load_weights(model, path).kind == "PyTorch state"
    assert same(model, state)


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_give_the_average_unless_the_path_says_raw(tmp_path, state, average, legacy):
    path, model = written(tmp_path / "x.ckpt", lightning_content(state, average), legacy=legacy), network()
    averaged = pretrained.load_weights(model, path)
    assert same(model, average)
    raw = pretrained.load_weights(model, f"{path}{lightning.RAW}")
    assert same(model, state)
    assert averaged.hash != raw.hash
    assert averaged.path == raw.path == path


def test_checkpoints_without_an_average_give_the_weights(tmp_path, state):
    path, model = written(tmp_path / "x.ckpt", lightning_content(state)), network()
    pretrained.load_weights(model, path)
    assert same(model, state)
    bare = {"state_dict": {f"model.{name}": array for name, array in state.items()}}
    other = network(seed=1)
    pretrained.load_weights(other, written(tmp_path / "bare.ckpt", bare))
    assert same(other, state)


def test_an_average_of_other_tensors_is_refused(tmp_path, state, average):
    del average[next(iter(average))]
    path = written(tmp_path / "x.ckpt", lightning_content(state, average))
    with pytest.raises(UserError, match=r"x\.ckpt: its average has \d+ tensors .*#raw"):
        pretrained.load_weights(network(), path)


def test_raw_weights_of_our_own_checkpoints(tmp_path):
    model = network()
    ours = {name: tensor.numpy() for name, tensor in tensors(model).items()}
    groups = {"model": ours, "ema": {name: array * 0 for name, array in ours.items()}}
    facts = {"step": 1, "network": "bsrnn_vocals", "config": {"model": SMALL}}
    folder = checkpoint.save(tmp_path / "run" / "checkpoints", groups, facts)
    pretrained.load_weights(model, folder)
    assert not any(tensor.numpy().any() for tensor in tensors(model).values())
    pretrained.load_weights(model, f"{tmp_path / 'run'}{lightning.RAW}")
    assert all(np.array_equal(tensor.numpy(), ours[name]) for name, tensor in tensors(model).items())


# ------------------------------------------------------------------------------------------------------------ commands


def test_the_commands_say_where_the_published_weights_are(tmp_path, state, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    commands.main(["list"])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("bsrnn_vocals"))
    assert "saved_models/vocals/vocals.pt" in row
    assert bsrnn.ADDRESS in row
    with pytest.raises(UserError, match="not fetched automatically"):
        commands.main(["download", "bsrnn_vocals"])
    written(Path("saved_models/vocals/vocals.pt"), state)
    commands.main(["download", "bsrnn_vocals"])
    assert capsys.readouterr().out == "bsrnn_vocals: saved_models/vocals/vocals.pt\n"
