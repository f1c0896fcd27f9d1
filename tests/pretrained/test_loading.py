"""Weights into networks: reference names, our checkpoints, and everything that must be refused."""

import numpy as np
import pytest

import models
import pretrained
from pretrained import names, tf_checkpoint
from pretrained.tf_table import masked_crc32c
from runtime import checkpoint
from runtime.errors import UserError
from tests.pretrained import tf_writer

SMALL = {"filters": [2, 3, 4, 5, 6, 7], "frequency_bins": 64, "segment_frames": 64}


def _network(name="spleeter_2stems", **options):
    return models.create(name, **{**SMALL, **options})


def _state(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def _same(model, state):
    mine = _state(model)
    return mine.keys() == state.keys() and all(np.array_equal(mine[name], state[name]) for name in state)


@pytest.fixture
def trained():
    """A network whose every tensor differs from what a new one has."""
    model, generator = _network(), np.random.default_rng(0)
    for tensor in model.state_dict().values():
        tensor.set_value(generator.uniform(0.5, 1.5, tensor.shape).astype(np.float32))
    return model


def _save(model, run, step=3, kind="checkpoints", ema=None, **config):
    groups = {"model": _state(model)} | ({"ema": ema} if ema else {})
    options = {
        key: list(value) if isinstance(value, tuple) else value for key, value in model.description.config.items()
    }
    config = {"network": model.description.name, "model": options, **config}
    return checkpoint.save(run / kind, groups, {"step": step, "network": config["network"], "config": config})


def test_every_tensor_has_one_reference_name(shared_parity):
    for stems in (2, 4, 5):
        listing = shared_parity.parent / "spec" / "state_dicts" / f"spleeter_{stems}stems_tfvars.txt"
        expected = dict(line.split("\t") for line in listing.read_text().splitlines())
        model = models.create(f"spleeter_{stems}stems")
        assert {link.ours for link in names.links(model)} == set(model.state_dict())
        state = pretrained.reference_state(model)
        assert {name: str(list(array.shape)) for name, array in state.items()} == expected


def test_fresh_statistics_have_the_checksums_of_the_official_checkpoint(shared_audio):
    entries = tf_checkpoint.open_bundle(shared_audio / "checkpoints" / "spleeter_2stems").entries
    state = pretrained.reference_state(models.create("spleeter_2stems"))
    same = {name for name, array in state.items() if masked_crc32c(array.tobytes()) == entries[name].crc32c}
    assert {name for name in state if "/moving_" in name} <= same
    assert {f"batch_normalization_{k}/{kind}" for k in (5, 17) for kind in ("gamma", "beta")} <= same
    assert not any(name.endswith("/kernel") for name in same)


def test_reference_state_round_trip(trained):
    other = _network()
    pretrained.load_reference_state(other, pretrained.reference_state(trained))
    assert _same(other, _state(trained))


def test_our_weights_in_their_layout_have_their_checksums(trained, tmp_path):
    written = pretrained.reference_state(trained)
    bundle = tf_checkpoint.open_bundle(tf_writer.write(tmp_path, written))
    other = _network()
    assert pretrained.load_weights(other, tmp_path).kind == "TensorFlow checkpoint"
    for name, array in pretrained.reference_state(other).items():
        assert masked_crc32c(array.tobytes()) == bundle.entries[name].crc32c


def test_optimiser_state_of_a_training_checkpoint_is_left_alone(trained, tmp_path):
    written = pretrained.reference_state(trained)
    slots = {f"{name}/{slot}": array for name, array in written.items() for slot in ("Adam", "Adam_1")}
    counters = {"beta1_power": np.float32(0.9), "beta2_power": np.float32(0.999), "global_step": np.int64(5)}
    tf_writer.write(tmp_path, written | slots | {name: np.array(value) for name, value in counters.items()})
    other = _network()
    pretrained.load_weights(other, tmp_path)
    assert _same(other, _state(trained))


def test_missing_unexpected_and_wrongly_shaped_tensors_are_listed_and_nothing_is_loaded(trained):
    arrays = pretrained.reference_state(trained)
    arrays["conv2d_70/bias"] = arrays.pop("conv2d_1/bias")
    arrays["conv2d/kernel"] = arrays["conv2d/kernel"][..., :1]
    other = _network()
    before = _state(other)
    with pytest.raises(UserError) as failure:
        pretrained.load_reference_state(other, arrays)
    for part in (
        "1 missing (conv2d_1/bias)",
        "1 unexpected (conv2d_70/bias)",
        "1 wrongly shaped (conv2d/kernel [1, 2, 5, 5] instead of [2, 2, 5, 5])",
        "spleeter_2stems (vocals, accompaniment)",
    ):
        assert part in str(failure.value)
    assert _same(other, before)


def test_our_names_are_no_reference_names(trained):
    with pytest.raises(UserError, match=r"148 missing .*148 unexpected \(nets\.vocals\.conv1\.weight"):
        pretrained.load_reference_state(_network(), _state(trained))


def test_long_lists_are_cut(trained):
    with pytest.raises(UserError, match=r"148 missing \(.*, …\)"):
        pretrained.load_reference_state(trained, {})


@pytest.mark.parametrize(
    "form", ["checkpoint folder", "run folder", "folder of checkpoints", "best of a run", "safetensors"]
)
def test_our_own_files(trained, tmp_path, form):
    folder = _save(trained, tmp_path)
    if form == "best of a run":
        _save(_network(seed=1), tmp_path, step=9)
        _save(trained, tmp_path, kind="best")
    paths = {
        "checkpoint folder": folder,
        "folder of checkpoints": folder.parent,
        "safetensors": folder / "model.safetensors",
    }
    other = _network()
    loaded = pretrained.load_weights(other, paths.get(form, tmp_path))
    assert _same(other, _state(trained))
    assert loaded.hash == checkpoint.weights_hash(_state(trained))


def test_averaged_weights_come_first(trained, tmp_path):
    average = {name: array * np.float32(0.5) for name, array in _state(trained).items()}
    folder, other = _save(trained, tmp_path, ema=average), _network()
    pretrained.load_weights(other, folder)
    assert _same(other, average)


def test_weights_of_other_precision_are_converted(trained, tmp_path):
    other = _network()
    pretrained.load_reference_state(
        other, {k: v.astype(np.float64) for k, v in pretrained.reference_state(trained).items()}
    )
    assert _same(other, _state(trained))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"name": "spleeter_4stems"},
            r"checkpoint of spleeter_2stems \(vocals, accompaniment\), not of spleeter_4stems",
        ),
        ({"conv_activation": "ELU"}, "conv_activation=LeakyReLU; this network has conv_activation=ELU"),
        ({"output": "softmax"}, "output=sigmoid; this network has output=softmax"),
        ({"frame_step": 512}, "frame_step=1024"),
        ({"filters": [2, 3, 4, 5, 6, 8]}, "wrongly shaped"),
    ],
)
def test_a_checkpoint_of_another_network(trained, tmp_path, options, says):
    other = _network(**options)
    before = _state(other)
    with pytest.raises(UserError, match=says):
        pretrained.load_weights(other, _save(trained, tmp_path))
    with pytest.raises(UserError, match=says):
        pretrained.load_weights(other, _save(trained, tmp_path) / "model.safetensors")
    assert _same(other, before)


def test_more_bins_are_the_same_network(trained, tmp_path):
    other = _network("spleeter_2stems_16khz", frequency_bins=128)
    pretrained.load_weights(other, _save(trained, tmp_path))
    assert _same(other, _state(trained))


def test_a_tensorflow_checkpoint_of_another_network(trained, tmp_path):
    tf_writer.write(tmp_path, pretrained.reference_state(trained))
    with pytest.raises(UserError, match=r"the weights in .* do not fit spleeter_4stems .*148 missing"):
        pretrained.load_weights(_network("spleeter_4stems"), tmp_path)


def test_nothing_and_nonsense(trained, tmp_path):
    with pytest.raises(UserError, match="there are no weights at"):
        pretrained.load_weights(trained, tmp_path / "nowhere")
    (tmp_path / "x.safetensors").write_bytes(b"12345678 nonsense")
    with pytest.raises(UserError, match="no sound safetensors file"):
        pretrained.load_weights(trained, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="neither a checkpoint or run folder"):
        pretrained.load_weights(trained, tmp_path)
    folder = _save(trained, tmp_path / "run")
    array_file = folder / "model.safetensors"
    array_file.write_bytes(array_file.read_bytes()[:-4])
    with pytest.raises(UserError, match="damaged"):
        pretrained.load_weights(trained, folder)
