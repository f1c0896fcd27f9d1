"""New songs out of the stems of different ones, brought to one tempo, one beat and one key.

    python run_scripts/automix.py --musdb musdb18hq --out automix --copies 6

reads the training and validation songs of a data set and writes `<out>/train/<copy>_<song>/` and `<out>/valid/…`, each
with a file for every source and the mixture: a data set for `dset.wav`. Songs that cannot be analysed are copied as
`rej_<song>_<copy>`. A mix depends on the seed, the songs and its own number only; it appears whole or not at all, and a
second run makes what is missing. Nothing that this program has not made is ever written over or removed.

The idea and the limits are those of the automix tool of Demucs (Défossez, 2021).
"""

import argparse
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from runtime import console
from runtime.errors import UserError

if TYPE_CHECKING:
    from data.automix_analysis import Analysis
    from data.automix_render import Mix
    from data.index import Song
    from data.wave_songs import Collection

MADE_BY = "paddlestems-automix 1"  # the number changes when the same settings give other mixes
MARKER = "automix.json"
HIDDEN = ".automix"  # folder of what is known of the songs
SOURCES = ("drums", "bass", "other", "vocals")


@dataclass(frozen=True)
class Settings:
    """What the mixes of a folder have in common."""

    dataset: str
    sources: tuple[str, ...] = SOURCES
    seed: int = 4321
    max_pitch: int = 3
    max_tempo: float = 15.0
    sample_rate: int = 44100
    channels: int = 2
    format: str = "wav16"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)", status=2)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="automix", description=__doc__.partition("\n")[0], allow_abbrev=False)
    default = Settings("")
    parser.add_argument(
        "--musdb", "--dataset", dest="dataset", required=True, metavar="FOLDER", help="data set with the songs"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="new folder for the mixes")
    parser.add_argument("--copies", type=int, default=6, help="mixes that begin with each training song (6)")
    parser.add_argument("--valid-copies", type=int, default=1, help="and with each validation song (1)")
    parser.add_argument("--rejected-copies", type=int, default=2, help="copies of songs that cannot be mixed (2)")
    parser.add_argument("--seed", type=int, default=default.seed, help="another seed makes other mixes (4321)")
    parser.add_argument("--max-pitch", type=int, default=default.max_pitch, help="largest transposition, semitones (3)")
    parser.add_argument("--max-tempo", type=float, default=default.max_tempo, help="largest change of tempo, %% (15)")
    parser.add_argument("--sources", default=",".join(SOURCES), help="names of the stems (drums,bass,other,vocals)")
    parser.add_argument("--sample-rate", type=int, default=default.sample_rate, help="of the mixes, Hz (44100)")
    parser.add_argument("--channels", type=int, default=default.channels, help="of the mixes (2)")
    parser.add_argument(
        "--format", choices=("wav16", "wav24", "float32", "flac"), default=default.format, help="of the files (wav16)"
    )
    parser.add_argument("-j", "--workers", type=int, default=os.cpu_count() or 1, help="processes (one a CPU)")
    options = parser.parse_args(arguments)
    for name in ("copies", "valid_copies", "rejected_copies", "max_pitch"):
        if getattr(options, name) < 0:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(options, name)}; it must be at least 0", status=2)
    if not 0 <= options.max_tempo < 50:
        raise UserError(f"--max-tempo is {options.max_tempo:g} %; it must lie between 0 and 50", status=2)
    return options


def main(arguments: Sequence[str]) -> int:
    """Analyse, plan and write; 1 if a song or a mix failed. UserError for folders that cannot be used."""
    options = _parse(arguments)
    names = tuple(name.strip() for name in options.sources.split(","))
    settings = Settings(
        os.path.abspath(options.dataset),
        names,
        options.seed,
        options.max_pitch,
        options.max_tempo,
        options.sample_rate,
        options.channels,
        options.format,
    )
    from data.automix_analysis import require_drums
    from data.wave_songs import spelled
    from runtime.files import alone

    require_drums(names)
    if len(set(map(spelled, names))) < len(names) or spelled("mixture") in map(spelled, names):
        raise UserError(f"--sources {options.sources}: name each stem once, and not the mixture", status=2)
    if Path(settings.dataset) == options.out.resolve() or options.out.resolve() in Path(settings.dataset).parents:
        raise UserError(f"--out {options.out} holds the data set itself: choose a folder of its own")
    _require_own(options.out)
    with alone(options.out / HIDDEN, f"{options.out}: another process is writing mixes here; wait for it to end"):
        copies = {"train": options.copies, "valid": options.valid_copies}
        return _make(settings, options.out, copies, options.rejected_copies, options.workers)


def _make(settings: Settings, out: Path, copies: dict[str, int], rejected: int, workers: int) -> int:
    from data.automix_render import render, size_of
    from data.wave_songs import collect
    from data.workers import Failure, run_songs
    from runtime.files import remove_leftovers, require_space

    collection = collect(settings.dataset, "musdb", settings.sources, out / HIDDEN)
    _claim(out, settings, collection)
    catalog, failed = _analysed(settings, collection, out / HIDDEN, workers)
    mixes = [mix for split in copies for mix in _mixes(settings, collection, catalog, split, copies[split], rejected)]
    missing = [mix for mix in mixes if not (out / mix.folder).is_dir()]
    console.log(f"{len(mixes) - len(missing)} of {len(mixes)} mixes are there")
    require_space(out, sum(size_of(mix, settings) for mix in missing), f"writing {len(missing)} mixes")
    for split in copies:
        (out / split).mkdir(exist_ok=True)
        remove_leftovers(out / split)
    work = partial(render, root=collection.index.root, settings=settings, out=out)
    with console.progress(len(missing), "mixing", "mix") as bar:
        for mix, result in run_songs(work, missing, workers):
            bar.update(1)
            if isinstance(result, Failure):
                console.warn(f"{mix.folder}: {result.reason}")
                console.detail(result.trace)
                failed += 1
    console.log(f"{len(mixes)} mixes in {out}: train with dset.wav={out}")
    return 1 if failed else 0


# --------------------------------------------------------------------------------------------------------- whose folder


def _require_own(out: Path) -> None:
    """UserError unless the folder is new, empty, or made by this program."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder")
    strange = out.is_dir() and any(path.name != HIDDEN for path in out.iterdir())
    if strange and _marker(out).get("made_by") != MADE_BY:
        raise UserError(f"{out} was not made by automix: nothing is written into it; choose a new folder with --out")


def _marker(out: Path) -> dict:
    """What the marker of a folder says; nothing where there is none."""
    from runtime.files import read_json

    known = read_json(out / MARKER) if (out / MARKER).is_file() else {}
    return known if isinstance(known, dict) else {}


def _claim(out: Path, settings: Settings, collection: "Collection") -> None:
    """Write the marker, or see that the mixes that are there were made of the same songs with the same settings."""
    from runtime.files import write_json

    songs = [(song.split, song.folder, song.fingerprint) for song in (known.song for known in collection.songs)]
    row = {"made_by": MADE_BY, **asdict(settings), "sources": list(settings.sources)}
    row["songs"] = hashlib.sha256(json.dumps(sorted(songs)).encode()).hexdigest()[:32]
    known = _marker(out)
    changed = [name for name in row if known.get(name) != row[name]]
    if known and changed:
        raise UserError(
            f"{out} holds mixes made with another value of {', '.join(changed)}: "
            "choose a new folder with --out, or remove this one"
        )
    write_json(out / MARKER, row)


# ------------------------------------------------------------------------------------------------------------- planning


def _analysed(
    settings: Settings, collection: "Collection", folder: Path, workers: int
) -> tuple[dict[str, "Analysis"], int]:
    """The analysis of every song by its folder, and how many failed."""
    from data.automix_render import analyse_song
    from data.workers import Failure, run_songs

    songs = [known.song for known in collection.songs]
    work = partial(analyse_song, root=collection.index.root, settings=settings, folder=folder)
    catalog, failed = {}, 0
    with console.progress(len(songs), "analysing", "song") as bar:
        for song, result in run_songs(work, songs, workers):
            bar.update(1)
            if isinstance(result, Failure):
                console.warn(f"{song.folder}: {result.reason}")
                console.detail(result.trace)
                failed += 1
            else:
                catalog[song.folder] = result
                if result.problem:
                    console.warn(f"{song.folder} is not mixed with others: {result.problem}")
    return catalog, failed


def _mixes(
    settings: Settings,
    collection: "Collection",
    catalog: dict[str, "Analysis"],
    split: str,
    copies: int,
    rejected: int,
) -> Iterator["Mix"]:
    """The mixes of one split; its songs are never mixed with those of another."""
    from data.automix_plan import Limits, Part, plan_mix
    from data.automix_render import Mix

    songs: dict[str, Song] = {known.song.folder: known.song for known in collection.split(split)}
    names = sorted(name for name in songs if name in catalog)
    usable = {name: catalog[name] for name in names if not catalog[name].problem}
    limits = Limits(settings.max_pitch, settings.max_tempo)
    for copy in range(copies):
        for number, name in enumerate(usable):
            address = (copy << 1 | (split == "valid"), number)
            parts = plan_mix(usable, name, settings.sources, limits, settings.seed, address)
            yield Mix(f"{split}/{copy}_{number}", parts, tuple(songs[part.song] for part in parts))
    for number, name in enumerate(name for name in names if catalog[name].problem):
        parts = tuple(Part(source, name, catalog[name].start) for source in settings.sources)
        for copy in range(min(rejected, copies)):
            yield Mix(f"{split}/rej_{number}_{copy}", parts, (songs[name],) * len(parts))


if __name__ == "__main__":
    console.run(main)
