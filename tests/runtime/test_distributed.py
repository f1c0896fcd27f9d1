"""Two gloo processes against one."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from runtime.distributed import Group, Rendezvous
from runtime.errors import UserError

ROOT = Path(__file__).parents[2]

DOOR = """
import json, os, signal, sys
sys.path.insert(0, {root!r})
import numpy as np
from runtime import console, device, distributed, launch

def model_and_data():
    import paddle
    from paddle import nn
    paddle.seed(launch.rank())  # rank 0's parameters must win
    model = nn.Sequential(nn.Conv2D(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2D(4, 1, 3, padding=1))
    x = paddle.to_tensor(np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype("float32"))
    return paddle, model, x

def gradients(group):
    paddle, model, x = model_and_data()
    wrapped = group.wrap_model(model)
    optimizer = paddle.optimizer.Adam(0.1, parameters=model.parameters())
    optimizer = group.wrap_optimizer(optimizer)
    share = x[group.rank::group.size]  # all of it for one process
    halves = [share[:len(share) // 2], share[len(share) // 2:]]
    with group.no_sync(wrapped):
        (wrapped(halves[0]).square().mean() / 2).backward()
    alone = group.gather_objects(float(model[0].weight.grad.sum()))
    (wrapped(halves[1]).square().mean() / 2).backward()
    found = [parameter.grad.numpy().tolist() for parameter in model.parameters()]
    optimizer.set_lr(0.05)
    optimizer.step()
    optimizer.clear_grad()
    return dict(gradients=found, alone=alone, weights=[p.numpy().tolist() for p in model.parameters()])

def collectives(group):
    values = np.array([[0.1, 1e300], [group.rank, -0.0]])
    sums = group.gather_objects(group.all_reduce_sum(values).tolist())
    group.barrier()
    group.assert_same("step", 7)
    scalar = group.all_reduce_sum(np.float64(0.5))
    return dict(
        sums=sums, scalar=[float(scalar), scalar.ndim],
        ranks=group.gather_objects(group.rank), last=group.broadcast_object(dict(rank=group.rank), group.size - 1))

def work(mode):
    chosen = device.select("cpu", processes=2)
    device.activate(chosen)
    group = distributed.init(chosen)
    if mode == "compute":
        results = [gradients(group), collectives(group)]
        if group.is_main:
            print("RESULT", json.dumps(results), flush=True)
        group.assert_same("sum of the weights", 0.5 + group.rank)
    elif mode == "death":
        if group.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        group.all_reduce_sum(np.zeros(3))

def main(argv):
    processes, mode, logs = int(argv[0]), argv[1], argv[2]
    if processes > 1 and not launch.in_worker():
        return launch.launch(processes, sys.argv, device.select("cpu", processes=processes), logs)
    return work(mode)

console.run(main)
"""


@pytest.fixture(scope="module")
def launched(tmp_path_factory) -> dict[tuple[int, str], tuple[int, str, str]]:
    """Status, stdout and stderr of the script in so many processes and a mode; all were started at once."""
    folder = tmp_path_factory.mktemp("distributed")
    script = folder / "door.py"
    script.write_text(DOOR.replace("{root!r}", repr(str(ROOT))))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = {}
    for processes, mode in ((1, "compute"), (2, "compute"), (2, "death")):
        command = [sys.executable, str(script), str(processes), mode, str(folder / mode)]
        started[processes, mode] = subprocess.Popen(command, env=environment, **pipes)
    said = {key: process.communicate(timeout=200) for key, process in started.items()}
    return {key: (process.returncode, *said[key]) for key, process in started.items()}


def result(said: str) -> list:
    return json.loads(said.partition("RESULT ")[2])


def test_two_processes_equal_one_on_the_joined_batch(launched):
    status, out, err = launched[1, "compute"]
    assert (status, err) == (0, "")
    (one, alone), (two, together) = result(out), result(launched[2, "compute"][1])
    for name in ("gradients", "weights"):
        for first, second in zip(one[name], two[name], strict=True):
            np.testing.assert_allclose(first, second, rtol=2e-5, atol=2e-6)
    assert len(set(two["alone"])) == 2  # nothing was exchanged inside no_sync

    assert together["ranks"] == [0, 1] and together["last"] == {"rank": 1}
    assert together["sums"] == [[[0.2, 2e300], [1.0, 0.0]]] * 2
    assert together["scalar"] == [1.0, 0]
    assert alone["sums"] == [[[0.1, 1e300], [0.0, -0.0]]] and alone["scalar"] == [0.5, 0]


def test_processes_that_disagree_stop(launched):
    """What they do last; it is all that they complain of."""
    status, _, err = launched[2, "compute"]
    expected = "error: the processes disagree about the sum of the weights: 0.5 in process 0, 1.5 in process 1"
    assert status == 1 and err.startswith(expected) and err.count("\n") == 1


def test_a_process_that_dies_in_the_middle_is_blamed(launched):
    status, _, err = launched[2, "death"]
    assert status == 128 + signal.SIGKILL and "process 1 of 2 was killed by SIGKILL" in err


def test_one_process_needs_no_paddle():
    group = Group()
    values = np.arange(3.0)
    total = group.all_reduce_sum(values)
    assert (total == values).all() and total is not values
    assert group.broadcast_object("x") == "x" and group.gather_objects("x") == ["x"] and group.is_main
    group.barrier()
    group.assert_same("x", 1)
    assert group.wrap_model(values) is values and group.wrap_optimizer(values) is values
    with group.no_sync(values):
        pass


def test_all_must_agree(monkeypatch):
    monkeypatch.setattr(Group, "gather_objects", lambda self, value: [value, value + 1])
    with pytest.raises(UserError, match="disagree about the epoch: 3 in process 0, 4 in process 1"):
        Group(0, 2).assert_same("epoch", 3)


def test_waiting_is_for_all_and_for_as_long_as_it_takes():
    """Each of three threads leaves the nth meeting only after all have come to it, however late one of them is."""

    class Store:
        total, lock = 0, threading.Lock()

        def add(self, _, number):
            with self.lock:
                self.total += number
                return self.total

    store, events, places = Store(), [], range(3)

    def process(number):
        place = Rendezvous(store, len(places))
        for meeting in range(4):
            if number == meeting % 3:
                time.sleep(0.03)
            events.append(("comes", meeting))
            place.wait()
            events.append(("leaves", meeting))

    threads = [threading.Thread(target=process, args=[number]) for number in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for meeting in range(4):
        first_out = events.index(("leaves", meeting))
        assert events[:first_out].count(("comes", meeting)) == len(places)
