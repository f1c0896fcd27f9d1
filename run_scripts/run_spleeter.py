"""Prepare Spleeter's training data, and train it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from run_scripts import options as shared
from runtime import config, console
from runtime.errors import UserError
from training.interrupts import StopRequests

DEFAULT = "spleeter/2stems"
EPILOG = """\
modes:
  process_data  cut the songs of the index into pieces and cache their spectrograms
  fast_train    train from that cache
  train         train from the audio files, decoding as it goes: no cache, but slow

The same command again goes on where the last one stopped; another configuration is another run, in a folder of its own
below --model-dir. SIGTERM and SIGUSR1 save and exit with status 75 (start me again), Ctrl-C saves and exits with 130.

examples:
  python run_scripts/run_spleeter.py -m process_data
  python run_scripts/run_spleeter.py -m fast_train -bs 20
  python run_scripts/run_spleeter.py -m fast_train -npn 4 -bs 20 -lm False
  python run_scripts/run_spleeter.py -m fast_train -npn 4 -bs 20 --nnodes 2 --master node1:29500    (on both nodes)
  python run_scripts/run_spleeter.py -c spleeter/4stems -m fast_train train.lr=3e-4 model.dropout=0.5
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; flags that are keys of the configuration have the key as their name."""
    parser = shared.Parser(
        prog="run_spleeter.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    modes = ("process_data", "fast_train", "train")
    parser.add_argument("-m", dest="mode", required=True, choices=modes, help="what to do, see below")
    shared.add_common(parser, DEFAULT)
    shared.add_processes(parser)
    shared.add_nodes(parser)
    key = parser.add_argument_group("training").add_argument
    key("-bs", dest="train.batch_size", type=shared.positive, metavar="N", help="segments per process and forward pass")
    key(
        "-lm",
        dest="load",
        type=shared.boolean,
        metavar="True|False",
        help="a new run begins with the published weights (True, the default) or from scratch (False)",
    )
    key("-seed", dest="train.seed", type=int, metavar="N", help="of the weights, the order of the data and the crops")
    key("-amp", dest="train.amp", action="store_const", const=True, help="mixed precision, on cards only")
    key("--steps", dest="train.steps", type=shared.positive, metavar="N", help="train until so many updates are done")
    key("--epochs", dest="train.epochs", type=shared.positive, metavar="N", help="… passes over the data instead")
    key("--model-dir", dest="model_dir", metavar="FOLDER", help="where runs are kept (default: model)")
    key("--restart", action="store_true", help="begin anew; what the run has done so far is set aside, not removed")
    key("--offline", action="store_true", help="never download weights")
    return parser.parse(arguments)


def configuration(options: argparse.Namespace) -> Any:
    """The configuration that the command line asks for; ``key=value`` has the last word."""
    flags = {
        "data.source": {"fast_train": "cache", "train": "decode"}.get(options.mode),
        "train.init": {True: "published", False: "scratch", None: None}[options.load],
        "model_dir": options.model_dir,
    }
    changes = [f"{key}={value}" for key, value in flags.items() if value is not None]
    given = vars(options)
    if given["train.epochs"] and not given["train.steps"]:
        changes.append("train.steps=null")
    return config.load(options.config, [*changes, *shared.overrides(options)], group="spleeter")


def process_data(cfg: Any, processes: int) -> int:
    """Caches the training and validation songs; what is there already and still right is kept."""
    from data import cache
    from data.index import read_index
    from training.segments import cache_spec, magnitude_segments

    index, spec = read_index(cfg.data.index), cache_spec(cfg)
    songs = index.require("train", spec.tracks)
    if index.split("valid"):
        songs = songs + index.require("valid", spec.tracks)
    console.log(f"config: {cfg.config_name}  data: {index.path}, {len(songs)} songs for training and validation")
    report = cache.build(index, spec, cfg.data.cache, songs, processes)
    for line in report.lines():
        console.log(line)
    if report.failed:
        raise UserError(f"{len(report.failed)} songs could not be cached: {', '.join(report.failed)}")
    data, valid = magnitude_segments(cfg, index)
    console.log(f"train: {data.summary()}")
    console.log(f"valid: {valid.summary() if valid else 'no songs'}")
    return 0


def train(cfg: Any, options: argparse.Namespace, arguments: list[str], requests: StopRequests) -> int:
    """Trains in this process, or in ``-npn`` processes (on each of several nodes) that run this command again."""
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
            folder = config.run_folder(cfg, cfg.model_dir)
            if meeting is None or meeting.is_first:
                folder = prepare(cfg, options.restart, options.offline)
            if cfg.train.processes > 1:
                return launch(here, [__file__, *arguments], device, folder / "logs", meeting)
    devices.activate(device)
    from training import experiment

    return experiment.run(cfg, device, distributed.init(device), requests)


def main(arguments: list[str]) -> int:
    with StopRequests() as requests:
        options = parse(arguments)
        cfg = configuration(options)
        if options.mode == "process_data":
            if shared.nodes(options):
                raise UserError("-m process_data works on one node: leave out --nnodes", status=2)
            return process_data(cfg, options.processes or len(os.sched_getaffinity(0)))
        return train(cfg, options, arguments, requests)


if __name__ == "__main__":
    console.run(main)
