"""Sizes and times as Slurm writes them, and one command for every point of a grid."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Sequence

from runtime.errors import UserError

_UNITS = {"K": 2**-20, "M": 2**-10, "G": 1.0, "T": 2.0**10}


def minutes(text: str) -> int:
    """Whole minutes, rounded up, of ``90``, ``12:00:00``, ``2-00``, ``1-12:30``: minutes, h:m:s, days-hours(:m(:s))."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is no time: 90 (minutes), 12:00:00 or 2-00:00:00 (days-h:m:s)")
    days, *rest = (int(part) if part else None for part in found.groups())
    first, second, third = rest
    if days is not None:
        seconds = days * 86400 + first * 3600 + (second or 0) * 60 + (third or 0)
    elif third is not None:
        seconds = first * 3600 + second * 60 + third
    else:
        seconds = first * 60 + (second or 0)
    if not seconds:
        raise argparse.ArgumentTypeError(f"{text} is no time at all")
    return -(-seconds // 60)


def gigabytes(text: str) -> float:
    """``64G``, ``512M``, ``1.5T`` in GiB; a plain number is MB, as in Slurm."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text.upper())
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text} is no size: 64G, 512M or 1.5T")
    return float(found[1]) * _UNITS[found[2] or "M"]


def commands(command: Sequence[str], axes: Sequence[str]) -> list[tuple[str, ...]]:
    """The command with every combination of the values of ``axes``, each ``name=value,value``.

    Where the command contains ``{name}`` the value takes its place, otherwise ``name=value`` is appended. Raises
    `UserError` for an axis without values or the same axis twice.
    """
    names, values = [], []
    for axis in axes:
        name, equals, listed = axis.partition("=")
        found = _split(listed)
        if not (name and equals) or "" in found:
            raise UserError(f"--grid {axis}: write name=value,value, such as train.lr=1e-4,3e-4", status=2)
        if name in names:
            raise UserError(f"--grid {name}: given twice; write all values behind one name", status=2)
        names.append(name)
        values.append(found)
    return [_filled(command, dict(zip(names, point, strict=True))) for point in itertools.product(*values)]


def _split(listed: str) -> list[str]:
    """At the commas that are not within brackets."""
    return re.split(r",(?![^\[{(]*[\]})])", listed)


def _filled(command: Sequence[str], point: dict[str, str]) -> tuple[str, ...]:
    words, left = list(command), dict(point)
    for name, value in point.items():
        if any(f"{{{name}}}" in word for word in words):
            words = [word.replace(f"{{{name}}}", value) for word in words]
            del left[name]
    return (*words, *(f"{name}={value}" for name, value in left.items()))
