"""Score the pitch that a network finds in songs with labels: RPA, RCA, OA, VR and VFA."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from run_scripts import options as shared
from run_scripts.rmvpe_infer import add_network
from runtime import console

DOOR = Path(__file__).resolve().parent / "run_rmvpe.py"  # what the processes of -npn run
DATASET = "dataset/Hybrid"
EPILOG = """\
FOLDER is a data set as -m prepare leaves it, of which the test songs are scored, or any folder of audio files and
labels of the same names: .pv (a MIDI note a line), .csv (time, f0), .tsv (notes). All scores are those of mir_eval at
the times of the labels, within 50 cents:

  RPA  raw pitch accuracy: share of the voiced labels where the pitch is right; what is taken for unvoiced is not
  RCA  raw chroma accuracy: the same, octaves forgiven
  OA   overall accuracy: share of all labels that are right, voiced or not
  VR   voicing recall: share of the voiced labels that are taken for voiced
  VFA  voicing false alarm: share of the unvoiced labels that are taken for voiced

Every song leaves a JSON file in OUT/songs; the same command again goes on with the songs that have none for these
weights and options. OUT/summary.json has the means. MODEL is as for -m infer: a file, a run, or rmvpe.

examples:
  python run_scripts/run_rmvpe.py -m evaluate
  python run_scripts/run_rmvpe.py -m evaluate -i dataset/Hybrid --model runs/Hybrid/rmvpe/base/0a1b2c3d -npn 4
  python run_scripts/run_rmvpe.py -m evaluate -i vocadito --model rmvpe.pt -o evaluation/vocadito --viterbi
  python run_scripts/run_rmvpe.py -m evaluate -i MIR-1K --label_hop 0.02 --label_first 0.02 --listen voice
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = shared.Parser(
        prog="run_rmvpe.py -m evaluate",
        description=__doc__,
        epilog=EPILOG,
    )
    add = parser.add_argument
    text = f"folder of songs and labels (default: {DATASET})"
    add("-i", "--input", "--dataset", dest="folder", type=Path, default=Path(DATASET), metavar="FOLDER", help=text)
    text = "folder of the scores (default: evaluation/<network>-<weights>)"
    add("-o", "--output", type=Path, metavar="OUT", help=text)
    add_network(parser)
    shared.add_processes(parser)
    text = "mix: all channels (default) | voice: of two channels the second, the voice in MIR-1K and in -m prepare's"
    add("--listen", choices=("mix", "voice"), default="mix", help=text)
    text = "seconds from line to line of .pv labels (default: the hop)"
    add("--label_hop", type=float, metavar="S", help=text)
    add("--label_first", type=float, metavar="S", help="time of their first line (default: that of the second frame)")
    add("--restart", action="store_true", help="score every song again")
    add("--work", metavar="JOB", help=argparse.SUPPRESS)  # how the processes of -npn are called
    return parser.parse(arguments)


def evaluate(options: argparse.Namespace) -> int:
    """Score as the options say; returns the exit status, 1 if a song could not be scored.

    Raises:
        UserError: no songs with labels, no weights, a device that is not there, or nothing that can be written
    """
    import separator
    from inference import evaluation, pitch_evaluation, pitch_planning
    from inference.pitch import check_options

    check_options(options.threshold, options.hop)
    sources, lost = pitch_evaluation.find(options.folder)
    for sentence in lost:
        console.warn(sentence)
    plan = pitch_planning.plan(options.model, options.offline)
    device = separator.device(options.device)
    sizes = {source.name: os.path.getsize(source.audio) for source in sources}
    songs = sorted(sources, key=lambda source: -sizes[source.name])  # long ones first: so processes end together
    job = pitch_evaluation.Job(
        plan=plan,
        songs=tuple((source.name, str(source.audio.resolve()), str(source.label.resolve())) for source in songs),
        folder=options.output or Path("evaluation") / f"{plan.network}-{plan.label}",
        device=device,
        processes=evaluation.processes(options.processes or 1, len(songs), device, plan.network),
        threshold=options.threshold,
        viterbi=options.viterbi,
        hop=options.hop,
        labels=pitch_evaluation.Labels(options.label_hop, options.label_first),
        listen=options.listen,
        restart=options.restart,
    )
    console.log(f"songs: {len(songs)} in {options.folder}")
    return pitch_evaluation.evaluate(job, [str(DOOR), "-m", "evaluate"])


def main(arguments: Sequence[str]) -> int:
    """``-m evaluate`` of ``run_rmvpe.py``; returns the exit status."""
    options = parse(arguments)
    if options.work:
        from inference.pitch_evaluation import Job, work

        return work(Job.read(options.work))
    return evaluate(options)
