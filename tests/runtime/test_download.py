"""Downloads from a server on this machine that misbehaves in every way we know."""

import hashlib
import socket

import pytest

from runtime.errors import UserError
from runtime.files import DownloadError, download
from tests.runtime.bad_server import serving

CONTENT = bytes(i * i % 251 for i in range(700_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with serving(CONTENT) as server:
        yield server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new" / "song.zip"


def fetch(urls, target, **wanted):
    return download(urls, target, pause=0.0, timeout=5.0, **wanted)


def leftovers(target):
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def test_a_good_server_needs_one_request(server, target):
    assert fetch(server.url, target, sha256=SHA256.upper(), size=len(CONTENT)) == target
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == []
    fetch(server.url, target, sha256=SHA256)
    assert len(server.requests) == 1  # what is there and right is kept


def test_a_wrong_file_at_the_target_is_replaced(server, target):
    target.parent.mkdir()
    target.write_bytes(b"old")
    fetch(server.url, target, md5=hashlib.md5(CONTENT).hexdigest())
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("wanted", [{"sha256": SHA256}, {}])
def test_cut_connections_resume_where_they_stopped(server, target, wanted):
    server.cut_after = [300_000, 200_000, 0, 100_000]
    fetch(server.url, target, **wanted)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [
        None,
        "bytes=300000-",
        "bytes=500000-",
        "bytes=500000-",
        "bytes=600000-",
    ]


def test_a_later_run_resumes_too(server, target):
    server.cut_after = [300_000, 0, 0, 0, 0]
    with pytest.raises(UserError, match="the transfer resumes"):
        fetch(server.url, target, sha256=SHA256)
    assert not target.exists()
    fetch(server.url, target, sha256=SHA256)
    assert server.requests[-1][1] == "bytes=300000-"
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == []


def test_a_file_that_changed_meanwhile_is_not_glued_to_the_old_beginning(server, target):
    server.cut_after = [300_000, 0, 0, 0]
    with pytest.raises(UserError):
        fetch(server.url, target, retries=3)
    server.content, server.etag = CONTENT[::-1], '"two"'
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT[::-1]


def test_an_old_beginning_of_another_file_is_found_out_by_the_checksum(server, target):
    target.parent.mkdir()
    target.with_name("song.zip.part").write_bytes(b"x" * 1000)
    fetch(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_too_long_starts_again(server, target):
    target.parent.mkdir()
    target.with_name("song.zip.part").write_bytes(b"x" * 800_000)
    fetch(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_servers_without_range_start_again(server, target):
    server.knows_range, server.cut_after = False, [300_000]
    fetch(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_another_range_than_asked_for_is_refused(server, target):
    server.cut_after, server.lies_about_range = [300_000], True
    fetch(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_a_length_that_is_too_long_is_an_error_in_the_end(server, target):
    server.length_error = 10
    with pytest.raises(UserError, match=r"connection ended after 683\.6 KiB|less than was already here"):
        fetch(server.url, target)
    assert not target.exists()


def test_a_finished_part_needs_no_byte(server, target):
    target.parent.mkdir()
    target.with_name("song.zip.part").write_bytes(CONTENT)
    server.explains_416 = True
    fetch(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.requests == [("/song.zip", "bytes=700000-")]


def test_a_length_that_is_too_short_is_found_by_checksum_or_size(server, target):
    server.length_error = -10
    with pytest.raises(UserError, match="wrong sha256 checksum"):
        fetch(server.url, target, sha256=SHA256)
    with pytest.raises(UserError, match="699990 bytes instead of 700000"):
        fetch(server.url, target, size=len(CONTENT))
    assert not target.exists()


@pytest.mark.parametrize("terminal", [True, False])
def test_no_length_at_all_is_fine(server, target, monkeypatch, terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    server.says_length = False
    fetch(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_a_wrong_checksum_is_never_delivered(server, target):
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(UserError, match=r"song\.zip.*wrong sha256 checksum.*place the file at"):
        fetch(server.url, target, sha256=SHA256)
    assert not target.exists()
    assert leftovers(target) == []


def test_mirrors_are_tried_in_order(server, target):
    server.statuses = [404]
    missing = server.url.replace("song", "first")
    closed = "http://127.0.0.1:9/song.zip"
    fetch([missing, closed, "ftp://127.0.0.1/song.zip", "http://[oops/song.zip", server.url], target, sha256=SHA256)
    assert [path for path, _ in server.requests] == ["/first.zip", "/song.zip"]


def test_all_failures_are_told(server, target):
    server.statuses = [404]
    closed = "http://127.0.0.1:9/song.zip"
    with pytest.raises(UserError) as caught:
        fetch([server.url, closed, "gopher://x/y"], target)
    for part in ("HTTP 404", "127.0.0.1:9/song.zip: ", "refused", "only http, https and file"):
        assert part in str(caught.value)
    with pytest.raises(UserError, match="no address is known"):
        fetch([], target)


def test_a_host_that_cannot_be_reached_is_asked_once(target, capsys, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    urls = ["http://host.invalid/song.zip", "http://127.0.0.1:9/song.zip"]
    with pytest.raises(DownloadError) as caught:
        download(urls, target, pause=60.0, retries=4, timeout=5.0)  # a second attempt would take a minute
    assert str(caught.value).count("the host cannot be reached (") == 2
    assert "the transfer resumes" not in str(caught.value)  # there is nothing to resume
    assert "host.invalid/song.zip: the host cannot be reached" in capsys.readouterr().err


def test_a_host_that_answered_is_asked_again_after_a_passing_trouble(server, target, monkeypatch):
    server.cut_after = [300_000]
    connect, troubles = socket.create_connection, iter([None, socket.gaierror(-3, "Temporary failure"), None])

    def sometimes(*arguments, **options):
        trouble = next(troubles)
        if trouble:
            raise trouble
        return connect(*arguments, **options)

    monkeypatch.setattr("socket.create_connection", sometimes)
    fetch(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_passing_troubles_of_a_server_are_waited_out(server, target):
    server.statuses = [503, 429, 500]
    fetch(server.url, target, sha256=SHA256)
    assert len(server.requests) == 4


def test_silence_is_a_cut_connection(server, target):
    server.stalls, server.cut_after = True, [1000, 0]
    with pytest.raises(UserError, match="timed out"):
        download(server.url, target, pause=0.0, timeout=0.2, retries=1)


def test_file_addresses(tmp_path, target):
    source = tmp_path / "a song.zip"
    source.write_bytes(CONTENT)
    fetch(source.as_uri(), target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    with pytest.raises(UserError, match="no such file"):
        fetch((tmp_path / "none.zip").as_uri(), tmp_path / "x")


def test_no_room_and_no_place(server, target, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match=r"downloading song\.zip needs 683\.6 KiB"):
        fetch(server.url, target)
    with pytest.raises(UserError, match="cannot write to"):
        fetch(server.url, "/proc/nowhere/song.zip")
