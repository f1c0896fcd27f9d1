"""Look through a data set: check every song and write the index that training and evaluation read."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from run_scripts.options import Parser, add_loudness, positive
from runtime import console
from runtime.errors import UserError

SHOWN = 30  # rows of a table of findings before it is cut

EPILOG = """\
Songs lie in <dataset>/<split>/<song>/ or <dataset>/<song>/ as mixture, vocal, instrumental (or drums, bass, other),
in wav, flac, mp3, ogg or m4a. The index goes to <dataset>/index.jsonl, all measurements to index.audit.jsonl beside it;
nothing else is written. A second run decodes only the songs that have changed.
"""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(prog="preprocess.py", description=__doc__, epilog=EPILOG)
    parser.add_argument("--dataset", type=Path, default=Path("dataset"), help="data set folder (dataset)")
    parser.add_argument("--index", type=Path, help="index file, where the data set itself cannot be written to")
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="songs with errors: stop without an index (the default), or skip them and say which",
    )
    parser.add_argument(
        "--valid-fraction",
        type=fraction,
        metavar="F",
        help="part of the training songs drawn for validation; without it MUSDB's 14 validation songs where they are "
        "there, else a tenth; 0 for none",
    )
    parser.add_argument(
        "--test-fraction",
        type=fraction,
        default=0.1,
        metavar="F",
        help="part of the songs outside of split folders drawn for test (0.1)",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other songs (0)")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="report as JSON to FILE or, bare, to stdout"
    )
    parser.add_argument("-j", "--jobs", type=positive, default=os.cpu_count() or 1, help="processes (one a CPU)")
    add_loudness(parser, "all rows of the tables")
    return parser.parse(argv)


def fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 0 and below 1")
    return value


def main(argv: list[str]) -> int:
    args = parse(argv)
    if args.json == "-":
        console.set_verbosity(-1)  # stdout is the report's
    elif args.json:
        check_report(Path(args.json))
    started = time.monotonic()
    from data.layout import SplitRule
    from data.scan import build_index, summary

    console.log(f"data set {args.dataset}")
    rule = SplitRule(args.test_fraction, args.valid_fraction, args.seed)
    report = build_index(args.dataset, args.index, rule, skip_errors=args.on_error == "skip", jobs=args.jobs)
    facts = summary(report)
    if args.json:
        write_report(args.json, facts)
    show_findings(report, None if args.verbosity == 1 else SHOWN)
    if report.index is None:
        songs = len({finding.song for finding in report.errors})
        raise UserError(
            f"{songs} songs have errors and no index was written: mend or remove them, "
            "or leave them out with --on-error skip"
        )
    show_summary(report, facts)
    console.log(f"index written to {report.index.path} in {time.monotonic() - started:.1f} s")
    return 0


def check_report(target: Path) -> None:
    """Find out before the work that the report cannot be written."""
    from runtime.files import require_writable

    if target.is_dir():
        raise UserError(f"--json {target} is a folder: name a file")
    require_writable(target.parent)


def write_report(target: str, facts: dict) -> None:
    if target == "-":
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        from runtime.files import write_json

        write_json(target, facts)


def show_findings(report, limit: int | None) -> None:
    """Errors to stderr, warnings to stdout, each as a table."""
    for name, findings, say in (
        ("errors", report.errors, lambda text: print(text, file=sys.stderr, flush=True)),
        ("warnings", report.warnings, console.log),
    ):
        if findings:
            rows = [(row.kind, row.song, row.file, row.message) for row in findings[:limit]]
            say(f"\n{len(findings)} {name}\n{console.table(rows, (name[:-1], 'song', 'file', 'what'))}")
            if len(rows) < len(findings):
                say(f"… and {len(findings) - len(rows)} more (-v shows all)")


def show_summary(report, facts: dict) -> None:
    for note in facts["notes"]:
        console.log(note)
    if report.skipped:
        console.log(f"{len(report.skipped)} songs left out because of errors: {', '.join(report.skipped)}")
    removed = f", {report.removed} gone" if report.removed else ""
    console.log(f"{report.decoded} songs decoded, {report.unchanged} unchanged{removed}")
    rows = [(split, row["songs"], 60 * row["hours"]) for split, row in facts["splits"].items()]
    console.log("\n" + console.table(rows, ("split", "songs", "minutes")))
    for title, key in (("sample rates (Hz)", "sample_rates"), ("channels", "channels"), ("stems", "stems")):
        console.log(f"{title}: " + ", ".join(f"{value} ({count} songs)" for value, count in facts[key].items()))


if __name__ == "__main__":
    console.run(main)
