"""Train, inspect, export and test the networks of the Demucs family."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runtime import console
from runtime.errors import UserError
from runtime.nearest import did_you_mean

COMMANDS = {  # name → module with main(arguments), what it does
    "run": ("run_scripts.demucs_run", "train an experiment, or go on where it stopped"),
    "info": ("run_scripts.demucs_info", "signature, settings, state, scores and log of an experiment"),
    "grid": ("run_scripts.demucs_grid", "the experiments of a grid: list them, train them, follow them"),
    "export": ("run_scripts.demucs_export", "write trained networks as packages for separator.py --repo"),
    "test_pretrained": ("run_scripts.demucs_test", "score a published or exported model on the test songs"),
    "automix": ("data.automix", "remix songs whose tempo and key go together into training data"),
}
USAGE = """\
usage: run_demucs.py COMMAND …

{doc}

{commands}

`run_demucs.py COMMAND --help` says more. An experiment is what it changes of configs/demucs/config.yaml: key=value for
one value; dset=NAME, svd=NAME, variant=NAME for a file of these folders. It is called by its signature, eight digits
that follow from the changes; its folder is outputs/xps/SIGNATURE.

examples:
  python run_scripts/run_demucs.py info -f 955717e8
  python run_scripts/run_demucs.py run -d -f 955717e8
  python run_scripts/run_demucs.py run -d -f 81de367c hdemucs.channels=32
  python run_scripts/run_demucs.py run -d -f 81de367c continue_from=81de367c dset=auto_mus variant=finetune
  python run_scripts/run_demucs.py grid mmi --dry_run --init
  python run_scripts/run_demucs.py export 81de367c
  python run_scripts/run_demucs.py test_pretrained -n 81de367c --repo release_models test.shifts=2
"""


def usage() -> str:
    """What ``--help`` shows."""
    lines = [f"  {name:<15} {summary}" for name, (_, summary) in COMMANDS.items()]
    return USAGE.format(doc=__doc__, commands="\n".join(lines))


def main(arguments: list[str]) -> int:
    """Runs a command; returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), end="")
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        raise UserError(f"there is no command {name}: {did_you_mean(name, COMMANDS)} (see --help)", status=2)
    return importlib.import_module(COMMANDS[name][0]).main(rest)


if __name__ == "__main__":
    console.run(main)
