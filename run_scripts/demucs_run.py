"""Train a Demucs experiment."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from run_scripts import demucs_options as demucs
from run_scripts import options as shared
from runtime import console
from runtime.errors import UserError
from training.interrupts import StopRequests

if TYPE_CHECKING:
    from training.xp import Experiment

EPILOG = """\
The same command again goes on where the last one stopped: the experiment is found by its signature. SIGTERM and SIGUSR1
save and exit with status 75 (start me again), Ctrl-C saves and exits with 130. However many processes train it, and
wherever its songs are, it is the same experiment: batch_size counts the examples of all processes together.

examples:
  python run_scripts/run_demucs.py run model=htdemucs --dataset /data/musdb18hq
  python run_scripts/run_demucs.py run -d -f 955717e8 --wav /data/extra --wav2 /data/extra2
  python run_scripts/run_demucs.py run -npn 4 --nnodes 2 --master node1:29500 -f 81de367c    (on both nodes)
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = demucs.parser("run", __doc__, EPILOG)
    demucs.add_experiment(parser)
    demucs.add_machine(parser)
    parser.add_argument("-d", "--ddp", action="store_true", help="one process on each card of this machine")
    shared.add_processes(parser)
    text = "another name of -npn"
    parser.add_argument("--ddp_workers", dest="processes", type=shared.positive, metavar="N", help=text)
    shared.add_nodes(parser)
    text = "begin anew; what the experiment has done so far is set aside, not removed"
    parser.add_argument("--clear", action="store_true", help=text)
    return parser.parse(arguments)


def processes_here(options: argparse.Namespace) -> int:
    """How many processes of this machine take part.

    Raises:
        UserError: the cards cannot be counted
    """
    if options.processes or not options.ddp:
        return options.processes or 1
    from runtime import device as devices

    wanted = (options.device or "auto").partition(":")[0]
    kinds = devices.KINDS if wanted == "auto" else (wanted,)
    kind = next((kind for kind in kinds if devices.visible_count(kind) != 0), "cpu")
    if kind == "cpu":
        console.log("-d: there are no cards, so one process trains (-npn N would share the cores among N)")
        return 1
    count = devices.visible_count(kind)
    if count is None:
        raise UserError(f"-d: the cards of kind {kind} cannot be counted without paddle; say how many with -npn N")
    return count


def check(experiment: Experiment, processes: int) -> None:
    """Refuses what can only fail later, when all processes have started.

    Raises:
        UserError: says which key
    """
    from training import demucs_options
    from training.xp_network import example_length

    demucs_options.check(experiment.cfg, processes)
    example_length(experiment.cfg)


def train(options: argparse.Namespace, arguments: Sequence[str], requests: StopRequests) -> int:
    """Trains in this process, or in several (on each of several nodes) that run this command again."""
    from runtime import device as devices
    from runtime import distributed
    from runtime.launch import in_worker, launch, rank
    from runtime.meeting import meet
    from training import xp_store
    from training.demucs_data import prepare
    from training.prepare import set_aside

    experiment, here = demucs.experiment(options), processes_here(options)
    total = here * (options.nodes or 1)
    check(experiment, total)
    device = devices.select(options.device or "auto", experiment.cfg.model, here)
    if not in_worker():
        with meet(shared.nodes(options)) as meeting:
            console.log(f"experiment {experiment.signature}: {demucs.short(experiment.delta) or 'nothing changed'}")
            if meeting is None or meeting.is_first:
                if options.clear:
                    set_aside(experiment.folder)
                xp_store.initialise(experiment)
                if total > 1 and not experiment.cfg.misc.show:
                    prepare(experiment.cfg, options.cache)  # the other processes would wait for the first one
            if total > 1:
                command = [str(demucs.SCRIPT), "run", *arguments, *([] if options.processes else ["-npn", str(here)])]
                return launch(here, command, device, experiment.folder / "logs", meeting)
    with xp_store.logged(experiment) if rank() == 0 else nullcontext():
        devices.activate(device)
        from training import demucs as recipe

        return recipe.run(experiment, device, distributed.init(device), requests, cache=options.cache)


def main(arguments: list[str]) -> int:
    """Trains; returns the exit status."""
    with StopRequests() as requests:
        return train(parse(arguments), arguments, requests)
