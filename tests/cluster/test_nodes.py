"""Which node a command is, and what two launches that meet on this machine tell each other."""

import signal
import socket
import subprocess

import pytest

from run_scripts import options
from runtime import nodes
from runtime.errors import UserError
from tests.runtime.doors import doors, ended

MAIN = """
from runtime.meeting import meet
from runtime.nodes import place

def main(argv):
    master, rank, processes = argv[0], int(argv[1]), int(argv[2])
    chosen = device.select("cpu", processes=processes)
    if launch.in_worker():
        return work(launch.rank())
    with meet(place(2, master, None if rank < 0 else rank)) as meeting:
        if len(argv) > 3:
            raise UserError(argv[3])
        return launch.launch(processes, sys.argv, chosen, "logs", meeting)
"""


@pytest.fixture
def master() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def door(tmp_path, master):
    """Write a command line whose workers do ``work``, and start it as one of two nodes (-1: whichever is free)."""
    with doors(tmp_path, MAIN) as start:

        def start_node(work: str, rank: int, *more: str, processes: int = 1) -> subprocess.Popen:
            return start(work, master, rank, processes, *more)

        yield start_node


def test_ranks_outputs_and_logs_of_two_nodes(door, tmp_path):
    work = 'print(f"rank {rank} of {launch.world_size()}")'
    second, first = door(work, 1, processes=2), door(work, 0, processes=2)  # the second one waits for the first
    status, out, err = ended(first)
    assert (status, err) == (0, "") and out.endswith("waiting for 1 more\nrank 0 of 4\n")
    status, out, err = ended(second)
    assert (status, err) == (0, "") and "processes 2 to 3 run here" in out and "rank 2" not in out
    for rank in range(4):
        log = tmp_path / "logs" / f"node-{rank // 2}" / f"workerlog.{rank % 2}"
        assert log.read_text() == f"rank {rank} of 4\n"
    names = sorted(path.name for path in (tmp_path / "logs").rglob("*") if path.is_file())
    assert names == [".meeting", *["launcher.log"] * 2, *["workerlog.0"] * 2, *["workerlog.1"] * 2]


def test_a_process_that_dies_is_named_on_every_node(door):
    work = """
    if rank == 1:
        print("at work", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
    """
    nodes = [door(work, -1), door(work, -1)]
    for status, _, err in map(ended, nodes):
        assert status == 128 + signal.SIGKILL
        assert err.startswith("error: process 1 of 2 (node 1, ") and "was killed by SIGKILL; the last lines of " in err
        assert err.endswith("workerlog.0:\n    at work\n") and "node-1" in err


def test_a_signal_to_one_node_reaches_the_processes_of_all(door):
    work = """
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    open(f"ready-{rank}", "w").close()
    while not all(os.path.exists(f"ready-{other}") for other in (0, 1)):
        time.sleep(0.05)
    print("ready", flush=True)
    wait_for_stop()
    return launch.requeue_status() if stop else 3
    """
    first, second = door(work, 0), door(work, 1)
    while first.stdout.readline() != "ready\n":
        assert first.poll() is None
    second.send_signal(signal.SIGTERM)
    assert [ended(node)[0] for node in (first, second)] == [75, 75]


def test_a_node_that_is_gone_ends_the_other(door):
    work = """
    print("ready", flush=True)
    wait_for_stop()
    """
    first, second = door(work, 0), door(work, 1)
    while first.stdout.readline() != "ready\n":
        assert first.poll() is None
    second.kill()
    status, _, err = ended(first)
    assert status == 1 and err.startswith("error: node 1 of 2 is gone, and the others cannot go on without it")


def test_a_node_that_fails_before_the_start_says_why_on_the_other(door):
    second = door("pass", 1)
    assert ended(door("pass", 0, "no index"))[::2] == (1, "error: no index\n")
    assert ended(second)[::2] == (1, "error: node 0: no index\n")


def test_commands_that_differ_do_not_start(door):
    first, second = door("pass", 0, processes=1), door("pass", 1, processes=2)
    for status, _, err in (ended(first), ended(second)):
        assert status == 2 and "the commands of the nodes differ: --nnodes 2 -npn 1 on node 0, --nnodes 2 -npn 2" in err


def test_a_first_node_twice_is_refused(door, master):
    host, _, port = master.partition(":")
    with socket.create_server((host, int(port))):
        status, _, err = ended(door("pass", 0))
        assert status == 1 and f"cannot listen at --master {master}: Address already in use" in err


# ------------------------------------------------------------------------------------------------- from flags and Slurm


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((None, "node1:29500", None), "--master is for several nodes: say how many with --nnodes"),
        ((1, None, 0), "--node-rank is for several nodes"),
        ((2, "node1:29500", 2), "--node-rank 2: the 2 nodes are counted from 0 to 1"),
        ((2, None, None), "--nnodes 2 needs --master HOST:PORT"),
        ((2, "node1", None), "--master node1 is not HOST:PORT"),
        ((2, "node1:0", None), "--master node1:0 is not HOST:PORT"),
        ((2, "::1:29500", None), "is not HOST:PORT"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(monkeypatch, given, sentence):
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(UserError) as caught:
        nodes.place(*given)
    assert sentence in str(caught.value) and caught.value.status == 2


def test_one_node_needs_no_place():
    assert nodes.place(None, None, None) is None and nodes.place(1, None, None) is None
    assert nodes.place(2, "node1:29500", None) == nodes.Place(2, "node1", 29500, None)


SLURM = {
    "SLURM_PROCID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS": "2",
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
}


def test_srun_says_where_the_nodes_meet(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert nodes.place(2, None, None) == nodes.Place(2, "gpu03", 24711, 1)
    with pytest.raises(UserError, match="Slurm gave this step 2 nodes; use srun --nodes=3"):
        nodes.place(3, None, None)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    with pytest.raises(UserError, match="8 tasks on 2 nodes: use srun --ntasks-per-node=1, and -npn"):
        nodes.place(2, None, None)


@pytest.mark.parametrize(
    ("listed", "first"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("n[07-12,15],login", "n07"),
        ("n[3,5]", "n3"),
        ("rack2-n[1-2].local,x", "rack2-n1.local"),
    ],
)
def test_the_first_host_of_a_list(listed, first):
    assert nodes.first_host(listed) == first


def test_a_run_counts_the_processes_of_all_nodes():
    parser = options.Parser(prog="train")
    options.add_common(parser, "spleeter/2stems")
    options.add_processes(parser)
    options.add_nodes(parser)
    given = parser.parse(["-npn", "4", "--nnodes", "2", "--master", "node1:29500", "--node-rank", "1"])
    assert options.overrides(given) == ["train.processes=8"]
    assert options.nodes(given) == nodes.Place(2, "node1", 29500, 1)
    assert options.overrides(parser.parse(["--nnodes", "2"])) == ["train.processes=2"]
    assert options.nodes(parser.parse(["-npn", "4"])) is None
