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
from run_scripts.train_options import add_training, configuration, train
from runtime import console
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
    )
    modes = ("process_data", "fast_train", "train")
    parser.add_argument("-m", dest="mode", required=True, choices=modes, help="what to do, see below")
    load = "a new run begins with the published weights (True, the default) or from scratch (False)"
    add_training(parser, DEFAULT, load)
    return parser.parse(arguments)


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


def main(arguments: list[str]) -> int:
    with StopRequests() as requests:
        options = parse(arguments)
        cfg = configuration(options, group="spleeter")
        if options.mode == "process_data":
            if shared.nodes(options):
                raise UserError("-m process_data works on one node: leave out --nnodes", status=2)
            return process_data(cfg, options.processes or len(os.sched_getaffinity(0)))
        return train(cfg, options, [__file__, *arguments], requests)


if __name__ == "__main__":
    console.run(main)
