"""Score the checkpoints of a BandSplitRNN run on the test songs: uSDR of whole songs and cSDR of windows."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from run_scripts import options as shared
from runtime import console
from runtime.errors import UserError

if TYPE_CHECKING:
    from inference.planning import Plan
    from metrics.report import SongScore

EVAL = Path(__file__).resolve().parents[1] / "eval.py"  # what the processes of -npn run
LOG = "test.log"  # in the run's folder
_FOLDER = "test"  # beside it: a file for each song and checkpoint, and the index of songs that have none
_WINDOWS = {False: (2.0, 1.5), True: (1.0, 1.0)}  # s: window and hop; of the reference's program, and of the paper
EPILOG = """\
RUN_DIR is a run of this program, whose best checkpoint is scored, or one of the reference, whose checkpoints are all
scored: weights/*.ckpt, with the configuration in tb_logs/hparams.yaml. Weights are the moving average where there is
one, which is what training validated; the reference's program scored the others (--raw).

uSDR is 10 log10(energy of the source / energy of the error) of a song. cSDR is the median of the same over windows, by
BSS Eval of the source alone: windows of 2 s every 1.5 s as the reference's program has them, or of 1 s with --paper.
Printed and written to RUN_DIR/test.log: mean and deviation over the songs, and their median. The scores of the songs
stay in RUN_DIR/test; the same command again goes on where it was stopped.

examples:
  python run_scripts/run_bsrnn.py -m evaluate -d model/bsrnn/base/0a1b2c3d --dataset musdb18hq
  python run_scripts/run_bsrnn.py -m evaluate -d logs/bandsplitrnn/2023-01-01_12-00 --paper --overlap-window reference
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = shared.Parser(
        prog="run_bsrnn.py -m evaluate",
        description=__doc__,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("-d", "--run-dir", required=True, type=Path, metavar="RUN_DIR", help="folder of the run")
    shared.add_common(parser)
    shared.add_processes(parser)
    add("--split", default="test", metavar="NAME", help="songs to score (default: test)")
    add("--paper", action="store_true", help="cSDR in windows of 1 s, side by side")
    text = "how chunks are added: normalised (default) | reference: as its program does it"
    add("--overlap-window", default="normalised", metavar="NAME", help=text)
    text = "share of a chunk that overlaps the next (default: the reference's, 0.82)"
    add("--overlap", type=float, metavar="SHARE", help=text)
    add("--raw", action="store_true", help="the reference's weights themselves, not their average, as its program does")
    add("--restart", action="store_true", help="score every song again")
    parser.set_defaults(dataset=os.environ.get("MUSDB_DIR") or "dataset")
    return parser.parse(arguments)


def evaluate(options: argparse.Namespace) -> int:
    """Score as the options say; returns the exit status.

    Raises:
        UserError: no checkpoints, no songs, or songs that lack the source
    """
    import separator
    from data.activity_index import open_index
    from inference import evaluation
    from inference.scoring import Job, read_score
    from runtime.files import atomic_write, require_writable

    run = options.run_dir
    found = plans(run, options.raw)
    require_writable(run)
    if not Path(options.dataset).exists():
        raise UserError(f"{options.dataset}: there is no such data set; say where it is with --dataset or MUSDB_DIR")
    index = open_index(options.dataset, run / _FOLDER, [*found[0].description.sources])
    songs = sorted(index.require(options.split), key=lambda song: -song.seconds)
    evaluation.check_songs(index, songs, found[0].description.sources)
    window, hop = _WINDOWS[options.paper]
    device = separator.device(options.device or "auto")
    lines: list[str] = []

    def say(text: str) -> None:
        console.log(text)
        lines.append(text)

    say(f"run: {run}")
    say(f"songs: {len(songs)} of {options.split} in {index.path}")
    say(f"cSDR: median over windows of {window:g} s every {hop:g} s; mean and deviation are those of songs, in dB")
    for number, plan in enumerate(found, 1):
        job = Job(
            plan=plan,
            index=str(index.path),
            songs=tuple(song.name for song in songs),
            folder=run / _FOLDER / f"{plan.weights.name}-{window:g}s",
            device=device,
            processes=evaluation.processes(options.processes or 1, len(songs), device, plan.network),
            separation=_separation(options),
            bss="alone",
            window=window,
            hop=hop,
            restart=options.restart,
        )
        if status := evaluation.run(job, str(EVAL)):
            return status
        scores = [read_score(job.file(song)) for song in songs]
        say(f"\n[{number}/{len(found)}] {plan.weights} ({scores[0].details['identity']['weights']})")
        for stem in plan.description.sources:
            say(table(stem, scores))
        with atomic_write(run / LOG) as log:
            log.write(("\n".join(lines) + "\n").encode())
    console.log(f"\nwritten to {run / LOG}")
    return 0


def plans(run: Path, raw: bool = False) -> list[Plan]:
    """What is to be scored of a run, ours or the reference's (``raw``: not the average of its weights).

    Raises:
        UserError: the run has no checkpoint, or one of another network
    """
    from inference import planning
    from pretrained.lightning import RAW
    from runtime import checkpoint

    if files := sorted(run.glob("weights/*.ckpt")):
        return [planning.plan(f"{file}{RAW if raw else ''}") for file in files]
    if raw:
        raise UserError(f"--raw is for checkpoints of the reference, of which {run}/weights has none: leave it out")
    if checkpoint.best(run) or checkpoint.latest(run):
        return [planning.plan(run)]
    raise UserError(
        f"{run} holds no checkpoint: -d names the folder of a run (model/bsrnn/<config>/<signature>), or one of the "
        "reference with weights/*.ckpt in it"
    )


def _separation(options: argparse.Namespace) -> dict:
    wishes = {"window": options.overlap_window, "overlap": options.overlap}
    return {name: value for name, value in wishes.items() if value is not None}


def table(stem: str, scores: Sequence[SongScore]) -> str:
    """Mean, deviation and median over the songs of uSDR and cSDR; beside them the mean of the mixture as it is."""
    import numpy as np

    rows = []
    for name, values in (("uSDR", _whole(stem, scores)), ("cSDR", _windows(stem, scores))):
        estimate, mixture = (np.array(values[label]) for label in ("estimate", "mixture"))
        counted = np.isfinite(estimate)
        if not counted.all():
            deaf = ", ".join(score.song for score, heard in zip(scores, counted, strict=True) if not heard)
            console.warn(f"{name}: these songs have no window with sound, so they do not count: {deaf}")
        if not counted.any():
            rows.append((stem, name, 0, *["n/a"] * 4))
            continue
        estimate, mixture = estimate[counted], mixture[counted]
        figures = estimate.mean(), estimate.std(), np.median(estimate), mixture.mean()
        rows.append((stem, name, len(estimate), *(f"{figure:.3f}" for figure in figures)))
    return console.table(rows, ("stem", "dB", "songs", "mean", "std", "median", "mean of mixture"))


def _whole(stem: str, scores: Sequence[SongScore]) -> dict[str, list[float]]:
    """uSDR, which is nSDR by another name."""
    return {label: [score.details["nsdr"][label][stem] for score in scores] for label in ("estimate", "mixture")}


def _windows(stem: str, scores: Sequence[SongScore]) -> dict[str, list[float]]:
    from metrics.report import over_frames

    signals = {"estimate": [score.estimates for score in scores], "mixture": [score.mixture for score in scores]}
    return {label: [over_frames(song[stem]["SDR"]) for song in songs] for label, songs in signals.items()}


def main(arguments: Sequence[str]) -> int:
    """``-m evaluate`` of ``run_bsrnn.py``; returns the exit status."""
    return evaluate(parse(arguments))
