"""``python -m benchmarks``: all of them, one table. Times are medians; ours / rival below 1: we are faster."""

import argparse
import importlib
import json
import platform
from importlib import metadata
from pathlib import Path

from benchmarks.harness import THREADS
from runtime.console import run, table

MODULES = ("separation", "training_step", "feed", "bss_eval")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split(". ", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(MODULES)}")
    parser.add_argument("--quick", action="store_true", help="short inputs, few runs: a look, not a figure to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the table as JSON, too")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(MODULES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("paddlepaddle", "torch", "museval"))
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {THREADS} threads, Python {platform.python_version()}, {versions}")
    rows = []
    for name in options.names or MODULES:
        print(f"measuring {name} …", flush=True)
        rows += importlib.import_module(f"benchmarks.{name}").measure(options.quick)
    print()
    print(table([row.cells() for row in rows], ["what", "ours", "rival", "ours / rival", "note"]))
    if options.json:
        options.json.write_text(json.dumps([row.cells() for row in rows], indent=1, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    run(main)
