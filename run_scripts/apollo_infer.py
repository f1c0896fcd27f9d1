"""Restore songs that a codec has compressed with Apollo."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from run_scripts.options import Parser, add_loudness, positive

EPILOG = """\
Writes OUT/<song>_restored.wav, as long as the song and at its sample rate, and with --save_addition also
OUT/<song>_addition.wav, the song minus the restored one. All else is that of `python separator.py -n apollo`, which has
more options, and writes the addition with --residual.

MODEL is a file of the originals (pytorch_model.bin, best_model.pth, epoch=….ckpt, model_apollo….ckpt), a run folder or
checkpoint of run_apollo.py -m train, or a name (apollo). Without it the weights are saved_models/apollo/
pytorch_model.bin, else those of the run that was trained last. CONFIG is only needed for files of networks that are
neither 20 ms at a usual rate nor say what they are.

A song is cut into chunks, whose ends are cut off as far as they would be other in the whole song, and cross-faded.
--window reference cuts it as the original does, with 4 chunks over each sample, in memory.

examples:
  python run_scripts/run_apollo.py -m infer -m pytorch_model.bin -i song.mp3 -o restored
  python run_scripts/run_apollo.py -m infer -i songs -o restored --save_addition --segments 5 --batch_size 2
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        prog="run_apollo.py -m infer",
        description=__doc__,
        epilog=EPILOG,
    )
    add = parser.add_argument
    text = "a song, or a folder of songs"
    add("-i", "--input", dest="inputs", required=True, nargs="+", metavar="INPUT", help=text)
    add("-o", "--output", metavar="OUT", help="folder of the results (default: separated/<network>)")
    add_network(parser)
    add("--save_addition", action="store_true", help="also write what was taken away: the song minus the restored one")
    text = "names below OUT (default: {track}_{stem}.{ext}), as of separator.py"
    add("--filename", default="{track}_{stem}.{ext}", metavar="FORMAT", help=text)
    add("--format", metavar="NAME", help="of the files, as of separator.py (default: wav16)")
    add_loudness(parser)
    return parser.parse(arguments)


def add_network(parser: argparse.ArgumentParser) -> None:
    """Options that say which network restores, and how; shared with the validation."""
    add = parser.add_argument
    add("-m", "--model", metavar="MODEL", help="weights (default: see below)")
    add("-c", "--config", metavar="CONFIG", help="YAML file with the network's options (sr, win …) below model")
    add("--segments", dest="segment", type=float, metavar="S", help="seconds of a chunk (default: the network's, 10)")
    text = "chunks over each sample (default: as few as the network needs; with --window reference 4)"
    add("--overlap", type=positive, metavar="N", help=text)
    add("--batch_size", dest="batch", type=positive, metavar="N", help="chunks a call of the network (default: 1)")
    text = "how chunks are added: normalised (default) | reference: as the training fork | reference:linear: as the "
    add("--window", default="normalised", metavar="NAME", help=text + "official program does it")
    text = "auto (default) | cpu | gpu (or cuda) | sdaa, or one card: sdaa:1"
    add("-d", "--device", default="auto", metavar="NAME", help=text)


def infer(options: argparse.Namespace) -> int:
    """Restore as the options say; returns the exit status, 1 if a song could not be done.

    Raises:
        UserError: no songs, no weights, names that cannot be, or nothing that can be written
    """
    import separator
    from inference import restoration
    from inference.batch import separate_all

    command = [*options.inputs, "--filename", options.filename, "--window", options.window, "-d", options.device]
    wishes = {"-o": options.output, "--segment": options.segment, "--batch": options.batch, "--format": options.format}
    wishes["--overlap"] = restoration.share(options.overlap)
    command += [str(word) for flag, value in wishes.items() if value is not None for word in (flag, value)]
    command += ["--residual"] if options.save_addition else []
    words = separator.parser().parse([*command, *{1: ["-v"], -1: ["-q"]}.get(options.verbosity, [])])
    words.name = restoration.plan(options.model, options.config)
    return separate_all(words)


def main(arguments: Sequence[str]) -> int:
    """``-m infer`` of ``run_apollo.py``; returns the exit status."""
    return infer(parse(arguments))
