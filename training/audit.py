"""One real step of a network under observation, in a process of its own: what `python -m runtime.doctor audit` starts.

The first step of a process makes the optimiser's state. The next one is observed by the profiler, which knows times,
and one more, in which Paddle logs, between two marks on stderr.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime import device
from runtime.console import run
from runtime.doctor_probe import loaded_plugin
from runtime.doctor_step import BEGIN, END
from training import flops

_LOG_LEVEL = 4  # at which Paddle says which kernel it takes
_LAUNCH, _OPERATORS = " kernel launch", ("Operator", "OperatorInner")  # how the profiler calls events and their types


def main(arguments: list[str]) -> int:
    """``arguments``: one JSON object for `observe`; what it returns is written to the file ``report`` of it."""
    order = json.loads(arguments[0])
    report = Path(order.pop("report"))
    report.write_text(json.dumps(observe(**order)), "utf-8")
    return 0


def observe(
    network: str, train: bool, card: str, batch: int, segment: int, overrides: Sequence[str], profile: bool
) -> dict[str, Any]:
    """Take three steps on ``card`` and observe the last two; without ``profile`` two, and the last one.

    ``batch`` segments of ``segment`` frames (or samples, whichever the network eats) of random data; ``overrides`` are
    ``key=value`` of the network's configuration, see `training.audit_steps`. What the profiler sees is returned: the
    kernels in order and their seconds (``launches``), and calls and operations of those that can be counted
    (``flops``). The last step is between `BEGIN` and `END` on stderr, where Paddle says what it does if it lets itself
    be told so or ``GLOG_v`` has. Raises `UserError`.
    """
    chosen = device.select(card, network)
    device.activate(chosen)
    step = _step(network, train, chosen, batch, segment, overrides)
    step()
    report: dict[str, Any] = {}
    if profile:
        import paddle

        with flops.counted() as operations:
            launches = _profiled(step)
        report = {
            "launches": launches,
            "flops": operations,
            "generic": _generic_kernels(),
            "paddle": paddle.__version__,
            "device": chosen.name,
            "plugin": loaded_plugin(),
        }
    with _logging():
        print(BEGIN, file=sys.stderr, flush=True)
        step()
        print(END, file=sys.stderr, flush=True)
    return report


def _step(
    network: str, train: bool, chosen: device.Device, batch: int, segment: int, overrides: Sequence[str]
) -> Callable[[], object]:
    # here because they import paddle, for which the device has to be settled
    from training.audit_steps import inference_step, subject

    audited = subject(network, overrides)
    if not train:
        return inference_step(audited, batch, segment)
    from training.audit_training import training_step

    return training_step(audited, batch, segment, chosen)


@contextmanager
def _logging() -> Iterator[None]:
    """Within the block Paddle says which kernels it takes; 3.0 cannot be told so once it is imported."""
    from paddle.base import core

    tell = getattr(core, "set_vlog_level", lambda _: None)
    tell(_LOG_LEVEL)
    try:
        yield
    finally:
        tell(0)


def _profiled(step: Callable[[], object]) -> list[tuple[str, float]]:
    """Run ``step`` and return its kernels in order, each with the seconds it and the copies around it took."""
    from paddle import profiler

    # without on_trace_ready it would write a file into the working folder
    watch = profiler.Profiler(targets=[profiler.ProfilerTarget.CPU], on_trace_ready=lambda _: None)
    watch.start()
    step()
    watch.stop()
    launches: list[tuple[int, str, float]] = []
    for root in watch.profiler_result.get_data().values():  # one tree a thread
        _collect(root, launches)
    return [(kernel, seconds) for _, kernel, seconds in sorted(launches)]


def _collect(node: Any, launches: list[tuple[int, str, float]]) -> None:
    """Add the launches below ``node``: when, which kernel, how many seconds.

    A fallback copies before and after its launch, so that the operator around it is what counts, without those in it.
    """
    kernels = [child for child in node.children_node if child.name.endswith(_LAUNCH)]
    inner = [child for child in node.children_node if child.type.name in _OPERATORS]
    alone = len(kernels) == 1 and node.type.name in _OPERATORS
    for child in kernels:
        spent = _nanoseconds(node) - sum(map(_nanoseconds, inner)) if alone else _nanoseconds(child)
        launches.append((child.start_ns, child.name.removesuffix(_LAUNCH), spent / 1e9))
    for child in node.children_node:
        _collect(child, launches)


def _generic_kernels() -> list[str]:
    """Kernels that Paddle registers for every plug-in device; where there is one, they look like its own."""
    from paddle.base import core

    registered = core._get_all_register_op_kernels("phi")
    mark = re.compile(r"data_layout\[Undefined\(AnyLayout\)\]; place\[Place\(:")
    return [kernel for kernel, keys in registered.items() if any(map(mark.search, keys))]


def _nanoseconds(node: Any) -> int:
    return node.end_ns - node.start_ns


if __name__ == "__main__":
    run(main)
