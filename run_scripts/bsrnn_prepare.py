"""Find where sources sound in the songs of a data set: the lists that BandSplitRNN is trained with."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from run_scripts.options import Parser, add_loudness, positive
from runtime import console
from runtime.errors import UserError

SPLITS = ("train", "valid", "test")

EPILOG = """\
DIR is MUSDB18-HQ (train/<song>/*.wav), another folder of that kind with train, valid and test, or a data set with an
index; nothing is written there. For a folder without an index OUT gets one, index.jsonl, which training takes with
data.index=OUT/index.jsonl. MUSDB's 14 validation songs are those of valid. A list OUT/{target}_{train|valid|test}.txt
has lines TRACK<tab>START<tab>END in samples at 44.1 kHz. A second run listens only to songs that have changed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``-m prepare``, in the spellings of the original's manual and of its code."""
    default = os.environ.get("MUSDB_DIR") or "dataset"
    add = parser.add_argument
    text = "data set (default: MUSDB_DIR if that is set, else dataset)"
    add("-i", "--input-dir", "--input_dir", type=Path, default=Path(default), metavar="DIR", help=text)
    text = "folder of the lists (default: files, where training looks for them)"
    add("-o", "--output-dir", "--output_dir", type=Path, default=Path("files"), metavar="OUT", help=text)
    add("--subset", choices=("train", "test"), help="lists of these songs only (default: of all)")
    text = "of the subset train, only these; valid are the songs held back for validation (default: both)"
    add("--split", choices=("train", "valid"), help=text)
    text = "settings of the detector, a YAML file; what it leaves out keeps its default"
    add("--sad-cfg-path", "--sad-cfg", "--sad_cfg", type=Path, metavar="FILE", help=text)
    text = "sources to listen for (default: vocals)"
    add("-t", "--targets", "--target", nargs="+", default=["vocals"], metavar="TARGET", help=text)
    add("-j", "--jobs", type=positive, metavar="N", help="processes (default: one a CPU)")
    add_loudness(parser)


def prepare(options: argparse.Namespace) -> int:
    """Write the lists; the exit status."""
    started = time.monotonic()
    from data.activity import Activity
    from data.activity_index import open_index
    from data.activity_lists import write_lists
    from data.wave_songs import spelled

    activity = Activity() if options.sad_cfg_path is None else Activity.from_file(options.sad_cfg_path)
    console.log(f"data set {options.input_dir}, lists in {options.output_dir}")
    console.log(
        f"a source sounds in a window of {activity.window_size_in_sec:g} s if more than {activity.threshold_segment:g} "
        f"of its {activity.n_chunks_per_segment} chunks are louder than their {activity.threshold_max_quantile:g} "
        f"quantile and than {activity.gamma:g}"
    )
    targets = list(dict.fromkeys(map(spelled, options.targets)))
    index = open_index(options.input_dir, options.output_dir, targets)
    splits = _splits(options, [split for split in SPLITS if index.split(split)])
    if not splits:
        raise UserError(f"{index.path}: no songs of {options.split or options.subset or 'any split'}")
    for target in targets:
        report = write_lists(index, options.output_dir, target, splits, activity, options.jobs)
        _show(report)
    console.log(f"{len(targets) * len(splits)} lists written in {time.monotonic() - started:.1f} s")
    return 0


def _splits(options: argparse.Namespace, there: Sequence[str]) -> list[str]:
    """The splits of the data set that are asked for. The original has the lists of ``valid`` in the subset train."""
    if options.subset == "test":
        return [split for split in there if split == "test"]
    if options.split:
        return [split for split in there if split == options.split]
    return [split for split in there if split != "test" or options.subset is None]


def _show(report) -> None:
    for written in report.lists:
        console.log(f"{written.path}: {written.lines} stretches of {written.songs} songs")
        if not written.lines:
            console.warn(f"{written.path} is empty: the {report.target} sound nowhere")
    console.log(f"{report.target}: {report.heard} songs read, {report.known} unchanged")
    for names, why in ((report.lacking, f"have no {report.target}"), (report.too_short, "are shorter than a window")):
        if names:
            console.warn(f"{len(names)} songs {why} and are left out: {', '.join(names)}")


def main(arguments: Sequence[str]) -> int:
    """``-m prepare`` of ``run_bsrnn.py``; the exit status."""
    parser = Parser(
        prog="run_bsrnn.py -m prepare",
        description=__doc__,
        epilog=EPILOG,
    )
    add_arguments(parser)
    return prepare(parser.parse(arguments))
