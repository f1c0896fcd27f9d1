"""Unpacking: nothing leaves the folder, nothing half-done stays."""

import io
import random
import stat
import tarfile
import zipfile

import pytest

from runtime.errors import UserError
from runtime.files import unpack

GOOD = {"train/song/mixture.wav": b"1234", "README": b""}


def make_zip(path, members, mode=0):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


def make_tar(path, members, kind=tarfile.REGTYPE, compression=""):
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, "/etc/passwd", 0o6777
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_good_archives_are_unpacked_whole(tmp_path, name):
    make = make_zip if name.endswith("zip") else make_tar
    extra = {} if make is make_zip else {"compression": name.partition("tar")[2].strip(".")}
    folder = unpack(make(tmp_path / name, GOOD, **extra), tmp_path / "out")
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == GOOD
    assert not (folder / "README").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil", "c:evil"])
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_names_that_leave_the_folder_refuse_the_archive(tmp_path, make, name):
    archive = make(tmp_path / "a.archive", GOOD | {name: b"evil"})
    with pytest.raises(UserError, match="would write outside"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.archive"]


@pytest.mark.parametrize(
    ("make", "kind", "word"),
    [
        (make_zip, stat.S_IFLNK, "link"),
        (make_zip, stat.S_IFBLK, "device"),
        (make_tar, tarfile.SYMTYPE, "link"),
        (make_tar, tarfile.LNKTYPE, "link"),
        (make_tar, tarfile.CHRTYPE, "device"),
        (make_tar, tarfile.FIFOTYPE, "device"),
    ],
)
def test_links_and_devices_refuse_the_archive(tmp_path, make, kind, word):
    archive = make(tmp_path / "a.archive", {"thing": b"/etc/passwd"}, kind)
    with pytest.raises(UserError, match=f"holds a {word} .'thing'"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar"])
def test_damaged_archives_leave_nothing(tmp_path, name):
    make = make_zip if name.endswith("zip") else make_tar
    content = {"song.wav": bytes(range(256)) * 200, "other.wav": b"x" * 9000}
    extra = {"compression": "gz"} if name.endswith("gz") else {}
    path = make(tmp_path / name, content, **extra)
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], data[:40] + bytes(60) + data[100:] if name != "a.tar" else b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="download it again"):
            unpack(path, tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_one_wrong_bit_of_the_contents_is_noticed(tmp_path, compression):
    noise = {f"{k}.wav": random.Random(k).randbytes(20_000) for k in range(3)}
    path = make_tar(tmp_path / "a.tar", noise, compression=compression)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="download it again"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_with_damaged_bzip2_inside(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.wav", random.Random(0).randbytes(20_000))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[100] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UserError, match="is damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("names", [["x" * 300], ["a", "a/b"]])
def test_names_that_no_disk_can_hold(tmp_path, names):
    with pytest.raises(UserError, match="cannot unpack"):
        unpack(make_zip(tmp_path / "a.zip", dict.fromkeys(names, b"x")), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_folder_with_something_in_it_stays_as_it_is(tmp_path):
    (tmp_path / "out").mkdir()
    archive = make_zip(tmp_path / "a.zip", GOOD)
    unpack(archive, tmp_path / "out")
    with pytest.raises(UserError, match="is there already"):
        unpack(archive, tmp_path / "out")
    with pytest.raises(UserError, match="missing"):
        unpack(tmp_path / "b.zip", tmp_path / "other")


def test_an_archive_that_would_fill_the_disk_is_refused_first(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", {"bomb": bytes(1 << 20)})
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 19}))
    with pytest.raises(UserError, match=r"unpacking a\.zip needs 1\.0 MiB"):
        unpack(archive, tmp_path / "out")
