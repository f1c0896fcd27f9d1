"""Make pairs of originals and lossy copies out of music, to train restoration with or to judge it by."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from run_scripts.options import Parser, add_loudness, natural, positive
from runtime import console
from runtime.errors import UserError

BITRATES = ("64k", "96k", "128k", "192k", "256k", "320k")
SHOWN = 10  # files that could not be used before the list is cut

EPILOG = """\
Every audio file below INPUT makes one pair, called as the file, with its folders before it (a/b.wav makes a_b).
Type 1 is OUTPUT/NAME/{original,codec}.*, type 2 OUTPUT/{original,codec}/NAME.*; pairs for validation are of type 1.
original is .wav; codec is .mp3 or .ogg as it was coded, and .wav, decoded, for aac and opus: say so in the training
configuration (original_format, codec_format). Both are equally long, of the same rate and channels, and without lag,
which is measured. Files of other rates and mono files are converted on the way; INPUT is only read.
A quality takes the place of the bit rate (LAME's variable bit rate; 0 is best, 9 worst), for mp3 only. The low-pass
filter is at -3 dB at the frequency that is drawn and falls by 12 dB an octave. What a file is coded with depends on
--seed and its name only. The same command again goes on where it stopped.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``-m generate``, in the spellings of the original and with dashes."""
    add = parser.add_argument
    text = "folder of the music; it is only read (default: input)"
    add("-i", *_spelt("input_folder"), type=Path, default=Path("input"), metavar="INPUT", help=text)
    text = "data set to write (default: output)"
    add("-o", *_spelt("output_folder"), type=Path, default=Path("output"), metavar="OUTPUT", help=text)
    add("-t", *_spelt("dataset_type"), type=int, choices=(1, 2), default=1, help="type of the data set (default: 1)")
    purpose = parser.add_mutually_exclusive_group(required=True)
    purpose.add_argument("-gt", *_spelt("generate_train"), action="store_true", help="pairs to train with")
    purpose.add_argument("-gv", *_spelt("generate_valid"), action="store_true", help="pairs for validation")
    text = "files coded at once (default: one a CPU)"
    add("-th", "--threads", type=positive, default=os.cpu_count() or 1, metavar="N", help=text)
    text = "write down how each file was coded: OUTPUT/train_datasets.txt or valid_datasets.txt"
    add(*_spelt("save_logs"), action="store_true", help=text)
    text = "mp3 (default), aac, ogg (Vorbis) or opus"
    add("--codec", choices=("mp3", "aac", "ogg", "opus"), default="mp3", help=text)
    text = f"bit rates of which one is drawn for each file (default: {' '.join(BITRATES)})"
    add("--bitrates", "--bitrate", nargs="+", default=BITRATES, metavar="RATE", help=text)
    add(*_spelt("enable_quality"), action="store_true", help="code at a quality in place of a bit rate (mp3)")
    text = "share of the files that this happens to (default: 1)"
    add(*_spelt("quality_possibility"), type=_share, default=1.0, metavar="P", help=text)
    add(*_spelt("quality_min"), type=natural, default=0, metavar="Q", help="best quality that is drawn (default: 0)")
    add(*_spelt("quality_max"), type=natural, default=9, metavar="Q", help="worst quality that is drawn (default: 9)")
    add(*_spelt("enable_lowpass"), action="store_true", help="filter before coding")
    add(*_spelt("lowpass_possibility"), type=_share, default=1.0, metavar="P", help=text)
    text = "lowest corner that is drawn, Hz (default: 12000)"
    add(*_spelt("lowpass_min_freq"), type=positive, default=12000, metavar="HZ", help=text)
    text = "highest corner that is drawn, Hz (default: 16000)"
    add(*_spelt("lowpass_max_freq"), type=positive, default=16000, metavar="HZ", help=text)
    text = "sample rate of the pairs (default: 44100)"
    add(*_spelt("sample_rate"), type=positive, default=44100, metavar="HZ", help=text)
    add("--channels", type=int, choices=(1, 2), default=2, help="of the pairs (default: 2)")
    add("--decoded", action="store_true", help="store codec.wav, the decoded sound, for mp3 and ogg, too")
    add("--seed", type=natural, default=0, metavar="N", help="another seed draws other codings (default: 0)")
    add_loudness(parser, "name every file that cannot be used")


def _spelt(name: str) -> tuple[str, str]:
    return f"--{name}", f"--{name.replace('_', '-')}"


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def main(arguments: Sequence[str]) -> int:
    """``-m generate`` of ``run_apollo.py``; the exit status."""
    parser = Parser(
        prog="run_apollo.py -m generate",
        description=__doc__,
        epilog=EPILOG,
    )
    add_arguments(parser)
    options = parser.parse(arguments)
    started = time.monotonic()
    from data.codec_generate import generate

    settings = _settings(options)
    console.log(f"{settings.codec} of {options.input_folder} to {options.output_folder}, for {settings.split}")
    report = generate(options.input_folder, options.output_folder, settings, options.threads)
    _show(report, options)
    if options.save_logs:
        _save_log(report, options)
    console.log(f"took {time.monotonic() - started:.1f} s")
    if not report.rows:
        raise UserError(f"no file of {options.input_folder} could be coded")
    return 1 if any(lost.kind == "failed" for lost in report.lost) else 0


def _settings(options: argparse.Namespace):
    from data.codec_generate import Settings
    from dsp.audio import parse_bitrate
    from dsp.codec import CODECS, allowed_bitrate

    rates = CODECS[options.codec].rates
    if options.sample_rate not in (rates or (options.sample_rate,)) and options.codec != "opus":
        known = ", ".join(map(str, rates))
        raise UserError(f"{options.codec} has no sample rate of {options.sample_rate} Hz; choose one of {known}")
    if options.enable_quality and options.codec != "mp3":
        raise UserError(f"--enable_quality: only mp3 has LAME's qualities, not {options.codec}; leave it out")
    if options.quality_min > options.quality_max or options.quality_max > 9:
        raise UserError("--quality_min and --quality_max must be 0 (best) to 9, the first one not above the other")
    half = options.sample_rate // 2
    if options.enable_lowpass and not options.lowpass_min_freq <= options.lowpass_max_freq < half:
        raise UserError(f"--lowpass_min_freq must not exceed --lowpass_max_freq, nor that one {half - 1} Hz")
    wanted = [parse_bitrate(text) for text in options.bitrates]
    bitrates = [allowed_bitrate(options.codec, rate, options.sample_rate, options.channels) for rate in wanted]
    for text, rate, allowed in zip(options.bitrates, wanted, bitrates, strict=True):
        if rate != allowed:
            console.warn(
                f"{options.codec} has no {text} at {options.sample_rate} Hz and {options.channels} channels: "
                f"{allowed / 1000:g}k takes its place"
            )
    return Settings(
        codec=options.codec,
        bitrates=tuple(bitrates),
        quality=(options.quality_min, options.quality_max) if options.enable_quality else None,
        quality_chance=options.quality_possibility,
        lowpass=(options.lowpass_min_freq, options.lowpass_max_freq) if options.enable_lowpass else None,
        lowpass_chance=options.lowpass_possibility,
        kind=1 if options.generate_valid else options.dataset_type,
        split="valid" if options.generate_valid else "train",
        sample_rate=options.sample_rate,
        channels=options.channels,
        decoded=options.decoded,
        seed=options.seed,
    )


def _show(report, options: argparse.Namespace) -> None:
    if report.lost:
        shown = report.lost if options.verbosity > 0 else report.lost[:SHOWN]
        console.log(f"{len(report.lost)} files could not be used")
        for lost in shown:
            console.log(f"  {lost.message} ({lost.kind})")
        if len(shown) < len(report.lost):
            console.log(f"  … and {len(report.lost) - len(shown)} more (-v shows all)")
    minutes = sum(row.samples for row in report.rows) / report.settings.sample_rate / 60
    console.log(
        f"{report.written} pairs written, {report.kept} were there, {minutes:.1f} minutes: {options.output_folder}; "
        f"original_format: wav, codec_format: {report.settings.suffix[1:]}"
    )


def _save_log(report, options: argparse.Namespace) -> None:
    """What the original's logs say: the settings, then how every file was coded."""
    from data.codec_generate import Coding
    from runtime.files import atomic_write

    settings = report.settings
    lines = [
        f"pairs for {settings.split}, type {settings.kind}, {settings.codec}, seed {settings.seed}",
        f"{settings.sample_rate} Hz, {settings.channels} channels",
        f"bit rates: {', '.join(f'{rate / 1000:g}k' for rate in settings.bitrates)}",
        f"quality: {_range(settings.quality, settings.quality_chance)}",
        f"low-pass: {_range(settings.lowpass, settings.lowpass_chance)}",
        f"input folder: {options.input_folder}, output folder: {options.output_folder}",
        f"pairs: {len(report.rows)}, files that could not be used: {len(report.lost)}",
        "",
    ]
    for row in sorted(report.rows, key=lambda row: row.name):
        lines.append(f"{row.source}\n  {row.files[0]}, {row.files[1]}: {row.samples} samples, lag 0")
        lines.append(f"  {settings.codec} {Coding(**row.coding)}; likeness {row.likeness:g}")
    lines += [f"{lost.message}\n  not used: {lost.kind}" for lost in report.lost]
    with atomic_write(options.output_folder / f"{settings.split}_datasets.txt", "w") as handle:
        handle.write("\n".join(lines).encode("utf-8", "backslashreplace").decode("utf-8") + "\n")


def _range(values: tuple[int, int] | None, chance: float) -> str:
    return "off" if values is None else f"{values[0]} to {values[1]} for {100 * chance:g} % of the files"
