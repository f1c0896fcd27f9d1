"""Commands of several modes: the first ``-m MODE`` says which command line the other arguments are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from runtime.errors import UserError
from runtime.nearest import did_you_mean

Main = Callable[[list[str]], int]  # arguments -> exit status


def enter(arguments: list[str], usage: str, modes: Mapping[str, str | Main]) -> int:
    """Does what ``-m`` says; returns the exit status.

    Args:
        arguments: of the whole command
        usage: what ``--help`` without a mode says
        modes: by name, a function, or the name of a module that has it as ``main``

    Raises:
        UserError: no mode, or an unknown one
    """
    if "-m" not in arguments[:-1]:
        if not {"-h", "--help"} & set(arguments):
            raise UserError(f"say with -m what to do: {', '.join(modes)} (see --help)", status=2)
        print(usage, end="")
        return 0
    place = arguments.index("-m")
    name, rest = arguments[place + 1], arguments[:place] + arguments[place + 2 :]
    if name not in modes:
        raise UserError(f"-m {name}: there is no such mode; {did_you_mean(name, list(modes))}", status=2)
    mode = modes[name]
    return importlib.import_module(mode).main(rest) if isinstance(mode, str) else mode(rest)
