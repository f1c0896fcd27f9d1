"""What the commands that train by a configuration share: their options, and the way into one or several processes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from run_scripts import options as shared
from runtime import config
from runtime.errors import UserError
from training.interrupts import StopRequests

SOURCES = {"fast_train": "cache", "train": "decode"}  # mode → data.source


def add_training(
    parser: argparse.ArgumentParser, default: str, load: str, dataset: str = "folder of the songs"
) -> None:
    """Add what `configuration` and `train` understand.

    Args:
        default: name of the configuration if none is given
        load: what ``-lm`` does
        dataset: what is in the folder ``--dataset``
    """
    shared.add_common(parser, default, dataset)
    shared.add_processes(parser)
    shared.add_nodes(parser)
    key = parser.add_argument_group("training").add_argument
    key("-bs", dest="train.batch_size", type=shared.positive, metavar="N", help="segments per process and forward pass")
    key("-lm", dest="load", type=shared.boolean, metavar="True|False", help=load)
    key("-seed", dest="train.seed", type=int, metavar="N", help="of the weights, the order of the data and the crops")
    key("-amp", dest="train.amp", action="store_const", const=True, help="mixed precision, on cards only")
    key("--steps", dest="train.steps", type=shared.positive, metavar="N", help="train until so many updates are done")
    key("--epochs", dest="train.epochs", type=shared.positive, metavar="N", help="… passes over the data instead")
    key("--model-dir", dest="model_dir", metavar="FOLDER", help="where runs are kept (default: the configuration's)")
    key("--restart", action="store_true", help="begin anew; what the run has done so far is set aside, not removed")
    key("--offline", action="store_true", help="never download weights")


def configuration(options: argparse.Namespace, group: str) -> Any:
    """The configuration that the command line asks for; ``key=value`` has the last word.

    Raises:
        UserError: an unknown configuration or key, or a value of the wrong type
    """
    flags = {
        "data.source": SOURCES.get(getattr(options, "mode", "")),
        "train.init": {True: "published", False: "scratch", None: None}[options.load],
        "model_dir": options.model_dir,
    }
    changes = [f"{key}={value}" for key, value in flags.items() if value is not None]
    given: Mapping[str, Any] = vars(options)
    if given["train.epochs"] and not given["train.steps"]:
        changes.append("train.steps=null")
    return config.load(options.config, [*changes, *shared.overrides(options)], group=group)


def train(
    cfg: Any,
    options: argparse.Namespace,
    command: list[str],
    requests: StopRequests,
    settle: Callable[[], object] = lambda: None,
) -> int:
    """Trains in this process, or in ``-npn`` processes (on each of several nodes) that run this command again.

    Args:
        cfg: the configuration of the run
        options: of `add_training`
        command: script and arguments that do the same in another process
        requests: signals to stop
        settle: makes what must be there before the first process starts

    Raises:
        UserError: whatever makes training impossible
    """
    from runtime import device as devices
    from runtime import distributed
    from runtime.launch import in_worker, launch
    from runtime.meeting import meet
    from training.prepare import prepare

    here, left = divmod(cfg.train.processes, options.nodes or 1)
    if left or not here:
        raise UserError(f"train.processes={cfg.train.processes} cannot be shared out to {options.nodes} nodes")
    device = devices.select(cfg.device, cfg.network, here)
    if not in_worker():
        with meet(shared.nodes(options)) as meeting:
            folder: Path = config.run_folder(cfg, cfg.model_dir)
            if meeting is None or meeting.is_first:
                settle()
                folder = prepare(cfg, options.restart, options.offline)
            if cfg.train.processes > 1:
                return launch(here, command, device, folder / "logs", meeting)
    devices.activate(device)
    from training import experiment

    return experiment.run(cfg, device, distributed.init(device), requests)
