"""Options that the command lines share, and a parser whose complaints are one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from runtime import console
from runtime.errors import UserError
from runtime.nearest import nearest
from runtime.nodes import Place, place

_KEYS = {"dataset": "data.dataset", "device": "device", "processes": "train.processes"}  # flags that are also keys


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `UserError` (status 2) and names the nearest flag to an unknown one."""

    def __init__(self, **settings: Any):
        if "epilog" in settings:  # whose lines are examples, to be left as they are
            settings["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Instead of the usage, which hides the sentence."""
        raise UserError(f"{message} (see --help)", status=2)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse with flags and ``key=value`` in any order; ``-v`` and ``-q`` take effect at once."""
        options, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            raise UserError(f"unknown option {unknown[0]}: {self._suggestion(unknown[0])}", status=2)
        console.set_verbosity(getattr(options, "verbosity", 0))
        return options

    def _suggestion(self, unknown: str) -> str:
        """The flag that was meant, judged by its spellings and by what it sets: ``--batch`` is near ``-bs``."""
        flags = {text: text for action in self._actions for text in action.option_strings}
        for action in self._actions:
            if action.option_strings:
                flags.setdefault("--" + action.dest.rpartition(".")[2].replace("_", "-"), action.option_strings[0])
        near = nearest(unknown, flags, 0.6)
        sentence = f"did you mean {flags[near]}?" if near else "see --help for those that there are"
        if any(action.dest == "overrides" for action in self._actions):
            sentence += " (keys of the configuration are set without dashes, as in train.lr=3e-4)"
        return sentence


def add_common(
    parser: argparse.ArgumentParser, config: str | None = None, dataset: str = "folder of the songs"
) -> None:
    """Add ``--device``, ``--dataset``, ``-v/-q`` and, if ``config`` names the default one, ``-c`` and ``key=value``.

    ``dataset`` says what is in that folder.

    They arrive as ``device``, ``dataset`` (``None`` if not given), ``verbosity`` (-1, 0, 1), ``config``, ``overrides``.
    """
    parser.add_argument("--device", metavar="NAME", help="auto (default) | cpu | gpu | sdaa, or one card: sdaa:1")
    usual = "dataset" if config is None else "the configuration's"
    parser.add_argument("--dataset", metavar="FOLDER", help=f"{dataset} (default: {usual})")
    add_loudness(parser)
    if config is not None:
        text = f"configuration: a name below configs/ or a YAML file (default: {config})"
        parser.add_argument("-c", "--config", metavar="NAME", default=config, help=text)
        text = "change a value of the configuration, for example train.lr=3e-4"
        parser.add_argument("overrides", metavar="key=value", nargs="*", help=text)


def add_loudness(parser: argparse._ActionsContainer, more: str = "say more") -> None:
    """Add ``-v`` and ``-q``, which arrive as ``verbosity`` (-1, 0, 1) and take effect in `Parser.parse`."""
    loudness = parser.add_mutually_exclusive_group()
    store = {"dest": "verbosity", "action": "store_const"}
    loudness.add_argument("-v", "--verbose", const=1, default=0, help=more, **store)
    loudness.add_argument("-q", "--quiet", const=-1, help="only say what is wrong", **store)


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Add ``-npn N``, which arrives as ``processes`` (``None`` if not given)."""
    text = "processes on this machine, one a card; on the CPU they share the cores (default: 1)"
    parser.add_argument("-npn", dest="processes", type=positive, metavar="N", help=text)


def add_nodes(parser: argparse.ArgumentParser) -> None:
    """Add ``--nnodes``, ``--master`` and ``--node-rank`` beside ``-npn``; `nodes` makes something of them."""
    add = parser.add_argument_group("several machines, each of which runs this command").add_argument
    text = "how many machines, each with -npn processes (default: 1)"
    add("--nnodes", dest="nodes", type=positive, metavar="N", help=text)
    text = "where they meet: the first machine and a free port of it (default: from Slurm, under srun)"
    add("--master", metavar="HOST:PORT", help=text)
    text = "number of this machine, 0 for the first (default: the one with HOST is first, the others as they come)"
    add("--node-rank", dest="node_rank", type=natural, metavar="N", help=text)


def nodes(options: argparse.Namespace) -> Place | None:
    """Where the machines meet, ``None`` if there is only this one; raises `UserError` for what cannot be."""
    return place(options.nodes, options.master, options.node_rank)


def overrides(options: argparse.Namespace) -> list[str]:
    """The ``key=value`` changes that flags and positional arguments ask for; the positional ones come last and win.

    A flag becomes a change if its ``dest`` is a dotted key of the configuration, or if it is one of the shared ones.
    """
    given = {name: value for name, value in vars(options).items() if value is not None}
    if "nodes" in given:  # a run is the same however its processes are spread over machines
        given["processes"] = given.get("processes", 1) * given["nodes"]
    flags = {_KEYS.get(name, name): value for name, value in given.items() if "." in name or name in _KEYS}
    return [f"{key}={value}" for key, value in flags.items()] + list(given.get("overrides", ()))


def boolean(text: str) -> bool:
    """``True``, ``true``, ``yes``, ``on``, ``1`` and their opposites: ``-lm False`` means false."""
    known = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"{text} is neither True nor False")
    return known[text.lower()]


def natural(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 on")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return int(text)
