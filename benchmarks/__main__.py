"""All benchmarks in one table: ``make bench``, or ``python -m benchmarks [NAME …]``."""

import argparse
import importlib
import importlib.util
import platform
from importlib import metadata
from pathlib import Path

from benchmarks.harness import THREADS
from run_scripts.options import Parser
from runtime.console import run, table
from runtime.errors import UserError
from runtime.files import require_writable, write_json

RIVALS = {
    **{"separation": "torch", "training_step": "torch", "demucs_family": "demucs", "bsrnn": "torch", "rmvpe": "torch"},
    **{"apollo": "torch", "feed": None, "bss_eval": "museval"},
}
HEADER = ["what", "ours", "rival", "ours / rival", "note"]
EPILOG = """\
separation      song to stems, beside the same U-Net in PyTorch; peak memory of a short and of a long song
training_step   forward, backward and Adam, beside the same in PyTorch
demucs_family   separation and training step of htdemucs, hdemucs and demucs, beside the package demucs in PyTorch
bsrnn           network and training step of bsrnn_vocals, beside the original's layers in PyTorch
rmvpe           pitch of a song and training step of RMVPE, beside the original's layers in PyTorch
apollo          restoration of a chunk and adversarial training step of Apollo, beside the original's layers in PyTorch
feed            training segments from the cache, beside decoding them
bss_eval        BSS Eval v4, beside museval

The measured sides take turns, and what they compute is compared first. Times are medians; ours / rival is the median of
the ratios of neighbouring runs: below 1, this program is faster. All of it takes tens of minutes.
"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line; `UserError` for a benchmark that does not exist."""
    parser = Parser(
        prog="python -m benchmarks",
        description="Time and memory beside a rival, measured in one run, in one table.",
        epilog=EPILOG,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--quick", action="store_true", help="short inputs, few runs: a look, not a figure to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table to this file, too")
    options = parser.parse(arguments)
    if unknown := [name for name in options.names if name not in RIVALS]:
        parser.error(f"there is no benchmark {', '.join(unknown)}, only {', '.join(RIVALS)}")
    return options


def require_rivals(names: list[str]) -> None:
    """`UserError` with the remedy if a program to compare with is not installed; better now than after the others."""
    missing = sorted({rival for name in names if (rival := RIVALS[name]) and not importlib.util.find_spec(rival)})
    if missing:
        possible = [name for name in names if RIVALS[name] not in missing]
        instead = f", or measure without: python -m benchmarks {' '.join(possible)}" if possible else ""
        raise UserError(f"{' and '.join(missing)} not found: pip install -r requirements-bench.txt{instead}")


def circumstances() -> str:
    """What a figure depends on: processor, threads, versions."""
    named = [line.partition(":")[2] for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    machine = (named or [platform.processor() or platform.machine()])[0].strip()
    wanted = ("paddlepaddle", "paddlepaddle-gpu", "torch", "demucs", "museval")
    there = {found.metadata["Name"]: found.version for found in metadata.distributions()}
    versions = [f"{name} {there[name]}" for name in wanted if name in there]
    return ", ".join([machine, f"{THREADS} threads", f"Python {platform.python_version()}", *versions])


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def main(arguments: list[str]) -> int:
    """Measure and print; returns the exit status."""
    options = parse(arguments)
    names = options.names or list(RIVALS)
    require_rivals(names)
    if options.json:
        require_writable(options.json.resolve().parent)
    where = circumstances()
    print(where)
    rows = []
    try:
        for name in names:
            print(f"measuring {name} …", flush=True)
            for row in importlib.import_module(f"benchmarks.{name}").measure(options.quick):
                rows.append(row.cells())
    finally:  # what was measured is shown whatever happens to the rest
        print(f"\n{table(rows, HEADER)}")
        if options.json:
            listed = [dict(zip(HEADER, row, strict=True)) for row in rows]
            write_json(options.json, {"measured on": where, "rows": listed})
    return 0


if __name__ == "__main__":
    run(main)
