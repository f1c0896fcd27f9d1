"""Score what Apollo makes of songs that a codec has compressed, against the originals."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from run_scripts import options as shared
from run_scripts.apollo_infer import add_network
from runtime import console

METRICS = (
    "sdr",
    "si_sdr",
    "l1_freq",
    "log_wmse",
    "aura_stft",
    "aura_mrstft",
    "bleedless",
    "fullness",
    "lsd",
    "lsd_high",
)
EPILOG = """\
FOLDER has a folder for each song, with one file original.* and one codec.* in it, as -m generate makes them. Both are
read at the network's rate, in stereo, and cut to the shorter one. More is better for all metrics but the last two:

  sdr, si_sdr             signal to distortion ratio of the whole song, the second whatever its level, in dB
  l1_freq                 100 / (1 + 10 mean difference of the magnitudes)
  log_wmse                -4 ln of the error as it is heard; 73.7 is none
  aura_stft, aura_mrstft  100 / (1 + 10 loss) of auraloss, at one resolution and at three, A-weighted
  bleedless, fullness     100 / (1 + mean excess), (1 + mean lack) of the mel spectrum in dB
  lsd, lsd_high           log-spectral distance in dB, of all bins, and of those above the frequency at which the codec
                          cuts off, which is measured of each pair; pairs without one are left out of the mean

Every song leaves a JSON file in OUT/songs; the same command again goes on with the songs that have none for these
weights, options and metrics. OUT/summary.json has means and deviations, of the restored songs and of what the codec
left. With --save_results OUT/results.txt has what is printed, and OUT/<folder>_restored.wav the restored songs.
With --plot OUT/<folder>.png shows the spectrograms of original, codec and restored song, 10 s from its middle.

examples:
  python run_scripts/run_apollo.py -m validate -m model_apollo.ckpt -i valid
  python run_scripts/run_apollo.py -m validate -i valid --metrics sdr si_sdr log_wmse --save_results --output results
  python run_scripts/run_apollo.py -m validate -i valid --metrics sdr lsd_high --plot
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = shared.Parser(
        prog="run_apollo.py -m validate",
        description=__doc__,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("-i", "--input", dest="folder", type=Path, metavar="FOLDER", help="folder of folders of songs")
    add_network(parser)
    text = f"which (default: sdr): {' '.join(METRICS)}"
    add("--metrics", nargs="+", choices=METRICS, default=["sdr"], metavar="METRIC", help=text)
    add("--save_results", action="store_true", help="also keep the restored songs and what is printed")
    text = "also draw each song, with lsd_high, which is then measured in any case"
    add("--plot", action="store_true", help=text)
    text = "folder of the results (default: evaluation/<network>)"
    add("-o", "--output", type=Path, metavar="OUT", help=text)
    shared.add_processes(parser)
    shared.add_loudness(parser)
    add("--restart", action="store_true", help="score every song again")
    add("--work", metavar="JOB", help=argparse.SUPPRESS)  # how the processes of -npn are called
    options = parser.parse(arguments)
    if options.folder is None and not options.work:
        parser.error("the following arguments are required: -i FOLDER")
    return options


def validate(options: argparse.Namespace) -> int:
    """Score as the options say; returns the exit status, 1 if a song could not be scored.

    Raises:
        UserError: no songs, no weights, options that cannot be, or nothing that can be written
    """
    import separator
    from inference import evaluation, restoration, restoration_scores
    from inference.options import Options

    found, lost = restoration_scores.find(options.folder)
    for sentence in lost:
        console.warn(sentence)
    plan = restoration.plan(options.model, options.config)
    wishes = {"segment": options.segment, "batch": options.batch, "window": options.window}
    wishes["overlap"] = restoration.share(options.overlap)
    separation = {name: value for name, value in wishes.items() if value is not None}
    Options(**separation)
    device = separator.device(options.device)
    found.sort(key=lambda song: -os.path.getsize(song[1]))  # long ones first: so processes end together
    job = restoration_scores.Job(
        plan=plan,
        songs=tuple((name, str(original.resolve()), str(codec.resolve())) for name, original, codec in found),
        folder=options.output or Path("evaluation") / plan.label,
        metrics=tuple(dict.fromkeys([*options.metrics, *([restoration_scores.HIGH] if options.plot else [])])),
        device=device,
        processes=evaluation.processes(options.processes or 1, len(found), device, plan.network),
        separation=separation,
        save=options.save_results,
        plot=options.plot,
        restart=options.restart,
    )
    console.log(f"songs: {len(found)} in {options.folder}")
    return restoration_scores.validate(job, [__file__])


def main(arguments: Sequence[str]) -> int:
    """``-m validate`` of ``run_apollo.py``; returns the exit status."""
    options = parse(arguments)
    if options.work:
        from inference.restoration_scores import Job, work

        return work(Job.read(options.work))
    return validate(options)


if __name__ == "__main__":
    console.run(main)
