"""Follow the pitch of the voice in songs with RMVPE."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from run_scripts.options import Parser, add_loudness, positive
from runtime.errors import UserError

EPILOG = """\
Songs may be mixtures: the network listens for the voice. `separator.py SONG -n NETWORK --pitch` separates the vocals
first, and follows the pitch of those.

OUT is the file to write (.csv, .npy or .json) where INPUT is one song, else the folder of the files. Columns are time
in s, f0 in Hz (0 where nothing is sung) and confidence, the highest salience of the frame; csv has no heading. Times
are right at every hop: frame n is centred on n·hop / 16000 s.

MODEL is a file of the originals (model.pt, rmvpe.pt), a run folder or checkpoint of run_rmvpe.py -m train, or rmvpe,
the published weights, which are downloaded when needed. Without it the run that was trained last is taken, and the
published weights where nothing was trained.

examples:
  python run_scripts/run_rmvpe.py -m infer -i song.mp3 -o song.csv
  python run_scripts/run_rmvpe.py -m infer --model rmvpe.pt -i songs -o pitch --format json --plot --midi
  python run_scripts/run_rmvpe.py -m infer -i song.wav -o song.npy -hop 320 -th 0.05 -d cpu --viterbi
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        prog="run_rmvpe.py -m infer",
        description=__doc__,
        epilog=EPILOG,
    )
    add = parser.add_argument
    text = "a song, or a folder of songs"
    add("-i", "--input", dest="inputs", required=True, nargs="+", metavar="INPUT", help=text)
    add("-o", "--output", required=True, metavar="OUT", help="file or folder of the results")
    add_network(parser)
    add("--format", choices=("csv", "npy", "json"), help="of the files in a folder OUT (default: csv)")
    text = "names below OUT (default: {track}.{ext}), with the fields of separator.py"
    add("--filename", default="{track}.{ext}", metavar="FORMAT", help=text)
    text = "also draw f0 over the mel spectrogram (.png, .pdf, .svg; default: beside the result, .png)"
    add("--plot", nargs="?", const=True, metavar="FILE", help=text)
    text = "also write the notes as MIDI (default: beside the result, .mid)"
    add("--midi", nargs="?", const=True, metavar="FILE", help=text)
    add_loudness(parser)
    return parser.parse(arguments)


def add_network(parser: argparse.ArgumentParser) -> None:
    """Options that say which network follows the pitch, and how; shared with the evaluation."""
    add = parser.add_argument
    add("-m", "-c", "--model", metavar="MODEL", help="weights (default: see below)")
    text = "auto (default) | cpu | gpu (or cuda) | sdaa, or one card: sdaa:1"
    add("-d", "--device", default="auto", metavar="NAME", help=text)
    text = "samples at 16 kHz from frame to frame (default: the network's, 160)"
    add("-hop", "--hop_length", dest="hop", type=positive, metavar="N", help=text)
    text = "salience below which nothing is sung (default: 0.03)"
    add("-th", "--threshold", "--threhold", dest="threshold", type=float, default=0.03, metavar="X", help=text)
    text = "follow the likeliest path instead of the highest salience of each frame"
    add("--viterbi", action="store_true", help=text)
    add("--offline", action="store_true", help="never download weights")


def infer(options: argparse.Namespace) -> int:
    """Follow the pitch as the options say; returns the exit status, 1 if a song could not be done.

    Raises:
        UserError: no songs, names that cannot be, no weights, or a device that is not there
    """
    import separator
    from dsp import audio
    from inference import pitch_songs

    problems: list[UserError] = []
    songs = audio.audio_files(options.inputs, problems, leave_out=options.output)
    if not songs:
        raise problems[0] if problems else UserError(f"there are no songs in {', '.join(options.inputs)}")
    jobs = pitch_songs.jobs(
        songs,
        Path(options.output),
        alone=len(options.inputs) == 1 and not Path(options.inputs[0]).is_dir(),
        format=options.format,
        template=options.filename,
        plot=options.plot,
        midi=options.midi,
    )
    device = separator.device(options.device)
    how = options.threshold, options.viterbi, options.hop
    tracker = pitch_songs.tracker(options.model, device, *how, options.offline)
    return pitch_songs.follow(tracker, jobs, problems)


def main(arguments: Sequence[str]) -> int:
    """``-m infer`` of ``run_rmvpe.py``; returns the exit status."""
    return infer(parse(arguments))
