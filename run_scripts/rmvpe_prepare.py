"""Prepare sung audio with pitch labels for RMVPE: MIR-1K by download, or what lies in a folder or an archive."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from run_scripts.options import Parser, add_loudness, natural, positive
from runtime import console
from runtime.errors import UserError

WORK = ".prepare"  # inside the data set: the archive while it is needed
SHOWN = 10  # files that could not be used before the list is cut

EPILOG = """\
Understood are MIR-1K, vocadito, MDB-stem-synth, and any folder of audio with labels of the same name beside it or in
another folder: .pv (a MIDI number a line), .csv or .tsv (time and f0, or notes with onset, offset and note). OUT gets
train and test with NAME.wav (16 kHz) and NAME.pv, whose line i, from 1, is the pitch at i times --hop_length samples.
Of stereo files with .pv the first channel is the accompaniment and the second the voice. When the first label of .pv
files is, is measured with the voices themselves. OUT/prepare.json says what was found. DIR is only read.
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="run_rmvpe.py -m prepare",
        description=__doc__,
        epilog=EPILOG,
    )
    add = parser.add_argument
    text = "folder or archive (zip, tar, rar) with the data set; it is not changed (default: MIR-1K is downloaded)"
    add("-i", "--input", "--input_dir", type=Path, metavar="DIR|FILE", help=text)
    add("--download", action="store_true", help="download MIR-1K (1 GB); the default without -i")
    add("--url", nargs="+", metavar="URL", help="download from these mirrors instead, tried in this order")
    add("--sha256", type=_sha256, help="checksum that the archive of --url must have")
    add("--keep", action="store_true", help="keep the downloaded archive")
    text = "data set to write (default: dataset/Hybrid); what other folders were prepared to it stays"
    add("-o", "--output", "--output_dir", type=Path, default=Path("dataset/Hybrid"), metavar="OUT", help=text)
    text = "samples at 16 kHz from label to label of what is written (default: 160)"
    add("--hop_length", "--hop-length", type=positive, default=160, metavar="N", help=text)
    text = "seconds from line to line of .pv files (default: what explains their number)"
    add("--label_hop", "--label-hop", type=_seconds, metavar="S", help=text)
    add("--label_time", "--label-time", type=float, metavar="S", help="time of their first line (default: measured)")
    text = "stereo files: split into accompaniment and voice, mix, or auto: split those with .pv (default)"
    add("--stereo", choices=("auto", "split", "mix"), default="auto", help=text)
    text = "regular expression whose first group is the singer, searched in the path below DIR, e.g. '^([^/]+)/'"
    add("--singer", metavar="REGEX", help=text)
    singers = parser.add_mutually_exclusive_group()
    text = "who sings in test (default: drawn)"
    singers.add_argument("--test_singers", "--test-singers", nargs="+", default=(), metavar="NAME", help=text)
    text = "about this part of the time goes to test, singer by singer, unless folders say what is for test (0.1)"
    singers.add_argument("--test_fraction", "--test-fraction", type=_fraction, default=0.1, metavar="F", help=text)
    add("--seed", type=natural, default=0, help="another seed draws other singers (0)")
    add("-j", "--jobs", type=positive, default=os.cpu_count() or 1, help="processes (one a CPU)")
    add_loudness(parser, "name every file that cannot be used")
    options = parser.parse(arguments)
    if options.input and (options.download or options.url):
        parser.error("-i and a download exclude each other")
    if options.sha256 and not options.url:
        parser.error("--sha256 belongs to --url")
    return options


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a time in seconds between 0 and 1")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"{text} is not a checksum of 64 hexadecimal digits")
    return text.lower()


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    started = time.monotonic()
    from runtime.files import alone, require_writable

    source = options.input
    if source and not source.exists():
        raise UserError(f"-i {source}: there is no such file or folder")
    require_writable(options.output)
    work = options.output / WORK
    with alone(work, f"{options.output}: another process is preparing songs here; wait for it to end"):
        status = _run(options, work)
    console.log(f"took {time.monotonic() - started:.1f} s")
    return status


def _run(options: argparse.Namespace, work: Path) -> int:
    from data.pitch_prepare import Settings, is_done, prepare

    settings = Settings(
        options.hop_length,
        options.label_hop,
        options.label_time,
        options.stereo,
        options.singer,
        options.test_fraction,
        tuple(options.test_singers),
        options.seed,
    )
    name = str(options.input.resolve()) if options.input else " ".join(options.url or ["MIR-1K"])
    if options.input is None and is_done(options.output, settings, name):
        console.log(f"all songs of {name} are in {options.output} already; nothing to do")
        return 0
    folder = _folder(options, work, name)
    report = prepare(folder, options.output, settings, options.jobs, name)
    _show(report, options)
    if name == "MIR-1K":
        _check_mir1k(report)
    if folder.is_relative_to(work):
        shutil.rmtree(folder)
        if not options.keep and options.input is None:
            shutil.rmtree(folder.parent)
    return 1 if any(lost.kind == "failed" for lost in report.lost) else 0


def _folder(options: argparse.Namespace, work: Path, name: str) -> Path:
    """Folder with the data set, unpacked if need be."""
    from data.pitch_mir1k import fetch, unpacked
    from runtime.files import remove_leftovers

    if options.input and options.input.is_dir():
        console.log(f"songs of {options.input} to {options.output}")
        return options.input
    place = work / hashlib.sha256(name.encode()).hexdigest()[:12]
    place.mkdir(exist_ok=True)
    remove_leftovers(place)
    if (place / "songs").exists():
        console.log(f"going on with what {place / 'songs'} holds")
        return place / "songs"
    archive = options.input or _fetched(fetch, place, options)
    console.log(f"unpacking {archive.name}")
    return unpacked(archive, place / "songs")


def _fetched(fetch, place: Path, options: argparse.Namespace) -> Path:
    from runtime.files import DownloadError

    try:
        return fetch(place, options.url, options.sha256)
    except DownloadError as error:
        raise UserError(f"{error}, or give a folder or an archive from elsewhere with -i") from error


def _show(report, options: argparse.Namespace) -> None:
    if report.label_hop:
        console.log(f"labels of .pv files every {1000 * report.label_hop:g} ms")
    for line in _times_of_labels(report):
        console.log(line)
    rows = [
        (split, row["songs"], row["minutes"], len(row["singers"]) or None) for split, row in report.splits().items()
    ]
    console.log("\n" + console.table(rows, ("split", "songs", "minutes", "singers")))
    if singers := report.splits()["test"]["singers"]:
        console.log(f"for test sing {', '.join(singers)}")
    unknown = sum(not clip.source.singer for clip in report.clips)
    if unknown:
        console.log(f"of {unknown} songs nobody knows the singer: they are divided song by song (see --singer)")
    if report.outside:
        console.log(f"{report.outside} labels are outside of 31.7 to 2005.5 Hz, which the network cannot say")
    if report.lost:
        shown = report.lost if options.verbosity > 0 else report.lost[:SHOWN]
        console.log(f"\n{len(report.lost)} files could not be used")
        console.log(console.table(list(report.reasons.items()), ("why", "files")))
        for lost in shown:
            console.log(f"  {lost.message}")
        if len(shown) < len(report.lost):
            console.log(f"  … and {len(report.lost) - len(shown)} more (-v shows all)")
    removed = f", {report.removed} removed that are there no longer" if report.removed else ""
    console.log(f"{report.written} songs written, {report.kept} were there{removed}: {options.output}")


def _times_of_labels(report) -> list[str]:
    """What is known of when the labels are."""
    offset = report.offset
    if offset is None:
        return (
            [f"the first label is at {1000 * report.settings.label_time:g} ms, as was said"] if report.label_hop else []
        )
    found = (
        f"{1000 * offset.measured:.1f} ± {1000 * offset.error:.1f} ms "
        f"({offset.labels} labels; half a hop away they agree {offset.gain:.2f} times worse)"
    )
    if report.label_hop and offset.weak:
        return [
            f"the evidence for the time of the first label is weak: {offset.weak}. "
            f"It is taken to be at one hop, {1000 * report.label_hop:g} ms; --label_time says it better"
        ]
    if report.label_hop:
        return [f"the first label is at {1000 * offset.first:g} ms; measured from the voices: {found}"]
    if offset.weak:
        return []
    if abs(offset.measured) > 0.01:
        return [f"measured from the voices, labels are early by {found}; their own times are kept"]
    return [f"times of labels agree with the voices: early by {found}"]


def _check_mir1k(report) -> None:
    """The publisher gives no checksum, but how much there is is known."""
    from data.pitch_mir1k import CLIPS, SINGERS

    singers = {clip.source.singer for clip in report.clips}
    if len(report.clips) != CLIPS or len(singers) != SINGERS:
        console.warn(
            f"MIR-1K has {CLIPS} clips by {SINGERS} singers, but {len(report.clips)} by {len(singers)} are here"
        )
