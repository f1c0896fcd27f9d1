"""Separates songs into stems: python separator.py song.mp3 folder/ -n spleeter_4stems -o stems"""

from __future__ import annotations

import argparse

from inference.naming import DEFAULT_TEMPLATE, FORMATS
from run_scripts.options import Parser
from runtime import console


def parser() -> Parser:
    """The command line."""
    options = Parser(
        prog="separator.py",
        description="Separate songs into stems. Outputs have the input's length, sample rate, channels and level.",
    )
    add = options.add_argument
    add("inputs", nargs="+", metavar="FILE|FOLDER", help="audio files, or folders of them")
    what = "network (spleeter_2stems, spleeter:4stems-16kHz …) or a run folder (default: the run trained last below "
    add("-n", "--name", metavar="NAME", help=what + "model/, else spleeter_2stems with its published weights)")
    add("--weights", metavar="PATH", help="weights to use instead of the name's own")
    add("-o", "--output", metavar="FOLDER", help="where the stems go (default: separated/<name>)")
    text = "names below it; fields: track, stem, ext, trackext, foldername, folder (default: {track}/{stem}.{ext})"
    add("--filename", metavar="FORMAT", default=DEFAULT_TEMPLATE, help=text)

    which = options.add_argument_group("which stems")
    which.add_argument("--two-stems", metavar="STEM", help="write STEM and no_STEM, the sum of the others")
    which.add_argument("--stems", metavar="A,B", help="write only these")
    which.add_argument("--residual", action="store_true", help="also write the mixture minus all that is written")

    file = options.add_argument_group("files")
    file.add_argument("--format", choices=FORMATS, default="wav16", help="of the stems (default: wav16)")
    file.add_argument("--bitrate", metavar="RATE", help="of lossy formats, such as 320k")
    file.add_argument("--offset", type=float, default=0.0, metavar="S", help="begin so many seconds into the song")
    file.add_argument("--duration", type=float, metavar="S", help="separate only so many seconds (default: all)")
    file.add_argument("--skip-existing", action="store_true", help="leave songs alone whose stems are all there")
    file.add_argument("--json", metavar="REPORT", help="write what was done to this file")

    how = options.add_argument_group("how")
    text = "seconds per network call, rounded to 64 frames (default: the network's, 11.9 for Spleeter)"
    how.add_argument("--segment", type=float, metavar="S", help=text)
    text = "share of a segment that overlaps the next, 0 … 0.95 (default: 0, as the original)"
    how.add_argument("--overlap", type=float, metavar="SHARE", help=text)
    text = "average N passes over randomly delayed copies (default: 0, one pass without delay)"
    how.add_argument("--shifts", type=int, default=0, metavar="N", help=text)
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of the delays (default: 0)")
    how.add_argument("--mwf", action="store_true", default=None, help="multichannel Wiener filter instead of masks")
    text = "above the network's bins: nothing, or the mean mask (default: the network's configuration)"
    how.add_argument("--mask-extension", choices=("zeros", "average"), help=text)

    machine = options.add_argument_group("machine")
    text = "auto (default) | cpu | gpu | sdaa, or one card: sdaa:1"
    machine.add_argument("--device", default="auto", metavar="NAME", help=text)
    text = "program: exported and cached (CPU) | eager | auto (default)"
    machine.add_argument("--engine", choices=("auto", "program", "eager"), default="auto", help=text)
    text = "float32 (default) | bf16: faster on CPUs that have it; stems deviate by -35 to -50 dB"
    machine.add_argument("--precision", choices=("float32", "bf16"), default="float32", help=text)
    machine.add_argument("--offline", action="store_true", help="never download weights")
    loud = machine.add_mutually_exclusive_group()
    text = "say more"
    loud.add_argument("-v", "--verbose", dest="verbosity", action="store_const", const=1, default=0, help=text)
    text = "only say what is wrong"
    loud.add_argument("-q", "--quiet", dest="verbosity", action="store_const", const=-1, help=text)
    return options


def main(arguments: list[str]) -> int:
    """Separate; returns the exit status."""
    options: argparse.Namespace = parser().parse(arguments)
    from inference.batch import separate_all

    return separate_all(options)


if __name__ == "__main__":
    console.run(main)
