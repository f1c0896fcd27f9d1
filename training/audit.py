"""One real step of a network under observation, in a process of its own: what `python -m runtime.doctor audit` starts.

The first step of a process makes the optimiser's state, so the second one is observed: by the profiler, which knows
times, or, where Paddle logs, between two marks on stderr.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime import config, device
from runtime.console import run
from runtime.distributed import Group
from runtime.doctor_probe import loaded_plugin
from runtime.doctor_step import BEGIN, END
from runtime.errors import UserError
from training import flops

Batch = dict[str, Any]
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
    """Take two steps on ``card`` and observe the second one.

    ``batch`` segments of ``segment`` frames (or samples, whichever the network eats) of random data; ``overrides`` are
    ``key=value`` of the network's configuration. With ``profile`` the result has the kernels in order and their seconds
    (``launches``) and calls and operations of those that can be counted (``flops``); without, the step is between
    `BEGIN` and `END` on stderr. Raises `UserError`.
    """
    chosen = device.select(card, network)
    device.activate(chosen)
    cfg = configuration(network, overrides)
    step = (_training_step if train else _inference_step)(cfg, batch, segment, chosen)
    step()
    if profile:
        import paddle

        with flops.counted() as operations:
            launches = _profiled(step)
        return {
            "launches": launches,
            "flops": operations,
            "generic": _generic_kernels(),
            "paddle": paddle.__version__,
            "device": chosen.name,
            "plugin": loaded_plugin(),
        }
    print(BEGIN, file=sys.stderr, flush=True)
    step()
    print(END, file=sys.stderr, flush=True)
    return {}


def configuration(network: str, overrides: Sequence[str] = ()) -> Any:
    """The configuration of a network of the registry: its family's base with the network's own options.

    Raises `UserError` for an unknown network, key or value.
    """
    from models.registry import describe, resolve

    name = resolve(network)
    base = f"{name.split('_')[0]}/base"
    options = describe(name).config
    keys = config.load(base).model
    own = [f"model.{key}={json.dumps(options[key])}" for key in keys if key in options and key != "seed"]
    return config.load(base, [f"network={name}", *own, *overrides])


def random_batch(cfg: Any, batch: int, segment: int) -> Batch:
    """What a loader would deliver for ``cfg.network``, of random numbers that are always the same."""
    from models.registry import describe
    from training.prepare import plain

    description = describe(cfg.network, **plain(cfg.model))
    if description.eats == "mel":
        raise UserError(f"the audit makes no data for {cfg.network}, which eats mel spectrograms")
    bins = (description.config["frequency_bins"],) if description.eats == "magnitude" else ()
    shape = (description.channels, segment, *bins)  # [C, T, F] or [C, N]
    random = np.random.default_rng(0)
    targets = random.random((batch, len(description.sources), *shape), np.float32)
    return {"mixture": targets.sum(axis=1), "targets": targets, "songs": ["random numbers"] * batch}


def _inference_step(cfg: Any, batch: int, segment: int, _device: device.Device) -> Callable[[], object]:
    """The network's part of a separation: from the host's memory and back to it."""
    import paddle

    import models
    from training.prepare import plain

    model, mixture = models.create(cfg.network, **plain(cfg.model)), random_batch(cfg, batch, segment)["mixture"]
    model.eval()

    def step() -> None:
        with paddle.no_grad():
            model(paddle.to_tensor(mixture)).numpy()

    return step


def _training_step(cfg: Any, batch: int, segment: int, chosen: device.Device) -> Callable[[], object]:
    """The trainer's own step, on data that are always the same."""
    from training import recipes
    from training.interrupts import StopRequests
    from training.state import State
    from training.trainer import Trainer

    recipe = recipes.create(cfg)
    model = recipe.build_model()
    state = State.begin(cfg, model, recipe.optimizer(model), chosen)
    stream = _Repeated(random_batch(cfg, batch, segment))
    trainer = Trainer(cfg, recipe, state, stream, None, Group(), _Silent(), StopRequests(), Path(), {})
    return trainer.update


class _Repeated:
    """In the place of a stream of batches: always the same."""

    def __init__(self, batch: Batch):
        self._batch = batch

    def next(self) -> Batch:
        return self._batch


class _Silent:
    """In the place of a journal: a step that was not taken cannot be audited, the rest is nobody's business."""

    def step(self, *_: object) -> None:
        pass

    def warn(self, message: str) -> None:
        raise UserError(f"the audited step was skipped: {message}")


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
