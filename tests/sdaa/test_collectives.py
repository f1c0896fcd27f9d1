"""XCCL between the processes of emulated cards."""

import re

from tests.sdaa.cards import on_cards

EVERYTHING = """
import numpy as np, paddle
import paddle.distributed as dist
dist.init_parallel_env()
rank, size = dist.get_rank(), dist.get_world_size()

def tensor(values, dtype="float32"):
    return paddle.to_tensor(np.asarray(values, dtype))

def same(x, expected):
    np.testing.assert_array_equal(x.numpy(), np.asarray(expected, x.numpy().dtype))

large = np.arange(700_000)  # several pieces
for dtype in ("float32", "float64", "int32", "int64", "float16"):
    x = tensor(large % 100 + rank, dtype)
    dist.all_reduce(x)
    same(x, size * (large % 100) + sum(range(size)))
everybody = np.prod(range(1, size + 1))
for op, expected in ((dist.ReduceOp.MAX, size), (dist.ReduceOp.MIN, 1), (dist.ReduceOp.PROD, everybody)):
    x = tensor([rank + 1])
    dist.all_reduce(x, op)
    same(x, [expected])

x = tensor(large + rank)
dist.broadcast(x, 1)
same(x, large + 1)

parts = []
dist.all_gather(parts, tensor([rank, 2 * rank]))
assert [part.numpy().tolist() for part in parts] == [[i, 2 * i] for i in range(size)]

x = tensor([rank + 1])
dist.reduce(x, 0)
if rank == 0:
    same(x, [size * (size + 1) / 2])

x = tensor([0, 0])
dist.reduce_scatter(x, [tensor([i + rank, i - rank]) for i in range(size)])
total = sum(range(size))
same(x, [size * rank + total, size * rank - total])

parts = []
dist.alltoall(parts, [tensor([10 * rank + i]) for i in range(size)])
assert [part.numpy().item() for part in parts] == [10 * i + rank for i in range(size)]

if rank == 0:
    dist.send(tensor(large), 1)
elif rank == 1:
    x = tensor(np.zeros(len(large)))
    dist.recv(x, 0)
    same(x, large)

things = []
dist.all_gather_object(things, {"rank": rank})
assert things == [{"rank": i} for i in range(size)]
dist.barrier()
print("all of it worked")

for call in (lambda: dist.all_reduce(tensor([1], "bool")), lambda: dist.all_reduce(tensor([1]), dist.ReduceOp.AVG)):
    try:
        call()
    except Exception as error:
        print("refused:", error)
"""


def test_every_collective_and_what_xccl_does_not_have(tmp_path):
    """Three ranks: neither a pair nor a power of two. Strict: the host must not touch the cards' memory."""
    said = on_cards(EVERYTHING, 3, tmp_path, strict=True).stdout
    assert "all of it worked" in said
    assert len(re.findall(r"(?m)^refused: ", said)) == 2


def test_a_rank_that_died_is_named(tmp_path):
    body = """
import os, paddle, signal, sys
import paddle.distributed as dist
dist.init_parallel_env()
dist.all_reduce(paddle.ones([4]))
if dist.get_rank() == 1:
    os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher may be faster than the collective
try:
    dist.all_reduce(paddle.ones([4]))
except OSError:
    sys.exit(3)
"""
    on_cards(body, 2, tmp_path, status=None)  # whichever of the two ended first
    assert "sdaa emulator: rank 1 died" in (tmp_path / "log" / "workerlog.0").read_text()
