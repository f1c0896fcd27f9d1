"""Prepare RMVPE's training data, train it, score it, and track the pitch of songs with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from run_scripts import options as shared
from run_scripts.modes import enter
from run_scripts.train_options import add_training, configuration, train
from runtime import config, console
from training.interrupts import StopRequests

DEFAULT = "rmvpe/base"
MODES = {  # mode → module with main(arguments)
    "prepare": "run_scripts.rmvpe_prepare",
    "infer": "run_scripts.rmvpe_infer",
    "evaluate": "run_scripts.rmvpe_evaluate",
}
NETWORKS = {"E2E0": ("rmvpe", "idle"), "E2E": ("rmvpe_e2e", "used")}  # the original's name → ours, and its filter
CARDS = 4  # processes at most that are started unasked
USAGE = """\
usage: run_rmvpe.py -m MODE …

{doc}

modes:
  prepare   make a data set of MIR-1K, or of other songs with labels
  train     train a network on it
  infer     track the pitch of the voice in songs
  evaluate  score a network on songs with labels

`run_rmvpe.py -m MODE --help` says more.

examples:
  python run_scripts/run_rmvpe.py -m prepare -i MIR-1K.zip
  python run_scripts/run_rmvpe.py -m train --iterations 100
  python run_scripts/run_rmvpe.py -m train --iterations 200000 --validation_interval 2000 --batch_size 16
  python run_scripts/run_rmvpe.py -m evaluate --help
  python run_scripts/run_rmvpe.py -m infer --help
"""
EPILOG = """\
The songs are in --dataset, as `-m prepare` leaves them. configs/rmvpe/base.yaml explains all keys.

A run has a folder of its own, LOGDIR/CONFIG/SIGNATURE, with its checkpoints, history.jsonl, losses.csv, loss.png and
train.log. The same command again goes on where the last one stopped, and more --iterations go on with a run that has
ended; another configuration is another run. --resume_iteration goes back to an earlier checkpoint of the run. SIGTERM
and SIGUSR1 save and exit with status 75 (start me again), Ctrl-C saves and exits with 130.
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line of the training."""
    parser = shared.Parser(
        prog="run_rmvpe.py -m train",
        description="Train a pitch network.",
        epilog=EPILOG,
    )
    load = "a new run begins with the published weights (True) or from scratch (False, the default)"
    add_training(parser, DEFAULT, load)
    add_original(parser)
    return parser.parse(arguments)


def add_original(parser: argparse.ArgumentParser) -> None:
    """Options with the names and the defaults of the original for what are keys of the configuration."""
    key = parser.add_argument_group("the original's options").add_argument
    positive, real = {"type": shared.positive, "metavar": "N"}, {"type": float, "metavar": "X"}
    key("--logdir", dest="model_dir", metavar="FOLDER", help="where runs are kept (default: runs/Hybrid)")
    key("--hop_length", dest="model.hop_length", **positive, help="samples between frames at 16 kHz (default: 160)")
    key("--learning_rate", dest="train.lr", **real, help="of Adam (default: 0.0005)")
    key("--batch_size", dest="train.batch_size", **positive, help="examples a process and update (default: 32)")
    text = "steps between validations, each with a checkpoint (default: 50)"
    key("--validation_interval", dest="train.valid_every", **positive, help=text)
    key("--clip_grad_norm", dest="train.clip", **real, help="largest norm of the gradient, 0: any (default: 3)")
    text = f"one a card (default: all cards, {CARDS} at most; without cards 1)"
    key("--nproc_per_node", dest="processes", **positive, help=text)
    key("--iterations", dest="train.steps", **positive, help="steps in all (default: 100)")
    text = "steps between reductions of the learning rate (default: 2000)"
    key("--learning_rate_decay_steps", dest="train.schedule.every", **positive, help=text)
    text = "ratio of a reduction (default: 0.98)"
    key("--learning_rate_decay_rate", dest="train.schedule.factor", **real, help=text)
    text = "go back to the run's checkpoint of this step (default: its last one)"
    key("--resume_iteration", **positive, help=text)
    text = f"{' or '.join(NETWORKS)} (default: {next(iter(NETWORKS))})"
    key("--model_name", choices=NETWORKS, metavar="NAME", help=text)
    text = "of weights, order, crops and augmentation (default: 37)"
    key("--seed", dest="train.seed", type=shared.natural, metavar="N", help=text)


def settled(options: argparse.Namespace) -> Any:
    """The configuration, with as many processes as there are cards unless something says how many."""
    if options.model_name:
        network, timbre_filter = NETWORKS[options.model_name]
        options.overrides = [f"network={network}", f"model.timbre_filter={timbre_filter}", *options.overrides]
    cfg = configuration(options, group="rmvpe")
    said = options.processes or any(text.startswith("train.processes=") for text in options.overrides)
    if not said and cfg.train.processes == 1:
        options.processes = min(cards(cfg.device), CARDS)
        cfg.train.processes = options.processes * (options.nodes or 1)
    return cfg


def cards(device: str) -> int:
    """How many cards of this machine a device such as ``auto`` or ``sdaa`` stands for; 1 without any."""
    from runtime.device import visible_count

    kinds = ("sdaa", "gpu") if device == "auto" else (device,) if device in ("sdaa", "gpu") else ()
    return next((count for kind in kinds if (count := visible_count(kind))), 1)


def run(arguments: list[str]) -> int:
    """Trains."""
    with StopRequests() as requests:
        options = parse(arguments)
        cfg = settled(options)
        here = str(cfg.train.processes // (options.nodes or 1))  # for those that are launched and see one card each
        command = [__file__, "-m", "train", *arguments, "--nproc_per_node", here]
        return train(cfg, options, command, requests, partial(go_back, cfg, options))


def go_back(cfg: Any, options: argparse.Namespace) -> None:
    """To the checkpoint that ``--resume_iteration`` wants."""
    if options.resume_iteration is not None:
        from training.rewind import rewind

        rewind(config.run_folder(cfg, cfg.model_dir), options.resume_iteration)


def main(arguments: list[str]) -> int:
    """Does what ``-m`` says; returns the exit status."""
    return enter(arguments, USAGE.format(doc=__doc__), {**MODES, "train": run})


if __name__ == "__main__":
    console.run(main)
