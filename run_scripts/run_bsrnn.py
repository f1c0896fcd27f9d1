"""Prepare BandSplitRNN's training data, train it, score it, and separate with it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from run_scripts import options as shared
from run_scripts.modes import enter
from run_scripts.train_options import add_training, configuration, train
from runtime import console
from runtime.errors import UserError
from training.interrupts import StopRequests

DEFAULT = "bsrnn/base"
ELSEWHERE = {  # mode → module with main(arguments)
    "prepare": "run_scripts.bsrnn_prepare",
    "infer": "run_scripts.bsrnn_infer",
    "evaluate": "run_scripts.bsrnn_evaluate",
}
TRAINING = {
    "process_data": "Cache the waveforms of the songs.",
    "fast_train": "Train from cached waveforms; what is missing of them, and of the lists, is made first.",
    "train": "Train from the audio files, decoding as it goes: no cache, but slower.",
}
USAGE = """\
usage: run_bsrnn.py -m MODE …

{doc}

modes:
  prepare       find where sources sound in the songs: the lists that training takes its examples from
  process_data  cache the waveforms of the songs
  fast_train    train from that cache; what is missing of it, and of the lists, is made first
  train         train from the audio files, decoding as it goes: no cache, but slower
  infer         separate songs
  evaluate      score a trained network on the test songs

`run_bsrnn.py -m MODE --help` says more. One network separates one source (train_dataset.target).

examples:
  python run_scripts/run_bsrnn.py -m prepare -i /data/musdb18hq -o files -t vocals bass drums other
  python run_scripts/run_bsrnn.py -m fast_train --dataset /data/musdb18hq
  python run_scripts/run_bsrnn.py -m fast_train train_dataset.target=bass model=bandsplitrnnbass
  python run_scripts/run_bsrnn.py -m fast_train -npn 8 schedule=paper
  python run_scripts/run_bsrnn.py -m evaluate -d model/bsrnn/base/0123abcd
  python run_scripts/run_bsrnn.py -m infer -i song.mp3 -o separated -t vocals
"""
EPILOG = """\
The songs are in --dataset (or MUSDB_DIR), the lists of `-m prepare` in train_dataset.txt_dir. configs/bsrnn/base.yaml
explains all keys; train_dataset.target=bass model=bandsplitrnnbass trains bass, schedule=paper as the paper does.

The same command again goes on where the last one stopped; another configuration is another run, in a folder of its own
below --model-dir. SIGTERM and SIGUSR1 save and exit with status 75 (start me again), Ctrl-C saves and exits with 130.
"""


def parse(mode: str, arguments: Sequence[str]) -> argparse.Namespace:
    """The command line of a mode that trains, or caches for it; its name is in ``mode``."""
    parser = shared.Parser(
        prog=f"run_bsrnn.py -m {mode}",
        description=TRAINING[mode],
        epilog=EPILOG,
    )
    load = "a new run begins with the published weights (True) or from scratch (False, the default)"
    add_training(parser, DEFAULT, load)
    options = parser.parse(arguments)
    options.mode = mode
    return options


def settled(options: argparse.Namespace) -> Any:
    """The configuration; the index of a folder that has none lies beside the lists."""
    cfg = configuration(options, group="bsrnn")
    if cfg.data.index == f"{cfg.data.dataset}/index.jsonl" and not Path(cfg.data.index).is_file():
        cfg.data.index = f"{cfg.train_dataset.txt_dir}/index.jsonl"
    return cfg


def process_data(cfg: Any, processes: int) -> int:
    """Makes lists that are missing, and caches the training and validation songs."""
    from training.bsrnn_data import salient_segments, settle

    cfg.data.source = "cache"
    learnt, judged = salient_segments(cfg, settle(cfg, processes))
    console.log(f"train: {learnt.summary()}")
    console.log(f"valid: {judged.summary() if judged else 'no songs'}")
    return 0


def run(mode: str, arguments: list[str], command: list[str]) -> int:
    """Trains, or caches for it; ``command`` does the same in another process."""
    with StopRequests() as requests:
        options = parse(mode, arguments)
        cfg = settled(options)
        if mode == "process_data":
            if shared.nodes(options):
                raise UserError("-m process_data works on one node: leave out --nnodes", status=2)
            return process_data(cfg, options.processes or len(os.sched_getaffinity(0)))

        def settle() -> None:
            from training.bsrnn_data import settle

            settle(cfg)

        return train(cfg, options, command, requests, settle)


def main(arguments: list[str]) -> int:
    """Does what ``-m`` says; returns the exit status."""
    training = {mode: partial(run, mode, command=[__file__, *arguments]) for mode in TRAINING}
    return enter(arguments, USAGE.format(doc=__doc__), {**ELSEWHERE, **training})


if __name__ == "__main__":
    console.run(main)
