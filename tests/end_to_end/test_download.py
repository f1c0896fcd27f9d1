"""``python downloadMusdb.py`` as people run it, against a server on this machine that misbehaves."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from downloadMusdb import main as download
from tests.data import stem_file
from tests.end_to_end.inside import inside
from tests.runtime.bad_server import serving

ROOT = Path(__file__).resolve().parents[2]
SIX = {"bass.wav", "drums.wav", "instrumental.wav", "mixture.wav", "other.wav", "vocal.wav"}
CLOSED = "http://127.0.0.1:9/musdb.zip"


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Two songs as stem files, one of each split."""
    folder = tmp_path_factory.mktemp("songs")
    stem_file.write(folder / "train" / "One.stem.mp4", 0.3, seed=1)
    stem_file.write(folder / "test" / "Two.stem.mp4", 0.3, seed=2)
    return folder


@pytest.fixture(scope="module")
def archive(songs):
    """The songs as a zip file, with something beside them that makes it long enough to be cut."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as output:
        for path in sorted(songs.rglob("*.mp4")):
            output.write(path, path.relative_to(songs).as_posix())
        output.writestr("README.bin", b"0123456789abcdef" * 40_000)
    return memory.getvalue()


@pytest.fixture
def server(archive):
    with serving(archive) as server:
        yield server


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def command(*arguments):
    return [sys.executable, str(ROOT / "downloadMusdb.py"), *map(str, arguments)]


def environment():
    return {**os.environ, "no_proxy": "*", "OMP_NUM_THREADS": "1"}


def run(place, *arguments, status=0):
    """Run the command in ``place``, in this process; returns stdout and stderr."""
    done = inside(download, place, *arguments, "-j", 1, status=status, no_proxy="*")
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def process(place, *arguments, status=0):
    """Run the command in ``place``, in a process of its own; returns stdout and stderr."""
    done = subprocess.run(
        command(*arguments, "-j", 1), cwd=place, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def layout(folder):
    """Files of a finished data set, by song."""
    return {path.relative_to(folder).as_posix(): {file.name for file in path.iterdir()} for path in folder.glob("t*/*")}


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


WHOLE = {"train/One": SIX, "test/Two": SIX}


def test_a_cut_connection_is_taken_up_again_and_the_songs_are_written(server, archive, tmp_path):
    server.cut_after = [300_000]
    out, _ = process(tmp_path, "--url", server.url, "--sha256", sha256(archive))
    assert [wanted for _, wanted in server.requests] == [None, "bytes=300000-"]
    assert "trying again in 1 s" in out
    assert "2 songs written, 0 were there: dataset (1 test, 1 train)" in out
    assert "next: python preprocess.py --dataset dataset" in out
    assert layout(tmp_path / "dataset") == WHOLE
    assert visible(tmp_path / "dataset") == ["test", "train"]
    assert not list((tmp_path / "dataset").rglob("*.zip"))  # it is not needed any more

    out, _ = run(tmp_path, "--url", server.url, "--sha256", sha256(archive))
    assert "nothing to do" in out and len(server.requests) == 2


def test_a_killed_transfer_is_taken_up_by_the_next_run(server, archive, tmp_path):
    server.cut_after, server.stalls = [400_000], True
    asked = ("--url", server.url, "--sha256", sha256(archive), "--keep")
    process = subprocess.Popen(command(*asked), cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while sum(path.stat().st_size for path in tmp_path.rglob("*.part")) < 200_000:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    assert "another process is writing songs here" in run(tmp_path, *asked, status=1)[1]
    process.send_signal(signal.SIGKILL)
    process.wait()
    have = sum(path.stat().st_size for path in tmp_path.rglob("*.part"))
    server.stalls = False
    server.released.set()
    out, _ = run(tmp_path, *asked)
    assert server.requests[-1][1] == f"bytes={have}-"
    assert layout(tmp_path / "dataset") == WHOLE
    assert "the archive is kept in" in out
    assert [path.read_bytes() for path in tmp_path.rglob("*.zip")] == [archive]


def test_a_wrong_checksum_is_refused_and_the_way_on_is_told(server, archive, tmp_path):
    server.content = archive[:-1] + b"!"
    _, err = run(tmp_path, "--url", server.url, "--sha256", sha256(archive), status=1)
    assert "wrong sha256 checksum" in err and "or give an archive from elsewhere with --from-archive FILE" in err
    assert visible(tmp_path / "dataset") == [] and not list(tmp_path.rglob("*.part"))


def test_the_next_mirror_is_asked_after_a_dead_and_a_false_one(server, archive, tmp_path):
    with serving(archive[::-1]) as false:
        urls = (CLOSED, "http://host.invalid/musdb.zip", false.url, server.url)
        _, err = run(tmp_path, "--url", *urls, "--md5", hashlib.md5(archive).hexdigest().upper())
        assert len(false.requests) == 1
    assert err.count("the host cannot be reached") == 2 and err.count("going on with the next address") == 3
    assert "wrong md5 checksum" in err
    assert layout(tmp_path / "dataset") == WHOLE


def test_a_length_that_is_a_lie_is_an_error(server, archive, tmp_path):
    server.length_error = 1000
    asked = ("--url", server.url, "--sha256", sha256(archive), "--retries", 1)
    _, err = run(tmp_path, *asked, status=1)
    assert "the connection ended after" in err and "the transfer resumes" in err
    assert visible(tmp_path / "dataset") == []
    server.length_error, server.explains_416 = 0, True
    run(tmp_path, *asked)
    assert layout(tmp_path / "dataset") == WHOLE


def test_without_a_checksum_the_sum_is_told(server, archive, tmp_path):
    out, err = run(tmp_path, "--url", server.url)
    assert "no --sha256 or --md5 given" in err
    assert f"sha256 of song.zip: {sha256(archive)}" in out


@pytest.mark.parametrize("name", ["../escaped.wav", "/escaped.wav", "train/../../escaped.wav"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path, name):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as output:
        output.writestr("train/A/mixture.wav", b"x")
        output.writestr(name, b"evil")
    with serving(memory.getvalue()) as server:
        _, err = run(tmp_path, "--url", server.url, "--sha256", sha256(memory.getvalue()), status=1)
    assert "would write outside its folder" in err
    assert not list(tmp_path.parent.rglob("escaped.wav")) and visible(tmp_path / "dataset") == []


def test_something_else_than_an_archive_is_fetched_anew_the_next_time(server, archive, tmp_path):
    server.content = b"<html>please log in</html>"
    _, err = run(tmp_path, "--url", server.url, status=1)
    assert "neither a zip nor a tar file" in err
    server.content = archive
    run(tmp_path, "--url", server.url)
    assert layout(tmp_path / "dataset") == WHOLE


def test_from_a_folder_and_from_a_file_which_stay_as_they_are(songs, archive, tmp_path):
    mine = shutil.copytree(songs, tmp_path / "mine")
    before = {path: path.read_bytes() for path in mine.rglob("*.mp4")}
    run(tmp_path, "--from-archive", "mine", "--root", "a set/of songs")
    assert layout(tmp_path / "a set" / "of songs") == WHOLE
    assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before
    out, _ = run(tmp_path, "--from-archive", "mine", "--root", "a set/of songs")
    assert "0 songs written, 2 were there" in out

    (tmp_path / "musdb.zip").write_bytes(archive)
    asked = ("--source", "musdb.zip", "--root", "two", "--two-track")
    assert "not " + "0" * 64 in run(tmp_path, *asked, "--sha256", "0" * 64, status=1)[1]
    run(tmp_path, *asked, "--sha256", sha256(archive))
    assert layout(tmp_path / "two")["train/One"] == {"mixture.wav", "vocal.wav", "instrumental.wav"}
    assert (tmp_path / "musdb.zip").read_bytes() == archive
    assert "nothing to do" in run(tmp_path, *asked)[0]
    run(tmp_path, *asked[:-1])
    assert layout(tmp_path / "two") == WHOLE


def test_a_song_that_is_damaged_fails_the_command_but_not_the_others(songs, tmp_path):
    mine = shutil.copytree(songs, tmp_path / "mine")
    (mine / "train" / "Bad.stem.mp4").write_bytes(b"no music")
    _, err = run(tmp_path, "--from-archive", "mine", status=1)
    assert "1 songs could not be written" in err and "Bad" in err
    assert layout(tmp_path / "dataset") == WHOLE


def is_running(process):
    """Whether the process of a folder below /proc is there, and not only waiting for its status to be read."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_killed_run_leaves_no_process_and_the_next_one_finishes(tmp_path):
    source = stem_file.write(tmp_path / "mine" / "train" / "Song 0.stem.mp4", 2.0)
    for k in range(1, 12):
        source.with_name(f"Song {k}.stem.mp4").hardlink_to(source)
    process = subprocess.Popen(
        command("--from-archive", "mine", "-j", 2), cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("dataset/train/Song*")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    children = [
        Path("/proc", pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]
    process.kill()
    process.wait()
    assert len(children) >= 2
    while any(map(is_running, children)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    done = len(list(tmp_path.glob("dataset/train/Song*")))
    out, _ = run(tmp_path, "--from-archive", "mine")
    assert f"{12 - done} songs written, {done} were there" in out
    assert sorted(path.name for path in (tmp_path / "dataset" / "train").iterdir()) == sorted(
        f"Song {k}" for k in range(12)
    )


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("--from-archive", "nowhere"), 1, "--from-archive nowhere: there is no such file or folder"),
        (("--from-archive", "empty"), 1, "neither .stem.mp4 files nor folders with mixture.wav"),
        (("--from-archive", ".", "--root", "dataset"), 1, "--root dataset lies in --from-archive ."),
        (("--from-archive", "text.zip"), 1, "text.zip is neither a zip nor a tar file"),
        (("--from-archive", "text.zip", "--root", "text.zip/x"), 1, "cannot write to text.zip/x"),
        (("--from-archive", "empty", "--md5", "0" * 32), 2, "sums of a file, but --from-archive is a folder"),
        (("--from-archive", "empty", "--url", CLOSED), 2, "exclude each other"),
        (("--url", CLOSED, "--md5", "abc"), 2, "abc is not a checksum of 32 hexadecimal digits"),
        (("--url", CLOSED), 1, "the host cannot be reached (Connection refused)"),
        (("--url", "gopher://x/y.zip"), 1, "only http, https and file addresses"),
        (("--form", "mp3"), 2, "invalid choice: 'mp3'"),
        (("--frm", "hq"), 2, "did you mean --form"),
        (("-j", "0"), 2, "0 is not a whole number from 1 on"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_one_sentence_for_what_is_wrong(tmp_path, arguments, status, sentence):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no archive")
    done = inside(download, tmp_path, *arguments, status=status, no_proxy="*")
    assert sentence in done.stderr and "Traceback" not in done.stderr


def test_help_is_fast_and_needs_neither_paddle_nor_decoders():
    blocker = "import sys; sys.modules.update(dict.fromkeys(('paddle', 'numpy', 'av'))); sys.argv = ['d', '--help']; "
    code = blocker + f"import runpy; runpy.run_path({str(ROOT / 'downloadMusdb.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--from-archive" in done.stdout, done.stderr
