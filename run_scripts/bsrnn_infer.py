"""Separate one source from songs with BandSplitRNN."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from run_scripts.options import Parser
from runtime.errors import UserError
from runtime.nearest import did_you_mean

EPILOG = """\
Writes OUT/<song>_<target>.wav, as long as the song and at its sample rate. The weights are those of -c, else
saved_models/<target>/<target>.pt, else those of the run that was trained last for this target below model/. All else
is that of `python separator.py -n bsrnn_<target>`, which has more options.

examples:
  python run_scripts/run_bsrnn.py -m infer -i song.mp3 -o separated
  python run_scripts/run_bsrnn.py -m infer -i songs -o separated -t bass -c weights/epoch07.ckpt -d cpu
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        prog="run_bsrnn.py -m infer",
        description=__doc__,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("-i", "--in-path", required=True, metavar="FILE|FOLDER", help="a song, or a folder of songs")
    add("-o", "--out-path", required=True, metavar="OUT", help="folder of the results")
    add("-t", "--target", default="vocals", metavar="TARGET", help="source to separate (default: vocals)")
    text = "weights: .pt or .ckpt of the reference, checkpoint or run folder of ours (default: see below)"
    add("-c", "--ckpt-path", metavar="PATH", help=text)
    text = "auto (default) | cpu | gpu (or cuda) | sdaa, or one card: sdaa:1"
    add("-d", "--device", default="auto", metavar="NAME", help=text)
    text = "how chunks are added: normalised (default) | reference: as its program does it, uneven in level"
    add("--window", default="normalised", metavar="NAME", help=text)
    text = "names below OUT (default: {track}_{stem}.{ext}), as of separator.py"
    add("--filename", default="{track}_{stem}.{ext}", metavar="FORMAT", help=text)
    return parser.parse(arguments)


def infer(options: argparse.Namespace) -> int:
    """Separate as the options say; returns the exit status.

    Raises:
        UserError: no such target, weights of another one, no songs, or nothing that can be written
    """
    import separator

    command = [options.in_path, "-o", options.out_path, "--filename", options.filename, "--stems", options.target]
    command += ["-d", options.device, "--window", options.window, *_network(options.target, options.ckpt_path)]
    return separator.main(command)


def _network(target: str, weights: str | None) -> list[str]:
    """The network for a target, in words of ``separator.py``; weights may be of a target that has no name here."""
    from models.bsrnn_config import BSRNN

    known = {facts["target"]: name for name, facts in BSRNN.items()}
    if target in known:
        return ["-n", known[target], *(["--weights", weights] if weights else [])]
    if weights:
        return ["-n", weights]
    raise UserError(f"there is no network for {target!r}: {did_you_mean(target, list(known))}, or give weights with -c")


def main(arguments: Sequence[str]) -> int:
    """``-m infer`` of ``run_bsrnn.py``; returns the exit status."""
    return infer(parse(arguments))
