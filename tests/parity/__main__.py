"""Runs golden files through this project's code and says how far each output is from the reference.

    python -m tests.parity FILE.npz|FOLDER …

The exit status is 0 when every output of every file is within tolerance; 1 otherwise.
"""

import argparse
import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from runtime.errors import UserError
from tests.parity import golden

Adapter = Callable[[golden.Case], dict[str, np.ndarray]]


def adapters() -> dict[tuple[str | None, str], Adapter]:
    """Every known ``(arch, op)`` from the ``CASES`` tables of the modules ``cases_*.py`` beside this one."""
    found: dict[tuple[str | None, str], Adapter] = {}
    for path in sorted(Path(__file__).parent.glob("cases_*.py")):
        cases = importlib.import_module(f"tests.parity.{path.stem}").CASES
        taken = found.keys() & cases.keys()
        if taken:
            raise RuntimeError(f"{path.name} claims cases of another module: {sorted(map(str, taken))}")
        found.update(cases)
    return found


def expand(paths: list[str]) -> list[Path]:
    """Files as given, folders as the ``.npz`` files inside.

    Raises:
        UserError: a folder without any
    """
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"there is no .npz file in {path}")
        files += inside
    return files


def run_case(case: golden.Case, known: dict[tuple[str | None, str], Adapter]) -> list[golden.Comparison]:
    """Runs one case and compares every stored output.

    Raises:
        UserError: no adapter for its arch and op, a damaged file, or an output that the adapter does not deliver
    """
    if (case.arch, case.op) not in known:
        raise UserError(f"no adapter for arch {case.arch!r} with op {case.op!r}")
    case.verify()
    results = known[case.arch, case.op](case)
    missing = [name for name in case.outputs if name not in results]
    if missing:
        raise UserError(f"{case.name}: our run gives no {', '.join(missing)}")
    return [case.compare(name, results[name]) for name in case.outputs]


def report(title: str, comparisons: list[golden.Comparison]) -> str:
    """One line an output: largest error, what is allowed there, and their ratio."""
    width = max((len(each.name) for each in comparisons), default=0)
    lines = [title]
    for each in comparisons:
        verdict = "ok  " if each.ok else "FAIL"
        figures = f"error {each.error:9.2e}  tolerance {each.allowed:9.2e}  ratio {each.worst:9.2e}"
        lines.append(f"  {verdict}  {each.name:{width}}  {figures}  {each.note}".rstrip())
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Prints a report per file; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.parity", description="Compare with golden reference outputs."
    )
    parser.add_argument("paths", nargs="+", metavar="FILE|FOLDER", help="golden .npz files, or folders of them")
    files = expand(parser.parse_args(arguments).paths)
    known = adapters()
    passed = 0
    for path in files:
        try:
            case = golden.load(path)
            comparisons = run_case(case, known)
        except UserError as failure:
            print(f"{path.name}\n  FAIL  {failure}", flush=True)
            continue
        except Exception:  # one broken network must not hide the others; the traceback is the report
            print(f"{path.name}\n  FAIL  our code raised\n{traceback.format_exc()}", flush=True)
            continue
        print(report(f"{path.name}  ({case.arch or 'signal path'}, {case.op})", comparisons), flush=True)
        passed += all(each.ok for each in comparisons)
    print(f"{passed} of {len(files)} files passed")
    return 0 if passed == len(files) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as failure:
        sys.exit(f"error: {failure}")
