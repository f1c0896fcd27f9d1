"""Make pairs of music and its coded copies, train Apollo on them, restore songs with it, score it, and hand it on."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pretrained.apollo import SAVED
from run_scripts import options as shared
from run_scripts.modes import enter
from run_scripts.train_options import add_training, configuration, train
from runtime import console
from runtime.errors import UserError
from runtime.worker import in_worker
from training.interrupts import StopRequests

DEFAULT = "apollo/base"
MODES = {  # mode → module with main(arguments)
    "generate": "run_scripts.apollo_generate",
    "infer": "run_scripts.apollo_infer",
    "validate": "run_scripts.apollo_validate",
    "export": "run_scripts.apollo_export",
}
USAGE = """\
usage: run_apollo.py -m MODE …

{doc}

modes:
  generate  make data sets: songs, and what a codec leaves of them
  train     train a network on them
  infer     restore songs
  validate  score a network on pairs
  export    hand a network on to other programs

`run_apollo.py -m MODE --help` says more.

examples:
  python run_scripts/run_apollo.py -m generate --help
  python run_scripts/run_apollo.py -m train -c configs/apollo.yaml
  python run_scripts/run_apollo.py -m train --dataset pairs
"""
EPILOG = """\
-c takes a configuration with the keys of the Apollo-Training fork (exp, datas, model, …, as configs/apollo.yaml) or
with our own, which configs/apollo/base.yaml explains; key=value changes our own keys in both cases.

A run has a folder of its own, MODEL_DIR/CONFIG/SIGNATURE (exp.dir/exp.name/SIGNATURE), with its checkpoints, the best
weights (best, and several in top), history.jsonl, losses.csv, loss.png and train.log. The same command again goes on
where the last one stopped, with both networks; another configuration is another run. SIGTERM and SIGUSR1 save and exit
with status 75 (start me again), Ctrl-C saves and exits with 130.
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line of the training."""
    parser = shared.Parser(
        prog="run_apollo.py -m train",
        description="Train a network that restores what a codec has taken from music.",
        epilog=EPILOG,
    )
    load = f"True: a new run begins with {SAVED}; False: from scratch (the default); --model names other weights"
    dataset = "folder with pairs in train and, to be judged by, in valid, as -m generate makes them"
    add_training(parser, DEFAULT, load, dataset)
    text = "weights that a new run begins with, those of the discriminator included where they are there"
    parser.add_argument("-m", "--model", dest="train.init", metavar="CKPT", help=text)
    return parser.parse(arguments)


def settled(options: argparse.Namespace) -> tuple[Any, tuple[str, ...]]:
    """The configuration, and lines about it."""
    from training import apollo_yaml

    with ExitStack() as stack:
        notes: tuple[str, ...] = ()
        if apollo_yaml.is_original(options.config):
            options.config, notes = stack.enter_context(apollo_yaml.as_ours(options.config))
        options.overrides = [*_folders(options.dataset), *options.overrides]
        options.dataset = None
        return configuration(options, group="apollo"), notes


def _folders(dataset: str | None) -> list[str]:
    """The changes of the configuration that ``--dataset`` stands for."""
    if dataset is None:
        return []
    found = [split for split in ("train", "valid") if Path(dataset, split).is_dir()]
    if "train" not in found:
        raise UserError(
            f"--dataset {dataset} has no folder train: make one with run_apollo.py -m generate -gt -o {dataset}/train, "
            "or name folders with data.train.folders"
        )
    texts = {split: json.dumps([str(Path(dataset, split))], ensure_ascii=False) for split in found}
    return [f"data.{split}.folders={text}" for split, text in texts.items()]


def run(arguments: list[str]) -> int:
    """Trains."""
    with StopRequests() as requests:
        options = parse(arguments)
        cfg, notes = settled(options)
        if not in_worker():
            for note in notes:
                console.log(note)
        return train(cfg, options, [__file__, "-m", "train", *arguments], requests)


def main(arguments: list[str]) -> int:
    """Does what ``-m`` says; returns the exit status."""
    return enter(arguments, USAGE.format(doc=__doc__), {**MODES, "train": run})


if __name__ == "__main__":
    console.run(main)
