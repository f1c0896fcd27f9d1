"""Lists of the stretches in which a source sounds: the files ``{target}_{train|valid|test}.txt``."""

from pathlib import Path
from typing import NamedTuple

from runtime.errors import UserError


class Stretch(NamedTuple):
    """A part of a song, from sample ``start`` up to, and without, ``stop``."""

    song: str
    start: int
    stop: int


def read_list(path: str | Path) -> list[Stretch]:
    """The stretches of a list in its order.

    Raises:
        UserError: the file is missing or has a line that is not ``TRACK<tab>START<tab>END``
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such list; make it with `run_scripts/run_bsrnn.py -m prepare`") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a list of stretches, it is not even text") from None
    return [_stretch(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _stretch(path: str | Path, number: int, line: str) -> Stretch:
    try:
        song, start, stop = line.rstrip("\r").split("\t")
        stretch = Stretch(song, int(start), int(stop))
    except ValueError:
        stretch = None
    if stretch is None or not 0 <= stretch.start < stretch.stop:
        raise UserError(f"{path}, line {number}: not a song, its first and its last sample with tabs between them")
    return stretch
