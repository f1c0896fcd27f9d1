"""Demucs beside the original: packages that it writes, separated by both. `make test-originals` installs it."""

import numpy as np
import pytest

from inference import apply_model
from pretrained import get_model, reference_state, write_package

torch = pytest.importorskip("torch")
states = pytest.importorskip("demucs.states")

SOURCES = ["drums", "bass", "other", "vocals"]
RATE = 8000
NETWORKS = {
    "demucs.demucs.Demucs": {"channels": 8, "depth": 5, "dconv_comp": 2, "segment": 2},
    "demucs.hdemucs.HDemucs": {"channels": 8, "nfft": 1024, "depth": 5, "norm_starts": 3, "segment": 2},
    "demucs.htdemucs.HTDemucs": {
        **{"channels": 8, "nfft": 1024, "depth": 3, "dconv_mode": 3, "dconv_comp": 4, "bottom_channels": 32},
        **{"t_layers": 3, "t_heads": 4, "t_hidden_scale": 2.0, "segment": 2},
    },
}


def _original(klass):
    module, _, name = klass.rpartition(".")
    torch.manual_seed(0)
    made = getattr(__import__(module, fromlist=[name]), name)(SOURCES, samplerate=RATE, **NETWORKS[klass])
    return made.eval()


def _write(model, path, quantizer=None):
    from omegaconf import OmegaConf

    torch.save(states.serialize_model(model, OmegaConf.create({}), quantizer), path)


def _both(folder, name, overlap=0.25):
    """The same mixture through the original's reader and `apply_model`, and through ours."""
    from demucs import pretrained as original
    from demucs.apply import apply_model as apply_original

    mix = np.random.default_rng(0).standard_normal((1, 2, 5 * RATE + 17)).astype(np.float32)
    theirs = original.get_model(name, folder)
    with torch.no_grad():
        expected = apply_original(theirs, torch.from_numpy(mix), shifts=0, overlap=overlap).numpy()
    return apply_model(get_model(name, folder), mix, shifts=0, overlap=overlap), expected


def _agree(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_original_reads_what_is_written_here(tmp_path):
    from demucs.hf import load_safetensors_model

    _write(_original("demucs.htdemucs.HTDemucs"), tmp_path / "abcd1234.th")
    bag = get_model("abcd1234", tmp_path)
    write_package(tmp_path / "ours.safetensors", bag.models[0], half=False)
    found = load_safetensors_model(tmp_path / "ours.safetensors")
    assert float(found.segment) == 2
    mine = reference_state(bag.models[0])
    assert mine.keys() == found.state_dict().keys()
    assert all(np.array_equal(mine[name], value.numpy()) for name, value in found.state_dict().items())


@pytest.mark.parametrize("klass", NETWORKS)
def test_a_package_separates_as_in_the_original(tmp_path, klass):
    _write(_original(klass), tmp_path / "abcd1234.th")
    _agree(*_both(tmp_path, "abcd1234"))


def test_a_package_packed_by_diffq_separates_as_in_the_original(tmp_path):
    diffq = pytest.importorskip("diffq")
    model = _original("demucs.hdemucs.HDemucs")
    quantizer = diffq.DiffQuantizer(model, min_size=0.01, group_size=8)
    for parameter in quantizer._qparams:
        parameter.logit.data += torch.randn_like(parameter.logit).clamp(max=2)  # the format loses groups of 15 bits
    _write(model, tmp_path / "abcd1234.th", quantizer)
    _agree(*_both(tmp_path, "abcd1234"))


def test_a_bag_separates_as_in_the_original(tmp_path):
    for number, klass in enumerate(NETWORKS):
        _write(_original(klass), tmp_path / f"aaaa000{number}.th")
    weights = [[1.0, 1.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.25], [1.0, 0.0, 1.0, 1.0]]
    text = f"models: [aaaa0000, aaaa0001, aaaa0002]\nweights: {weights}\nsegment: 3\n"
    (tmp_path / "mixed.yaml").write_text(text)
    _agree(*_both(tmp_path, "mixed", overlap=0.1))
