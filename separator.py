"""Separates songs into stems: python separator.py song.mp3 folder/ -n spleeter_4stems -o stems"""

from __future__ import annotations

import argparse

from inference.naming import DEFAULT_TEMPLATE, FORMATS
from run_scripts.options import Parser, add_loudness, natural, positive
from runtime import console


def parser() -> Parser:
    """The command line."""
    options = Parser(
        prog="separator.py",
        description="Separate songs into stems. Outputs have the input's length, sample rate, channels and level.",
    )
    add = options.add_argument
    add("inputs", nargs="*", metavar="FILE|FOLDER", help="audio files, or folders of them")
    what = (
        "network (spleeter_2stems, htdemucs_ft …), signature, run folder or package; or several of BandSplitRNN, with "
        "commas between (bsrnn_vocals,bsrnn_bass …) (default: the run trained last "
    )
    name = options.add_mutually_exclusive_group()
    text = what + "below model/, else spleeter_2stems with its published weights)"
    name.add_argument("-n", "--name", metavar="NAME", help=text)
    name.add_argument("-s", "--sig", dest="name", metavar="SIG", help="the same, as Demucs spells it for signatures")
    add("--repo", metavar="FOLDER", help="folder of packages and bags of the Demucs family in which NAME is looked for")
    add("--weights", metavar="PATH", help="weights to use instead of the name's own")
    add("--list-models", action="store_true", help="say which models there are (with --repo: in that folder), and end")
    add("-o", "--output", "--out", metavar="FOLDER", help="where the stems go (default: separated/<name>)")
    text = "names below it; fields: track, stem, ext, trackext, foldername, folder (default: {track}/{stem}.{ext})"
    add("--filename", metavar="FORMAT", default=DEFAULT_TEMPLATE, help=text)

    which = options.add_argument_group("which stems")
    which.add_argument("--two-stems", metavar="STEM", help="write STEM and no_STEM, the sum of the others")
    text = (
        "its complement: the sum of the others (add, default), the mixture minus STEM (minus, as minus_STEM), or none"
    )
    which.add_argument("--other-method", choices=("none", "add", "minus"), default="add", help=text)
    which.add_argument("--stems", metavar="A,B", help="write only these")
    which.add_argument("--residual", action="store_true", help="also write the mixture minus all that is written")

    file = options.add_argument_group("files")
    kind = file.add_mutually_exclusive_group()
    kind.add_argument("--format", choices=FORMATS, help="of the stems (default: wav16)")
    kind.add_argument("--flac", action="store_true", help="--format flac, or flac24 with --int24")
    kind.add_argument("--mp3", action="store_true", help="--format mp3")
    depth = file.add_mutually_exclusive_group()
    depth.add_argument("--int24", action="store_true", help="--format wav24")
    depth.add_argument("--float32", action="store_true", help="--format float32")
    rate = file.add_mutually_exclusive_group()
    rate.add_argument("--bitrate", metavar="RATE", help="of lossy formats, such as 320k")
    rate.add_argument("--mp3-bitrate", type=positive, default=320, metavar="KBIT", help="of --mp3 (default: 320)")
    text = "taken for the sake of Demucs' command lines; the encoder here has one quality"
    file.add_argument("--mp3-preset", type=int, choices=range(2, 8), default=2, metavar="2..7", help=text)
    text = "against clipping, each stem by itself as in Demucs (default: one common gain for all stems)"
    file.add_argument("--clip-mode", choices=("rescale", "clamp", "none"), help=text)
    file.add_argument("--offset", type=float, default=0.0, metavar="S", help="begin so many seconds into the song")
    file.add_argument("--duration", type=float, metavar="S", help="separate only so many seconds (default: all)")
    file.add_argument("--skip-existing", action="store_true", help="leave songs alone whose stems are all there")
    file.add_argument("--json", metavar="REPORT", help="write what was done to this file")

    restored = options.add_argument_group("restoration of stems")
    text = "also pass these stems (default: vocals) through Apollo, and write what comes out as the stem A_restored …"
    restored.add_argument("--restore", nargs="?", const="vocals", metavar="A,B", help=text)
    text = "its weights (default: saved_models/apollo/pytorch_model.bin, else the run of run_apollo.py trained last)"
    restored.add_argument("--restore-model", metavar="PATH", help=text)

    pitch = options.add_argument_group("pitch of the vocals")
    text = "also follow it with RMVPE, and write time, f0 and confidence as the stem called pitch (of the restored "
    text += "vocals, where there are any)"
    pitch.add_argument("--pitch", action="store_true", help=text)
    text = "its weights (default: the run of run_rmvpe.py trained last, else the published ones)"
    pitch.add_argument("--pitch-model", metavar="PATH", help=text)
    pitch.add_argument("--pitch-format", choices=("csv", "npy", "json"), help="of that file (default: csv)")
    pitch.add_argument("--plot", action="store_true", help="draw it over the mel spectrogram of the vocals, too (.png)")
    pitch.add_argument("--midi", action="store_true", help="write its notes, too (.mid)")

    how = options.add_argument_group("how")
    parts = how.add_mutually_exclusive_group()
    text = "seconds per network call (default: the network's; Spleeter 11.9, in steps of 64 frames, HTDemucs 7.8)"
    parts.add_argument("--segment", type=float, metavar="S", help=text)
    text = "the whole song in one call of the network, in memory (Demucs but for HTDemucs)"
    parts.add_argument("--no-split", dest="split", action="store_false", help=text)
    text = (
        "share of a segment that overlaps the next, 0 … 0.95 (default: the original's; Spleeter 0, Demucs 0.25, "
        "BandSplitRNN 0.82, Apollo 0.12: what it hears around a sample, which is cut off, and a cross-fade)"
    )
    how.add_argument("--overlap", type=float, metavar="SHARE", help=text)
    text = (
        "how segments are added (BandSplitRNN, Apollo): normalised (default), or as the reference program does: "
        "reference | reference:hann … (BandSplitRNN) | reference:linear (Apollo)"
    )
    how.add_argument("--window", "--overlap-window", metavar="NAME", help=text)
    text = "segments per network call (default: 1 on a CPU and for Demucs, elsewhere 4, BandSplitRNN and Apollo 8)"
    how.add_argument("--batch", type=positive, metavar="N", help=text)
    text = (
        "average N passes over randomly delayed copies (default: the original's; Spleeter and "
        "BandSplitRNN 0, one pass without delay; "
    )
    how.add_argument("--shifts", type=int, metavar="N", help=text + "Demucs 1)")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of the delays (default: 0)")
    how.add_argument("--mwf", action="store_true", default=None, help="multichannel Wiener filter instead of masks")
    text = "above the network's bins: nothing, or the mean mask (default: the network's configuration)"
    how.add_argument("--mask-extension", choices=("zeros", "average"), help=text)

    machine = options.add_argument_group("machine")
    text = "auto (default) | cpu | gpu | sdaa, or one card: sdaa:1"
    machine.add_argument("-d", "--device", type=device, default="auto", metavar="NAME", help=text)
    text = "program: exported and cached (CPU) | eager | auto (default)"
    machine.add_argument("--engine", choices=("auto", "program", "eager"), default="auto", help=text)
    text = "float32 (default) | bf16: faster on CPUs that have it; stems deviate by -35 to -50 dB"
    machine.add_argument("--precision", choices=("float32", "bf16"), default="float32", help=text)
    text = "calls of the network at the same time (Demucs; default: one)"
    machine.add_argument("-j", "--jobs", type=natural, default=0, metavar="N", help=text)
    machine.add_argument("--offline", action="store_true", help="never download weights")
    add_loudness(machine)
    return options


def device(text: str) -> str:
    """The name of a device; Demucs' ``cuda`` is ``gpu`` here."""
    return f"gpu{text[4:]}" if text.split(":")[0] == "cuda" else text


def main(arguments: list[str]) -> int:
    """Separate; returns the exit status."""
    options: argparse.Namespace = parser().parse(arguments)
    from inference.batch import separate_all

    return separate_all(options)


if __name__ == "__main__":
    console.run(main)
