"""Several processes that train or evaluate together: fleet collective on every device, gloo on the CPU."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.console import hushed
from runtime.device import Device
from runtime.errors import UserError
from runtime.worker import in_worker, rank, world_size

if TYPE_CHECKING:
    import paddle

_COUNTER = "paddlestems/rendezvous"


class Rendezvous:
    """A place where processes wait for each other as long as it takes: gloo gives up after half a minute.

    Where one process saves a checkpoint or separates a song while the others have nothing to do, that is too short.
    """

    def __init__(self, store: Any, size: int):
        self._store, self._size, self._times = store, size, 0

    def wait(self) -> None:
        """Return when every process has called this as often as this one."""
        self._times += 1
        here, pause = self._store.add(_COUNTER, 1), 1e-4
        while here < self._times * self._size:
            time.sleep(pause)
            here, pause = self._store.add(_COUNTER, 0), min(2 * pause, 0.05)


@dataclass(frozen=True)
class Group:
    """The processes of this job. Every method must be called by all of them, in the same order."""

    rank: int = 0
    size: int = 1
    rendezvous: Rendezvous | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and talks."""
        return self.rank == 0

    def meet(self) -> None:
        """Wait until all processes are here, however long, where their collectives would give up.

        Call it after work that may take one process much longer than another. It takes tens of milliseconds.
        """
        if self.rendezvous:
            self.rendezvous.wait()

    def wrap_model(self, model: paddle.nn.Layer) -> paddle.nn.Layer:
        """The model with rank 0's parameters, whose ``backward`` leaves the mean gradient of all processes."""
        return model if self.size == 1 else _fleet().distributed_model(model)

    def wrap_optimizer(self, optimizer: paddle.optimizer.Optimizer) -> Any:
        """The optimiser as fleet wants it."""
        return optimizer if self.size == 1 else _fleet().distributed_optimizer(optimizer)

    def no_sync(self, model: paddle.nn.Layer) -> AbstractContextManager:
        """Context in which ``backward`` of a wrapped model only adds to the gradients of this process."""
        return nullcontext() if self.size == 1 else model.no_sync()

    def average(self, tensors: Sequence[paddle.Tensor]) -> None:
        """Puts the mean over all processes in the place of float tensors of any shapes, in one exchange."""
        if self.size == 1:
            return
        import paddle

        whole = paddle.concat([tensor.flatten() for tensor in tensors])
        paddle.distributed.all_reduce(whole)
        parts = paddle.split(whole * (1.0 / self.size), [tensor.size for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            paddle.assign(part.reshape(tensor.shape), tensor)

    def all_reduce_sum(self, values: np.ndarray) -> np.ndarray:
        """Sum of float64 ``values`` (any shape) over all processes, with the same bits in each of them.

        Doubles travel as pairs of integers, because not every device reduces doubles, and are added in the order of
        the ranks, because rounding depends on the order.
        """
        values = np.ascontiguousarray(values, np.float64).reshape(np.shape(values))
        if self.size == 1:
            return values.copy()
        import paddle

        parts: list[paddle.Tensor] = []
        paddle.distributed.all_gather(parts, paddle.to_tensor(values.reshape(-1).view(np.int32)))
        total = np.zeros(values.size, np.float64)
        for part in parts:
            total += part.numpy().view(np.float64)
        return total.reshape(values.shape)

    def gather_objects(self, value: Any) -> list[Any]:
        """The ``value`` of every process (anything that can be pickled), by rank."""
        if self.size == 1:
            return [value]
        import paddle

        self.meet()
        values: list[Any] = []
        paddle.distributed.all_gather_object(values, value)
        return values

    def broadcast_object(self, value: Any, source: int = 0) -> Any:
        """The ``value`` (anything that can be pickled) of process ``source``."""
        if self.size == 1:
            return value
        import paddle

        self.meet()
        values = [value]
        paddle.distributed.broadcast_object_list(values, src=source)
        return values[0]

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            import paddle

            self.meet()
            paddle.distributed.barrier()

    def assert_same(self, name: str, value: Any) -> None:
        """Raise `UserError` in all processes unless all have the same ``value``; ``name`` says what it is."""
        values = self.gather_objects(value)
        if any(other != values[0] for other in values):
            shown = ", ".join(f"{other} in process {number}" for number, other in enumerate(values))
            raise UserError(f"the processes disagree about the {name}: {shown}. Resume from the last checkpoint")


def init(device: Device) -> Group:
    """Join the other processes of this launch, if there are any. Call it after `activate`."""
    if not in_worker():
        return Group()
    os.environ["PADDLE_DISTRI_BACKEND"] = device.collectives  # the launcher guesses it from what the machine has
    with hushed():
        _fleet().init(is_collective=True, log_level="WARNING")
    if device.collectives != "gloo":
        return Group(rank(), world_size())
    from paddle.distributed import collective

    return Group(rank(), world_size(), Rendezvous(collective._default_store, world_size()))


def _fleet():
    from paddle.distributed import fleet

    return fleet
