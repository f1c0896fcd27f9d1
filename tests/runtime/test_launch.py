"""Real launches of two processes that do not compute: output, statuses, signals, deaths."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.runtime.doors import doors, ended

MAIN = """
def main(argv):
    chosen = device.select("cpu", processes=2)
    if not launch.in_worker():
        return launch.launch(2, sys.argv, chosen, "logs")
    return work(launch.rank())
"""


@pytest.fixture
def door(tmp_path):
    """Write a command line whose two workers do ``work``; returns its process."""
    with doors(tmp_path, MAIN) as start:
        yield start


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_worker_0_is_heard_and_all_succeed(door, tmp_path):
    work = """
    print(f"é rank {rank} of {launch.world_size()}")
    print("a progress line", file=sys.stderr)
    """
    assert ended(door(work)) == (0, "é rank 0 of 2\na progress line\n", "")
    assert (tmp_path / "logs" / "workerlog.1").read_text() == "é rank 1 of 2\na progress line\n"
    assert sorted(os.listdir(tmp_path / "logs")) == ["launcher.log", "workerlog.0", "workerlog.1"]


def test_a_defect_in_a_worker_shows_its_last_lines_and_ends_the_others(door):
    work = """
    if rank == 1:
        print("a line before")
        return [][0]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
    """
    status, out, err = ended(door(work))
    assert (status, out) == (1, "")
    assert err.startswith("error: process 1 of 2 ended with status 1; the last lines of ")
    assert "a line before" in err and "IndexError" in err


def test_a_sentence_of_a_worker_is_the_sentence_of_the_command(door):
    assert ended(door("raise UserError('no song', status=2)")) == (2, "", "error: no song\n")
    one = "if rank == 1: raise UserError('no song')\ntime.sleep(60)"
    assert ended(door(one)) == (1, "", "error: process 1 of 2: no song\n")


def test_a_killed_worker_is_named_with_its_signal(door):
    work = """
    print("at work", flush=True)
    if rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
    """
    status, out, err = ended(door(work))
    assert (status, out) == (128 + signal.SIGKILL, "at work\n")
    assert err.startswith("error: process 0 of 2 was killed by SIGKILL; the last lines of ") and "at work" in err


def test_a_worker_that_aborts_because_another_is_gone_is_not_blamed(door):
    work = """
    if rank == 1:
        with open("new", "w") as handle:
            handle.write(str(os.getpid()))
        os.rename("new", "pid")
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    while not os.path.exists("pid"):
        time.sleep(0.05)
    stat = "/proc/" + open("pid").read() + "/stat"
    while os.path.exists(stat) and open(stat).read().rpartition(")")[2].split()[0] not in "ZX":
        time.sleep(0.001)
    os.abort()
    """
    status, _, err = ended(door(work))
    assert status == 128 + signal.SIGKILL and err.startswith("error: process 1 of 2 was killed by SIGKILL")


def test_sigterm_reaches_the_workers_which_may_take_their_time_to_save(door):
    work = """
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    print("ready", flush=True)
    wait_for_stop()
    if rank == 0:
        time.sleep(4)  # the launcher would kill after three seconds
        print("saved")
    return launch.requeue_status()
    """
    process = door(work)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (75, "saved\n", "")


def test_a_signal_before_the_workers_are_there_is_not_lost(door):
    process = door("wait_for_stop()")
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    status, out, err = ended(process)
    assert status == 128 + signal.SIGTERM and out == ""
    assert err == "" or "was killed by SIGTERM" in err


def test_a_worker_that_was_asked_to_stop_takes_along_those_that_cannot_go_on_without_it(door):
    work = """
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    if rank == 1:
        open("rank 1 is here", "w").close()
        wait_for_stop()
        return launch.requeue_status()
    while not os.path.exists("rank 1 is here"):
        time.sleep(0.05)
    print("ready", flush=True)
    wait_for_stop()
    time.sleep(1.0)
    raise RuntimeError("connection closed by peer")
    """
    process = door(work)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    status, _, err = ended(process)
    assert (status, err) == (75, "")


def test_the_second_ctrl_c_kills(door):
    work = """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ready", flush=True)
    wait_for_stop()
    """
    process = door(work)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    status, _, err = ended(process)
    assert status == 128 + signal.SIGKILL and "was killed by SIGKILL" in err


def test_workers_do_not_outlive_a_killed_command(door):
    work = """
    print(os.getpid(), flush=True)
    wait_for_stop()
    """
    process = door(work)
    pid = int(process.stdout.readline())
    process.kill()
    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(pid)


def test_a_launcher_that_cannot_start_is_no_success(door, tmp_path):
    (tmp_path / "paddle.py").write_text("raise ImportError('broken installation')")
    process = door("return 0")
    status, _, err = ended(process)
    assert status == 1 and "the launcher failed" in err and "broken installation" in err
