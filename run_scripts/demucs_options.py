"""What the commands for Demucs experiments share: which experiment, and what of it is this machine's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_scripts import options as shared
from runtime.errors import UserError

if TYPE_CHECKING:
    from training.xp import Experiment

SCRIPT = Path(__file__).with_name("run_demucs.py")
_PLACES = {  # flag → key; no flag makes another experiment
    "dataset": "dset.musdb",
    "wav": "dset.wav",
    "wav2": "dset.wav2",
    "metadata": "dset.metadata",
    "nonhq": "test.nonhq",
    "workers": "misc.num_workers",
}


def parser(command: str, description: str, epilog: str = "") -> shared.Parser:
    """A parser for ``run_demucs.py command``."""
    return shared.Parser(
        prog=f"run_demucs.py {command}",
        description=description,
        epilog=epilog,
    )


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Add ``-f SIG`` and ``key=value``, which arrive as ``signature`` and ``overrides``."""
    text = "begin with the settings of this experiment; overrides change them, which makes another experiment"
    parser.add_argument("-f", "--from_sig", dest="signature", metavar="SIG", help=text)
    text = "a value of the configuration (optim.lr=1e-4), or a file of a group (dset=auto_mus)"
    parser.add_argument("overrides", metavar="key=value", nargs="*", help=text)


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add what is this machine's and makes no other experiment, ``--device`` and ``-v/-q`` included."""
    shared.add_common(parser)
    places = parser.add_argument_group("where things are (instead of the keys, which make other experiments)")
    for action in parser._actions:
        if action.dest == "dataset":
            action.help = "MUSDB-HQ, or a data set indexed by preprocess.py: dset.musdb (default: dataset)"
    places.add_argument("--wav", metavar="FOLDER", help="further songs: dset.wav")
    places.add_argument("--wav2", metavar="FOLDER", help="yet further songs: dset.wav2")
    places.add_argument("--nonhq", metavar="FOLDER", help="songs to test on: test.nonhq")
    places.add_argument("--metadata", metavar="FOLDER", help="notes on the songs: dset.metadata (default: ./metadata)")
    places.add_argument("--cache", metavar="FOLDER", help="keep decoded waveforms here (default: decode every time)")
    text = "loader threads of a process: misc.num_workers (default: 10)"
    places.add_argument("--workers", type=shared.natural, metavar="N", help=text)


def machine_flags(options: argparse.Namespace) -> list[str]:
    """The flags of `add_machine` as they were given, for another command."""
    names = [*_PLACES, "cache", "device"]
    given = [(name, getattr(options, name)) for name in names if getattr(options, name, None) is not None]
    return [word for name, value in given for word in (f"--{name}", str(value))]


def experiment(options: argparse.Namespace) -> Experiment:
    """What ``-f`` and the overrides ask for, with its data where the flags say.

    Raises:
        UserError: unknown signature, key or file; a wrong value; a place that is not there
    """
    from training import xp

    found = xp.load(options.signature, options.overrides) if options.signature else xp.compose(options.overrides)
    return xp.elsewhere(found, places(options))


def places(options: argparse.Namespace) -> dict[str, Any]:
    """Dotted key → value for the flags of `add_machine` that were given."""
    given: dict[str, Any] = {}
    for flag, key in _PLACES.items():
        value = getattr(options, flag, None)
        if value is None:
            continue
        if flag in ("dataset", "wav", "wav2", "nonhq") and not Path(value).exists():
            raise UserError(f"--{flag} {value}: there is no such folder")
        given[key] = value
    return given


def short(delta: Sequence[Sequence[Any]]) -> str:
    """What an experiment changes, in one line."""
    from training.xp_values import written

    return " ".join(f"{key}={written(value)}" for key, value in delta)
