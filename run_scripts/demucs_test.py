"""Score a published or exported model of the Demucs family on the test songs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from run_scripts import demucs_options as demucs
from run_scripts import options as shared
from run_scripts.demucs_run import processes_here
from runtime import console
from runtime.errors import UserError

EPILOG = """\
Prints nSDR and, unless test.sdr=false, SDR, SIR, ISR and SAR of BSS Eval v4 in frames of a second (dB): medians over
the songs, those of BSS Eval of the medians over a song's frames. The keys test.* and dset.sources say how; the songs
are those of --dataset (its folder test, or the test songs of its index) or of --nonhq.

examples:
  python run_scripts/run_demucs.py test_pretrained -n htdemucs --dataset /data/musdb18hq
  python run_scripts/run_demucs.py test_pretrained -n mine --repo release_models test.shifts=2 test.sdr=false
"""
_METRICS = ("nsdr", "sdr", "sir", "isr", "sar")
_LOGS = Path("outputs", "logs")  # of the processes, where there are several


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = demucs.parser("test_pretrained", __doc__, EPILOG)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("-n", "--name", metavar="NAME", help="a bag, or the signature of one network")
    which.add_argument("-s", "--sig", dest="name", metavar="SIG", help="another name of -n")
    parser.add_argument(
        "--repo", type=Path, metavar="FOLDER", help="packages and bags are there, such as release_models"
    )
    parser.add_argument("--offline", action="store_true", help="never download weights")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all scores to this file, too")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="such as test.shifts=2")
    demucs.add_machine(parser)
    parser.add_argument("-d", "--ddp", action="store_true", help="one process on each card of this machine")
    shared.add_processes(parser)
    return parser.parse(arguments)


class BagRecipe:
    """What scoring asks of a recipe, for networks that are trained already.

    Args:
        cfg: of an experiment; ``test.*`` counts
        bag: of `pretrained.get_model`
    """

    def __init__(self, cfg: Any, bag: Any):
        self.cfg, self.bag = cfg, bag
        self.sources, self.sample_rate = list(bag.sources), bag.sample_rate

    def separate(
        self, model: Any, mixture: np.ndarray, overlap: float, split: bool, delays: Sequence[int]
    ) -> np.ndarray:
        """Estimates ``[S, C, N]`` of a normalised mixture ``[C, N]``; every network of the bag has its own delays."""
        from inference.apply import apply_model

        del model, delays  # of a single network
        test = self.cfg.test
        return apply_model(self.bag, mixture[None], int(test.shifts), split, overlap, seed=int(self.cfg.seed))[0]


def check(cfg: Any, bag: Any) -> None:
    """Raises `UserError` if the model and the songs of a configuration do not fit together."""
    for key, own, wanted in (
        ("dset.sources", list(bag.sources), list(cfg.dset.sources)),
        ("dset.samplerate", bag.sample_rate, cfg.dset.samplerate),
        ("dset.channels", bag.channels, cfg.dset.channels),
    ):
        if own != wanted:
            value = f"[{','.join(own)}]" if isinstance(own, list) else own
            raise UserError(f"{bag.name} has {value} where the songs have {wanted}: add {key}={value}")


def score(cfg: Any, options: argparse.Namespace, group: Any) -> dict[str, float]:
    """The scores of the model over the test songs, the same in all processes.

    Raises:
        UserError: there is no such model, there are no songs, or they do not fit together
    """
    from data import wavset
    from pretrained import get_model
    from training.demucs_test import test_scores

    bag = get_model(options.name, options.repo, offline=True)
    check(cfg, bag)
    songs = wavset.test_tracks(cfg, options.cache)
    if not songs:
        raise UserError(f"{cfg.test.nonhq or cfg.dset.musdb} has no test songs: say where they are with --dataset")
    if group.is_main:
        console.log(f"{bag.name}: {len(bag.models)} networks, {len(songs)} songs, shifts {cfg.test.shifts}")
    folder = Path("separated", "test", bag.name) if cfg.test.save else None
    return test_scores(songs, BagRecipe(cfg, bag), bag.models[0], group, lambda: False, folder, bool(cfg.test.sdr))


def table(scores: dict[str, float], sources: Sequence[str]) -> str:
    """Medians over the songs, one line a metric."""
    there = [metric for metric in _METRICS if metric in scores]
    rows = [
        (metric, *(scores[f"{metric}_med_{name}"] for name in sources), scores[f"{metric}_med"], scores[metric])
        for metric in there
    ]
    return console.table(rows, ("median, dB", *sources, "all", "mean"))


def main(arguments: list[str]) -> int:
    """Scores; returns the exit status."""
    options = parse(arguments)
    from pretrained import demucs as published
    from runtime import device as devices
    from runtime import distributed
    from runtime.files import write_json
    from runtime.launch import in_worker, launch
    from training import xp

    experiment, here = xp.elsewhere(xp.compose(options.overrides), demucs.places(options)), processes_here(options)
    device = devices.select(options.device or "auto", None, here)
    if not in_worker():
        published.fetch_members(options.name, options.repo, options.offline)
    if here > 1 and not in_worker():
        command = [
            str(demucs.SCRIPT),
            "test_pretrained",
            *arguments,
            *([] if options.processes else ["-npn", str(here)]),
        ]
        return launch(here, command, device, _LOGS)
    devices.activate(device)
    group = distributed.init(device)
    scores = score(experiment.cfg, options, group)
    if group.is_main:
        console.log(table(scores, list(experiment.cfg.dset.sources)))
        if options.json:
            write_json(options.json, {"name": options.name, "delta": experiment.delta, "scores": scores})
    return 0
