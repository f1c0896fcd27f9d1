"""Finding and fetching published weights, against a server on this machine."""

import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import models
import pretrained
from pretrained import __main__ as door
from pretrained import catalogue
from runtime.errors import UserError
from tests.pretrained import tf_writer

SMALL = {"filters": [1] * 6, "frequency_bins": 64}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def release(tmp_path, monkeypatch):
    """A folder that a local server offers as the release; holds ``2stems.tar.gz`` with a small network's weights."""
    folder = tmp_path / "web" / catalogue.REPOSITORY / "releases" / "download" / catalogue.RELEASE
    tf_writer.write(tmp_path / "weights", pretrained.reference_state(models.create("spleeter_2stems", **SMALL, seed=7)))
    folder.mkdir(parents=True)
    with tarfile.open(folder / "2stems.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "weights", "./")
    checksum = hashlib.sha256((folder / "2stems.tar.gz").read_bytes()).hexdigest()
    first, *others = catalogue.ARCHIVES
    monkeypatch.setattr(catalogue, "ARCHIVES", (replace(first, sha256=checksum), *others))
    handler = functools.partial(_Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("GITHUB_HOST", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
        monkeypatch.delenv("GITHUB_RELEASE", raising=False)
        yield folder
        server.shutdown()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The folder of published weights, given as the original tool is told."""
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "pretrained"))
    return tmp_path / "pretrained"


@pytest.mark.parametrize("name", ["spleeter_2stems", "spleeter:2stems-16kHz", "2stems", "spleeter/2stems"])
def test_weights_are_fetched_once_and_load(release, root, name):
    path = pretrained.resolve(name)
    assert path == root / "2stems" and sorted(p.name for p in root.iterdir()) == ["2stems"]
    assert (path / ".probe").read_text() == "OK"  # the original tool believes it, too
    pretrained.load_weights(models.create(name, **SMALL), path)
    (release / "2stems.tar.gz").unlink()
    assert pretrained.resolve(name, offline=True) == path


def test_a_given_path_comes_first(root, tmp_path):
    assert pretrained.resolve(str(tmp_path)) == tmp_path
    with pytest.raises(UserError, match="there is no file or folder"):
        pretrained.resolve(str(tmp_path / "nowhere"))


def test_a_folder_that_happens_to_have_a_networks_name_is_not_its_weights(release, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spleeter_2stems").mkdir()
    assert pretrained.resolve("spleeter_2stems") == root / "2stems"
    assert pretrained.resolve("./spleeter_2stems") == Path("spleeter_2stems")
    assert pretrained.resolve(Path("spleeter_2stems")) == Path("spleeter_2stems")
    (tmp_path / "mine").mkdir()
    assert pretrained.resolve("mine") == Path("mine")


def test_root_may_be_an_argument(release, root, tmp_path):
    assert pretrained.resolve("2stems", root=tmp_path / "mine") == tmp_path / "mine" / "2stems"
    assert not root.exists()


def test_offline_says_what_to_place_where(root):
    with pytest.raises(UserError) as failure:
        pretrained.resolve("spleeter:5stems", offline=True)
    for part in ("v1.4.0/5stems.tar.gz", catalogue.ARCHIVES[2].sha256, str(root / "5stems" / "checkpoint")):
        assert part in str(failure.value)


def test_a_wrong_checksum_leaves_nothing(release, root):
    (release / "2stems.tar.gz").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"wrong sha256 checksum.*unpack it to"):
        pretrained.resolve("2stems")
    assert not (root / "2stems").exists() and not (root / "2stems.tar.gz").exists()


def test_a_missing_file_says_so(release, root):
    with pytest.raises(UserError, match=r"HTTP 404.*unpack it to"):
        pretrained.resolve("spleeter_4stems")


def test_another_release_has_its_own_checksums(release, root, monkeypatch):
    other = release.with_name("v2")
    other.mkdir()
    data = (release / "2stems.tar.gz").read_bytes() + b"\0"
    (other / "2stems.tar.gz").write_bytes(data)
    (other / "checksum.json").write_text(json.dumps({"2stems": hashlib.sha256(data).hexdigest()}))
    monkeypatch.setenv("GITHUB_RELEASE", "v2")
    assert pretrained.resolve("2stems") == root / "2stems"
    with pytest.raises(UserError, match="no checksum for 4stems"):
        pretrained.resolve("4stems")


def test_a_path_that_leaves_the_folder_is_refused(release, root, monkeypatch):
    path = release / "2stems.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../evil"), io.BytesIO())
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(catalogue, "ARCHIVES", (replace(catalogue.ARCHIVES[0], sha256=checksum),))
    with pytest.raises(UserError, match="outside its folder"):
        pretrained.resolve("2stems")
    assert not (root / "2stems").exists() and not (root / "evil").exists()


def test_an_incomplete_folder_is_neither_used_nor_replaced(release, root):
    folder = pretrained.resolve("2stems")
    (folder / "model.data-00000-of-00001").unlink()
    before = sorted(folder.iterdir())
    with pytest.raises(UserError, match=r"is incomplete: model\.data-00000-of-00001 is missing"):
        pretrained.resolve("2stems")
    assert sorted(folder.iterdir()) == before


def test_networks_without_published_weights():
    with pytest.raises(UserError, match="no published weights for spleeter_musdb"):
        pretrained.resolve("spleeter_musdb")
    with pytest.raises(UserError, match="no network called 'spleeter_3stems'"):
        pretrained.resolve("spleeter_3stems")


def test_the_door_lists_and_downloads(release, root, capsys):
    assert door.main(["list"]) == 0
    assert capsys.readouterr().out.count("not here yet") == 4
    assert door.main(["download", "spleeter:2stems", "2stems_16khz"]) == 0
    assert str(root / "2stems") in capsys.readouterr().out
    assert door.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert f"in {root / '2stems'}" in listed and "spleeter_2stems, spleeter_2stems_16khz" in listed
    with pytest.raises(UserError, match="downloading is off"):
        door.main(["download", "4stems", "--offline"])


def test_mirrors_come_first_and_only_what_is_published_counts(release, root, tmp_path, monkeypatch, capsys):
    (tmp_path / "other.tar.gz").write_bytes(b"something else")
    mirror = (tmp_path / "moved.tar.gz").absolute()
    (release / "2stems.tar.gz").rename(mirror)
    with pytest.raises(UserError, match="one by one"):
        door.main(["download", "2stems", "4stems", "--url", mirror.as_uri()])
    monkeypatch.setenv("GITHUB_HOST", "http://127.0.0.1:1")
    assert door.main(["download", "2stems", "--url", (tmp_path / "other.tar.gz").as_uri(), mirror.as_uri()]) == 0
    assert pretrained.resolve("2stems", offline=True) == root / "2stems"


def test_a_file_in_the_place_of_the_folder_is_not_touched(release, root):
    root.mkdir()
    (root / "2stems").write_text("mine")
    with pytest.raises(UserError, match="is a file where the folder of the weights should be"):
        pretrained.resolve("2stems")
    assert (root / "2stems").read_text() == "mine"
