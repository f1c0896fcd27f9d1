"""Atomic files and folders, JSON, checks of the disk."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime import files
from runtime.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_write_replaces_whole_files_and_makes_folders(tmp_path):
    path = tmp_path / "new" / "song.txt"
    with files.atomic_write(path, "w") as handle:
        handle.write("é\n")
        assert not path.exists()
    with files.atomic_write(path) as handle:
        handle.write(b"later")
        assert path.read_text("utf-8") == "é\n"
    assert path.read_bytes() == b"later"
    assert names(path.parent) == ["song.txt"]


def test_atomic_write_leaves_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "song.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.atomic_write(path, "w") as handle:
        handle.write("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["song.txt"]


def test_atomic_write_honours_the_umask_and_links(tmp_path):
    (tmp_path / "link").symlink_to("target")
    with files.atomic_write(tmp_path / "link") as handle:
        handle.write(b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"1"
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o666 & ~umask


def test_atomic_path_keeps_the_suffix_for_writers_that_look_at_it(tmp_path):
    with files.atomic_path(tmp_path / ("long " * 45 + ".flac")) as temporary:
        assert temporary.suffix == ".flac" and temporary.parent == tmp_path
        temporary.write_bytes(b"1")
    assert len(names(tmp_path)) == 1


def test_atomic_folder_appears_whole(tmp_path):
    target = tmp_path / "a" / "run"
    with files.atomic_folder(target) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "x").write_text("1")
        assert not target.exists()
    assert (target / "inner" / "x").read_text() == "1"
    with pytest.raises(FileExistsError), files.atomic_folder(target):
        pass
    with files.atomic_folder(target, replace=True) as folder:
        (folder / "y").write_text("2")
    assert names(target) == ["y"]
    assert names(target.parent) == ["run"]


def test_atomic_folder_leaves_the_old_one_when_the_block_fails(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x").write_text("1")
    with pytest.raises(ZeroDivisionError), files.atomic_folder(tmp_path / "run", replace=True) as folder:
        (folder / "x").write_text("2")
        raise ZeroDivisionError
    assert names(tmp_path) == ["run"]
    assert (tmp_path / "run" / "x").read_text() == "1"


def test_killed_writers_leave_only_what_remove_leftovers_removes(tmp_path):
    code = f"""
import os, signal
from runtime import files
with files.atomic_folder({str(tmp_path / "run")!r}) as folder, files.atomic_write({str(tmp_path / "x.txt")!r}):
    (folder / "y").write_text("1")
    os.kill(os.getpid(), signal.SIGKILL)"""
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
    assert len(names(tmp_path)) == 2
    assert all(name.startswith(".tmp-") for name in names(tmp_path))
    (tmp_path / "song").write_text("")
    files.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["song"]


def test_json_takes_numbers_of_numpy_and_says_what_is_wrong(tmp_path):
    path = tmp_path / "state.json"
    files.write_json(path, {"a": np.float32(0.5), "b": np.arange(2), "c": 2**100, "d": Path("x"), "e": np.bool_(True)})
    assert files.read_json(path) == {"a": 0.5, "b": [0, 1], "c": 2**100, "d": "x", "e": True}
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert names(tmp_path) == ["state.json"]
    files.write_json(path, {"song": os.fsdecode(b"\xff.wav")})  # the name of a file that is not UTF-8
    assert files.read_json(path) == {"song": os.fsdecode(b"\xff.wav")}
    path.write_text(path.read_text()[:10])
    with pytest.raises(UserError, match=r"state\.json is not valid JSON"):
        files.read_json(path)
    with pytest.raises(UserError, match="missing"):
        files.read_json(tmp_path / "other.json")


def test_checks_of_the_disk(tmp_path):
    files.require_space(tmp_path / "not" / "yet", 1, "a song")
    with pytest.raises(UserError, match=r"a song needs .* GiB|TiB in .*free some space"):
        files.require_space(tmp_path / "not" / "yet", 1 << 60, "a song")
    assert files.require_writable(tmp_path / "new") == tmp_path / "new"
    assert names(tmp_path / "new") == []
    (tmp_path / "file").write_text("")
    for unwritable in (tmp_path / "file", tmp_path / "file" / "inner", Path("/proc/nowhere")):
        with pytest.raises(UserError, match="cannot write to"):
            files.require_writable(unwritable)


def test_checksums_and_sizes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert files.sha256(tmp_path / "x").startswith("ba7816bf")
    assert files.checksum(tmp_path / "x", "md5") == "900150983cd24fb0d6963f7d28e17f72"
    assert [files.readable(size) for size in (5, 2048, 3.5 * 2**30)] == ["5 B", "2.0 KiB", "3.5 GiB"]


def test_one_process_at_a_time(tmp_path, monkeypatch):
    with files.alone(tmp_path / "new", "someone is here") as locked:
        assert locked
        with pytest.raises(UserError, match="someone is here"), files.alone(tmp_path / "new", "someone is here"):
            pass
    with files.alone(tmp_path / "new", "someone is here"):
        pass

    def without_locks(*_arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", without_locks)
    with files.alone(tmp_path / "new", "someone is here") as locked:
        assert not locked
