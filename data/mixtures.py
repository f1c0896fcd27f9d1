"""The mixtures of an indexed data set as files, for commands that take folders of music.

    python -m data.mixtures DATASET FOLDER --splits train test

writes `FOLDER/<split>/<song>.wav`. The data set is only read; a song without a mixture is the sum of its stems.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from data.codec_generate import write_wave
from data.index import load_stem, read_index
from runtime import console
from runtime.errors import UserError
from runtime.files import require_space


def write_mixtures(dataset: str | Path, folder: str | Path, splits: Sequence[str] = ("train", "test")) -> list[Path]:
    """Write the mixtures of the songs of some splits, and return the files.

    Each is written anew, as 16 bits if they hold it exactly, else as floats. Raises `UserError` if ``folder`` lies in
    the data set, if a split has no songs, or if there is no room.
    """
    index, folder = read_index(dataset), Path(folder)
    if folder.resolve().is_relative_to(index.root.resolve()):
        raise UserError(f"{folder} lies in the data set {index.root}, which is never changed: choose another folder")
    songs = {split: index.require(split, ["mixture"]) for split in splits}
    size = sum(4 * song.frames * song.channels for each in songs.values() for song in each)
    require_space(folder, size, "writing the mixtures")
    files = []
    for split, members in songs.items():
        for song in members:
            files.append(folder / split / f"{song.name}.wav")
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            write_wave(files[-1], load_stem(index, song, "mixture"), song.sample_rate)
    return files


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m data.mixtures", description="Write the mixtures of a data set.")
    parser.add_argument("dataset", type=Path, help="folder that preprocess.py has indexed")
    parser.add_argument("folder", type=Path, help="where the mixtures go, a folder for each split")
    text = "which (default: train test)"
    parser.add_argument("--splits", nargs="+", default=["train", "test"], metavar="SPLIT", help=text)
    args = parser.parse_args(argv)
    files = write_mixtures(args.dataset, args.folder, args.splits)
    console.log(f"{len(files)} mixtures written to {args.folder}")
    return 0


if __name__ == "__main__":
    console.run(main)
