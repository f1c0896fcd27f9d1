"""Published weights of RMVPE, and files of the originals."""

import hashlib

import numpy as np
import pytest

import models
import pretrained
from pretrained import __main__ as door
from pretrained import rmvpe
from pretrained.loading import reference_state
from runtime.errors import UserError
from tests.pretrained import torch_writer


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A file in the place of the published one."""
    place = tmp_path / "mirror" / rmvpe.LOCATION
    place.parent.mkdir(parents=True)
    place.write_bytes(b"weights")
    monkeypatch.setenv("HF_ENDPOINT", (tmp_path / "mirror").as_uri())
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "root"))
    monkeypatch.setattr(rmvpe, "SIZE", len(b"weights"))
    return place


def test_published_weights_are_fetched_once(mirror, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rmvpe, "SHA256", hashlib.sha256(b"weights").hexdigest())
    assert door.main(["download", "rmvpe"]) == 0
    mirror.unlink()
    target = tmp_path / "root" / "rmvpe" / "rmvpe.pt"
    assert target.read_bytes() == b"weights"
    assert pretrained.resolve("rmvpe", offline=True) == target
    assert door.main(["list"]) == 0
    assert f"in {target}" in capsys.readouterr().out


def test_what_is_not_the_published_file_is_refused(mirror, tmp_path):
    with pytest.raises(UserError, match="Without a connection, save"):
        pretrained.resolve("rmvpe")
    assert not (tmp_path / "root" / "rmvpe" / "rmvpe.pt").exists()


def test_the_other_publishers_file_will_do(mirror, tmp_path):
    with pytest.raises(UserError, match=f"downloading is off: .*{rmvpe.SHA256}"):
        pretrained.resolve("rmvpe", offline=True)
    other = tmp_path / "root" / "rmvpe" / "model.pt"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"the same")
    assert pretrained.resolve("rmvpe") == other
    with pytest.raises(UserError, match="no published weights for rmvpe_e2e"):
        pretrained.resolve("rmvpe_e2e")


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("rmvpe", {"n_blocks": 2, "inter_layers": 1, "en_out_channels": 2}),
        ("rmvpe", {"n_blocks": 1, "n_gru": 0, "en_de_layers": 3, "en_out_channels": 4}),
        ("rmvpe", {"n_blocks": 1, "n_gru": 2, "inter_layers": 2, "en_out_channels": 2}),
        ("rmvpe_paper_e2e0", {"n_blocks": 1, "inter_layers": 1, "en_out_channels": 2}),
    ],
)
def test_files_say_which_network_they_are_of(tmp_path, network, options):
    model = models.create(network, **options)
    torch_writer.save({"model": reference_state(model)}, tmp_path / "net.pt")
    assert rmvpe.identify(tmp_path / "net.pt") == (network, options)


def test_other_files_are_not_known(tmp_path):
    torch_writer.save({"a": np.zeros(3, np.float32)}, tmp_path / "other.pt")
    assert rmvpe.identify(tmp_path / "other.pt") is None
    assert rmvpe.identify(tmp_path / "gone.pt") is None
    assert rmvpe.identify(tmp_path) is None
