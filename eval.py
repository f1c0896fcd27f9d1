"""Scores separations of held-out songs: python eval.py -npn 4 -seed 123456"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from run_scripts import options as shared
from runtime import console

DEFAULT = "spleeter/2stems"
EPILOG = """\
Draws a seeded part of a split, separates its songs, and prints SDR, SIR, SAR and ISR (BSS Eval v4, windows of one
second) of the estimates and of the unprocessed mixture: medians over songs of medians over windows; and nSDR of whole
songs: means over songs. Each song leaves a JSON file; the same command again goes on with the songs that have none for
these weights.

The weights are those that were trained last below --model-dir (with -c: of that network), unless --weights or -n say
otherwise. Keys that matter here: data.*, model_dir, separation.* (exponent, mask_extension, mwf).

examples:
  python eval.py -npn 4 -seed 123456
  python eval.py --fraction 1 --split valid --weights model/spleeter/2stems/0a1b2c3d
  python eval.py -n spleeter_4stems --fraction 1 --bss museval
  python eval.py -n htdemucs_ft --fraction 1 --shifts 1
  python eval.py -n bsrnn_vocals,bsrnn_drums --fraction 1 --window 2 --hop 1.5
  python eval.py --weights outputs/xps/2db45dc4 --fraction 1
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = shared.Parser(
        prog="eval.py",
        description="Score separations of held-out songs.",
        epilog=EPILOG,
    )
    shared.add_common(parser, DEFAULT)
    shared.add_processes(parser)
    parser.set_defaults(config=None)
    which = parser.add_argument_group("what is scored")
    which.add_argument("-seed", type=seed, default=0, metavar="N", help="which songs are drawn (default: 0)")
    which.add_argument("--fraction", type=fraction, default=0.1, metavar="F", help="part of the split (default: 0.1)")
    which.add_argument("--split", type=named, default="test", metavar="NAME", help="songs to draw from (default: test)")
    which.add_argument(
        "--weights", type=named, metavar="PATH", help="run folder, checkpoint, .safetensors or TensorFlow checkpoint"
    )
    text = (
        "a network with its published weights, a bag or signature of the Demucs family, a run folder or a package; or "
        "several of BandSplitRNN, with commas between"
    )
    which.add_argument("-n", "--name", type=named, metavar="NAME", help=text)
    text = "folder of packages and bags of the Demucs family in which NAME is looked for"
    which.add_argument("--repo", type=named, metavar="FOLDER", help=text)
    text = "where runs are kept (default: model)"
    which.add_argument("--model-dir", dest="model_dir", type=named, metavar="FOLDER", help=text)
    which.add_argument("--offline", action="store_true", help="never download weights")
    how = parser.add_argument_group("how")
    text = (
        "fast: this program's (default) | museval: the original, the same numbers, slowly | alone: SDR only, of each "
        "stem as if there were no others"
    )
    how.add_argument("--bss", choices=("fast", "museval", "alone"), default="fast", help=text)
    how.add_argument("--window", type=seconds, default=1.0, metavar="S", help="seconds of a window (default: 1)")
    how.add_argument("--hop", type=seconds, metavar="S", help="seconds between windows (default: the window)")
    text = "average N passes over delayed copies (default: the original's; Spleeter and BandSplitRNN 0, Demucs 1)"
    how.add_argument("--shifts", type=shared.natural, metavar="N", help=text)
    text = (
        "share of a segment that overlaps the next (default: the original's; Spleeter 0, Demucs 0.25, "
        "BandSplitRNN 0.82)"
    )
    how.add_argument("--overlap", type=float, metavar="SHARE", help=text)
    text = "how segments are added, which separator.py calls --window (BandSplitRNN; default: normalised)"
    how.add_argument("--overlap-window", metavar="NAME", help=text)
    parts = how.add_mutually_exclusive_group()
    parts.add_argument("--segment", type=seconds, metavar="S", help="seconds per network call (default: the network's)")
    text = "the whole song in one call of the network, in memory (Demucs but for HTDemucs)"
    parts.add_argument("--no-split", dest="whole", action="store_true", help=text)
    text = "program: exported and cached (CPU) | eager | auto (default)"
    how.add_argument("--engine", choices=("auto", "program", "eager"), default="auto", help=text)
    files = parser.add_argument_group("files")
    text = "scores of the songs (default: evaluation/<run>)"
    files.add_argument("-o", "--output", type=named, metavar="FOLDER", help=text)
    files.add_argument("--json", type=named, metavar="FILE", help="write the result to this file, too")
    files.add_argument("--restart", action="store_true", help="score every song again")
    parser.add_argument("--work", metavar="JOB", help=argparse.SUPPRESS)  # how the processes of -npn are called
    return parser.parse(arguments)


def named(text: str) -> str:
    """A word; without this, an unset variable of the shell would silently mean the default."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return text


def seed(text: str) -> int:
    """A whole number that is not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 on")
    return int(text)


def fraction(text: str) -> float:
    """A part, more than nothing and at most all."""
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0 and at most 1")
    return value


def seconds(text: str) -> float:
    """A positive length of time."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from None


def main(arguments: list[str]) -> int:
    """Evaluate; returns the exit status."""
    options = parse(arguments)
    from inference import evaluation, scoring

    if options.work:
        return scoring.work(scoring.Job.read(options.work))
    flags = [f"model_dir={options.model_dir}"] if options.model_dir else []
    return evaluation.evaluate(options, [*flags, *shared.overrides(options)], __file__)


if __name__ == "__main__":
    console.run(main)
