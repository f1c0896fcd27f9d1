"""Which pairs of a data set a command wrote and how, so that it goes on where it stopped and touches nothing else."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from runtime.errors import UserError
from runtime.files import atomic_write

LEDGER = ".codec_pairs.jsonl"


@dataclass(frozen=True)
class Row:
    """A pair: its name, the file that it was made of, its own two files, and how.

    `key` is a hash of all that the files depend on, `coding` how the codec's was coded, `samples` its length and
    `likeness` what was measured (`dsp.lag`). `samples` is None while the pair is being written.
    """

    name: str
    source: str
    files: tuple[str, str]
    split: str
    key: str
    coding: dict
    samples: int | None = None
    likeness: float | None = None


class Ledger:
    """A line of JSON for each pair in a data set.

    Attributes:
        rows: by name
    """

    def __init__(self, folder: Path):
        self._folder, self.path = folder, folder / LEDGER
        self.rows: dict[str, Row] = {}
        for line in self.path.read_text("utf-8").splitlines() if self.path.exists() else ():
            if line.endswith("}"):  # the last one may be cut short
                values = json.loads(line)
                self.rows[values["name"]] = Row(**{**values, "files": tuple(values["files"])})

    def check_split(self, split: str) -> None:
        """Raises `UserError` if pairs for something else than ``split`` are there."""
        if other := {row.split for row in self.rows.values()} - {split}:
            raise UserError(f"{self._folder} holds pairs for {other.pop()}, not for {split}: choose another -o")

    def is_done(self, row: Row) -> bool:
        """Whether a pair was written out of just this, and its files are there."""
        known = self.rows.get(row.name)
        if known is None or known.samples is None or known.key != row.key or known.files != row.files:
            return False
        return all((self._folder / file).is_file() for file in row.files)

    def claim(self, rows: Iterable[Row]) -> None:
        """Note down pairs that will be written, and remove what was there under their names."""
        for row in rows:
            self._remove(row.name)
            self.rows[row.name] = row
        self.settle()

    def done(self, row: Row) -> None:
        """Note down that a pair is written."""
        self.rows[row.name] = row
        with open(self.path, "a", encoding="utf-8") as handle:
            handle.write(_line(row))

    def forget(self, name: str) -> None:
        """Remove what there is of a pair that could not be made."""
        self._remove(name)
        del self.rows[name]

    def settle(self) -> None:
        """Write the ledger anew, in the order of names."""
        with atomic_write(self.path, "w") as handle:
            handle.writelines(_line(self.rows[name]) for name in sorted(self.rows))

    def _remove(self, name: str) -> None:
        for file in self.rows[name].files if name in self.rows else ():
            path = self._folder / file
            path.unlink(missing_ok=True)
            if path.parent.name == name and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()


def _line(row: Row) -> str:
    return json.dumps(asdict(replace(row, files=list(row.files)))) + "\n"
