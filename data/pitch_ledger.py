"""Which files of a data set a command wrote, so that it goes on where it stopped and touches nothing else."""

import json
from collections.abc import Collection, Iterable
from pathlib import Path

from runtime.files import atomic_write

SUFFIXES = (".wav", ".pv")  # the files of a song


class Ledger:
    """A line of JSON for each song: its file, the folder it was made from, and a hash of what it depends on.

    The hash is empty while a song is being written.

    Args:
        path: of the ledger
        name: of the folder that songs are made from now
    """

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        self._rows: dict[str, tuple[str, str]] = {}
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            if line.endswith("]"):  # the last one may be cut short
                file, owner, key = json.loads(line)
                self._rows[file] = (owner, key)

    def owner(self, file: str) -> str | None:
        """Folder that a song was made from, None for songs that nobody noted down."""
        return self._rows[file][0] if file in self._rows else None

    def is_done(self, file: str, key: str, out: Path) -> bool:
        """Whether the song was written out of just this, and its files are in the data set `out`."""
        return self._rows.get(file) == (self.name, key) and is_there(out, file)

    def is_complete(self, out: Path) -> bool:
        """Whether all songs of the folder were written and are there."""
        mine = [(file, key) for file, (owner, key) in self._rows.items() if owner == self.name]
        return bool(mine) and all(key and is_there(out, file) for file, key in mine)

    def claim(self, files: Collection[str], todo: Collection[str]) -> list[str]:
        """Note down that `todo` will be written, and that `files` are all that there is of this folder.

        Returns what an earlier run wrote and is no longer among them.
        """
        wanted = set(files)
        stale = [file for file, (owner, _) in self._rows.items() if owner == self.name and file not in wanted]
        self._rows |= dict.fromkeys(todo, (self.name, ""))
        self.forget(stale)
        return stale

    def forget(self, files: Iterable[str]) -> None:
        """Write the ledger anew without these songs."""
        for file in files:
            del self._rows[file]
        with atomic_write(self.path, "w") as handle:
            handle.writelines(self._line(file) for file in self._rows)

    def done(self, file: str, key: str) -> None:
        """Note down that a song is written."""
        self._rows[file] = (self.name, key)
        with open(self.path, "a", encoding="utf-8") as handle:
            handle.write(self._line(file))

    def _line(self, file: str) -> str:
        return json.dumps([file, *self._rows[file]], ensure_ascii=False) + "\n"


def is_there(out: Path, file: str) -> bool:
    """Whether both files of a song are there."""
    return all((out / (file + suffix)).is_file() for suffix in SUFFIXES)


def remove(out: Path, files: Iterable[str]) -> None:
    """Remove both files of songs, as far as they are there."""
    for file in files:
        for suffix in SUFFIXES:
            (out / (file + suffix)).unlink(missing_ok=True)
