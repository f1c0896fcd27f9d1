"""The index that lists of stretches are made from: the data set's own, or one of its folders, kept beside the lists."""

from pathlib import Path

from data.index import INDEX_NAME, Index, read_index, write_index
from data.stems import parts_of
from data.wave_songs import folder_index, spelled
from runtime.console import log
from runtime.errors import UserError
from runtime.files import require_writable

SOURCES = ("vocals", "drums", "bass", "other")
ORIGIN = {"origin": "folder"}  # settings in the header of an index that is made here


def open_index(root: str | Path, folder: str | Path, targets: list[str]) -> Index:
    """The songs of a data set and, for one without an index of its own, ``folder/index.jsonl``, which is written.

    Args:
        root: an indexed data set, its index file, or a folder of folders as `data.wave_songs` knows them, such as
            MUSDB18-HQ; nothing is written there
        folder: where the lists are to lie
        targets: what every song of a folder has to have, besides the four sources of MUSDB18

    Raises:
        UserError: no such data set, no songs, songs that lack a source, or ``folder`` has the index of other songs
    """
    root, path = Path(root), Path(folder) / INDEX_NAME
    if root.suffix == ".jsonl" or (root / INDEX_NAME).is_file():
        return read_index(root)
    if not root.is_dir():
        raise UserError(f"{root}: there is no such data set; give its folder with -i, or set MUSDB_DIR to it")
    old = read_index(path) if path.is_file() else None
    same = old is not None and old.root.resolve() == root.resolve()
    if old is not None and old.settings != ORIGIN:  # `preprocess.py` made it
        if not same:
            raise UserError(f"{path} is the index of {old.root}, not of {root}; choose another folder with -o")
        log(f"index: {path}")
        return old
    require_writable(folder)
    extra = [target for target in map(spelled, targets) if parts_of(target, SOURCES) is None and target != "mixture"]
    songs = folder_index(root, (*SOURCES, *extra), {song.folder: song for song in old.songs} if same else None).songs
    write_index(path, root, songs, ORIGIN)
    log(f"index of {root} written to {path}")
    return read_index(path)
