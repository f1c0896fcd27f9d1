"""Run any command of this repository as a batch job: Slurm, or this machine with --local."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from run_scripts import options as shared
from run_scripts.cluster import grid
from runtime import console
from runtime.errors import UserError

if TYPE_CHECKING:
    import submitit

ROOT = Path(__file__).resolve().parents[2]
EPILOG = """\
Everything behind -- is the command; `python` means the interpreter that submits. The job ends with the status of the
command. When Slurm takes the nodes away, or the time runs out, the command gets SIGTERM; training saves and ends with
75, and the job requeues itself: the same command goes on from there.

With --nodes N the command runs once on each node, with --nnodes, --master and --node-rank added: for training. The
folder of the repository, the data and --folder must lie on a file system that the nodes share.

examples:
  python run_scripts/cluster/submit.py --cards 4 -- python run_scripts/run_spleeter.py -m fast_train -npn 4 -bs 20
  python run_scripts/cluster/submit.py --nodes 2 --cards 4 -- python run_scripts/run_spleeter.py -m fast_train -npn 4
  python run_scripts/cluster/submit.py --grid train.lr=1e-4,3e-4 -- python run_scripts/run_spleeter.py -m fast_train
  python run_scripts/cluster/submit.py --grid album=a,b,c -- python separator.py songs/{album} -o stems/{album}
  python run_scripts/cluster/submit.py --cards 4 -- python eval.py -npn 4 --fraction 1
"""
_TICK = 0.2  # s


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; what follows ``--`` arrives as ``command``."""
    parser = shared.Parser(
        prog="submit.py",
        description=__doc__,
        epilog=EPILOG,
        usage="submit.py [options] -- COMMAND…",
    )
    ask = parser.add_argument_group("what the job needs").add_argument
    ask("--nodes", type=shared.positive, default=1, metavar="N", help="machines that work together (default: 1)")
    ask("--cards", type=shared.positive, metavar="N", help="cards on each node (default: none)")
    ask("--gres", default="gpu", metavar="NAME", help="what this cluster calls its cards (default: gpu)")
    ask("--cpus", type=shared.positive, metavar="N", help="CPU cores on each node")
    ask("--memory", type=grid.gigabytes, metavar="SIZE", help="on each node: 64G, 512M")
    text = "limit before it is requeued: minutes, h:m:s or days-h:m:s (default: 12:00:00)"
    ask("--time", type=grid.minutes, default=720, metavar="TIME", help=text)
    ask("--partition", metavar="NAME", help="queue of the cluster")
    text = "any other option of sbatch, such as account=music or constraint=v100 (may be repeated)"
    ask("--sbatch", action="append", default=[], metavar="KEY=VALUE", help=text)
    many = parser.add_argument_group("many commands, as one array job").add_argument
    text = "one job for each value, for each combination if repeated: replaces {NAME}, or adds NAME=VALUE at the end"
    many("--grid", action="append", default=[], metavar="NAME=A,B", help=text)
    many(
        "--at-once", dest="at_once", type=shared.positive, metavar="N", help="so many of them at a time (default: all)"
    )
    how = parser.add_argument_group("how").add_argument
    how("--name", metavar="NAME", help="of the job (default: that of the program)")
    text = "logs, statuses and what the jobs need (default: model/jobs/<name>)"
    how("--folder", metavar="FOLDER", help=text)
    text = "seconds between the warning and the end, time to save (default: 180)"
    how("--grace", type=shared.positive, default=180, metavar="S", help=text)
    how(
        "--requeues",
        type=shared.natural,
        default=100,
        metavar="N",
        help="how often, after the time limit (default: 100)",
    )
    how("--local", action="store_true", help="run on this machine, wait, and end with the status of the command")
    how("--dry-run", dest="dry_run", action="store_true", help="show the commands and the batch script, submit nothing")
    arguments = list(arguments)
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse(arguments[:cut])
    options.command = arguments[cut + 1 :]
    if not options.command:
        raise UserError(
            "there is no command: write it behind --, as in submit.py --cards 4 -- python eval.py", status=2
        )
    return options


def program(command: Sequence[str]) -> list[str]:
    """The command with its interpreter; raises `UserError` if there is no such program."""
    words = list(command)
    if words[0] in ("python", "python3"):
        words[0] = sys.executable
        if len(words) > 1 and words[1].endswith(".py") and not Path(words[1]).is_file():
            raise UserError(f"{words[1]}: there is no such file; the command runs in the folder {Path.cwd()}")
    elif shutil.which(words[0]) is None:
        raise UserError(f"{words[0]}: there is no such program")
    return words


def name_of(command: Sequence[str]) -> str:
    """What a job is called that has no name: its program."""
    words = [word for word in command[1:] if not word.startswith("-")] or command
    return Path(words[0]).stem


def executor(options: argparse.Namespace, folder: Path) -> submitit.Executor:
    """Slurm's, or the local one."""
    import submitit

    if options.local:
        local = submitit.LocalExecutor(folder, max_num_timeout=options.requeues)
        local.update_parameters(
            timeout_min=options.time, tasks_per_node=options.nodes, signal_delay_s=options.grace, stderr_to_stdout=True
        )
        return local

    class Slurm(submitit.SlurmExecutor):
        @classmethod
        def affinity(cls) -> int:
            return 2  # a dry run needs no Slurm; a submission looks for it itself

    slurm = Slurm(folder, max_num_timeout=options.requeues)
    slurm.update_parameters(**parameters(options))
    return slurm


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    """What submitit shall ask of Slurm."""
    others = dict(text.partition("=")[::2] for text in options.sbatch)
    wanted = {
        "job_name": options.name,
        "partition": options.partition,
        "time": options.time,
        "nodes": options.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": options.cpus,
        "mem": f"{options.memory * 1024:.0f}M" if options.memory else None,
        "gres": f"{options.gres}:{options.cards}" if options.cards else None,
        "array_parallelism": options.at_once,
        "signal_delay_s": options.grace,
        "stderr_to_stdout": True,
        "setup": [f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}"],
        "additional_parameters": {"requeue": True, **{key: value or True for key, value in others.items()}},
    }
    return {key: value for key, value in wanted.items() if value is not None}


def main(arguments: list[str]) -> int:
    """Submit; returns the exit status."""
    options = parse(arguments)
    options.name = options.name or name_of(options.command)
    if "/" in options.name:
        raise UserError(f"--name {options.name}: a name without a slash is needed", status=2)
    commands = [tuple(program(words)) for words in grid.commands(options.command, options.grid)]
    folder = Path(options.folder or f"model/jobs/{options.name}").absolute()
    if options.dry_run:
        return show(options, commands, folder)
    if not options.local and shutil.which("sbatch") is None:
        raise UserError("there is no sbatch here: submit on a machine of the cluster, or run with --local")
    from run_scripts.cluster.job import Run

    cards = os.environ.get("CUDA_VISIBLE_DEVICES")
    runs = [Run(words, os.getcwd(), options.nodes, cards if options.local else None) for words in commands]
    folder.mkdir(parents=True, exist_ok=True)
    if options.local:
        return run_here(options, runs, folder)
    jobs = _submit(executor(options, folder), runs)
    for job, run in zip(jobs, runs, strict=True):
        console.log(f"job {job.job_id}: {shlex.join(run.command)}")
    tasks = "" if options.nodes == 1 else f" to {folder}/<job>_{options.nodes - 1}_log.out"
    console.log(f"logs: {folder}/<job>_0_log.out{tasks}")
    console.log(f"to end it for good: scancel --signal=KILL --full {jobs[0].job_id.partition('_')[0]}")
    return 0


def _submit(cluster: submitit.Executor, runs: Sequence[Any]) -> list[submitit.Job]:
    import submitit

    try:
        return cluster.submit_array(runs) if len(runs) > 1 else [cluster.submit(runs[0])]
    except submitit.core.utils.FailedJobError as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1:]
        raise UserError(f"Slurm refused the job: {' '.join(reason)}") from error


def show(options: argparse.Namespace, commands: Sequence[Sequence[str]], folder: Path) -> int:
    """Print what would be submitted."""
    for number, words in enumerate(commands):
        console.log(f"command {number}: {shlex.join(words)}")
    if not options.local:
        slurm = executor(options, folder)
        if len(commands) > 1:
            slurm.parameters["map_count"] = len(commands)
        console.log(slurm._make_submission_file_text(slurm._submitit_command_str, "dry-run"))
    return 0


def run_here(options: argparse.Namespace, runs: Sequence[Any], folder: Path) -> int:
    """Run the jobs on this machine, ``--at-once`` (default: one) at a time; the worst of their statuses."""
    from run_scripts.cluster.job import status_file

    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    cluster, waiting, running, statuses = executor(options, folder), list(runs), [], [0]
    try:
        while waiting or running:
            while waiting and len(running) < (options.at_once or 1):
                run = waiting.pop(0)
                running.append(job := cluster.submit(run))
                console.log(f"job {job.job_id}: {shlex.join(run.command)}  (log: {job.paths.stdout})")
            for job in [job for job in running if job.done()]:
                running.remove(job)
                files = [status_file(folder, job.job_id, task) for task in range(options.nodes)]
                found = [int(path.read_text("utf-8")) if path.is_file() else 1 for path in files]
                statuses.append(max(found))
                console.log(f"job {job.job_id}: status {max(found)}")
            time.sleep(_TICK)
    finally:
        for job in running:
            job.cancel()
    return max(statuses)


if __name__ == "__main__":
    console.run(main)
