"""Names of the files that a separation writes, checked before anything is computed."""

from __future__ import annotations

import os
import shlex
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.stems import ADDITION, RESTORED, canonical
from runtime.errors import UserError
from runtime.nearest import did_you_mean

DEFAULT_TEMPLATE = "{track}/{stem}.{ext}"
FORMATS = ("wav16", "wav24", "float32", "flac", "flac24", "mp3", "ogg", "m4a")  # of dsp.audio, which is slow to import
OTHERS = ("none", "add", "minus")
FIELDS = ("track", "stem", "ext", "trackext", "filename", "instrument", "codec", "foldername", "folder")
_LONGEST = 255  # bytes of a name in a folder, on all usual file systems
_TELLING_APART = (  # templates to propose, in this order, where the one in use gives two songs the same name
    "{foldername}/{track}/{stem}.{ext}",
    "{track}.{trackext}/{stem}.{ext}",
    "{foldername}/{track}.{trackext}/{stem}.{ext}",
    "{folder}/{track}.{trackext}/{stem}.{ext}",
)


@dataclass(frozen=True)
class Selection:
    """Which files a song becomes: output name -> indices of the network's sources that are summed in it.

    ``residual`` adds the mixture minus all of them, under the name ``rest``. ``restored`` names those of them that are
    also written in a restored form, which the residual has nothing to do with.
    """

    outputs: Mapping[str, tuple[int, ...]]
    residual: bool = False
    rest: str = "residual"
    restored: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all files: the outputs, their restored forms, the residual."""
        return (*self.outputs, *map(restored, self.restored), *((self.rest,) if self.residual else ()))

    @property
    def rows(self) -> dict[str, tuple[int, ...]]:
        """Output name -> its places among the sources that are ``needed``."""
        rows = {source: row for row, source in enumerate(self.needed)}
        return {name: tuple(rows[source] for source in sources) for name, sources in self.outputs.items()}

    @property
    def needed(self) -> tuple[int, ...]:
        """The network's sources that something is made of, in their order. The residual needs no others."""
        return tuple(sorted({index for indices in self.outputs.values() for index in indices}))


def select(
    sources: Sequence[str],
    stems: Iterable[str] | None = None,
    two_stems: str | None = None,
    residual: bool = False,
    other: str = "add",
) -> Selection:
    """Outputs of a network with these ``sources``: all, the ``stems`` named, or ``two_stems`` and its complement.

    ``other`` is what the complement is: ``add`` writes the sum of the other stems as ``no_<it>``, ``minus`` the mixture
    minus the stem as ``minus_<it>``, ``none`` nothing. The singular ``vocal`` and ``instrumental`` of the two-track
    data sets are understood. ``residual`` adds the mixture minus everything that is written; where the network restores
    music, it is what that took away, and called ``addition``. Raises UserError for a stem that the network does not
    have.
    """
    if other not in OTHERS:
        raise UserError(f"--other-method {other} is none of {', '.join(OTHERS)}")
    if two_stems is None and other != "add":
        raise UserError("--other-method says what the complement of --two-stems is: name that stem")
    if stems is not None and two_stems is not None:
        raise UserError("--stems and --two-stems exclude each other: name the stems, or one stem and its complement")
    if two_stems is not None:
        chosen = _index(two_stems, sources)
        others = tuple(i for i in range(len(sources)) if i != chosen)
        if other == "minus":
            if residual:
                raise UserError("--residual is what --other-method minus writes: leave one of them out")
            return Selection({sources[chosen]: (chosen,)}, True, f"minus_{sources[chosen]}")
        if other == "none":
            return Selection({sources[chosen]: (chosen,)}, residual)
        return Selection({sources[chosen]: (chosen,), f"no_{sources[chosen]}": others}, residual)
    indices = range(len(sources)) if stems is None else [_index(name, sources) for name in stems]
    if not indices:
        raise UserError(f"no stems are left to write: choose among {', '.join(sources)}")
    rest = ADDITION if tuple(sources) == (RESTORED,) else Selection.rest
    return Selection({sources[i]: (i,) for i in indices}, residual, rest)


def restored(name: str) -> str:
    """What the restored form of a stem is called."""
    return f"{name}_{RESTORED}"


def restoring(selection: Selection, names: Iterable[str]) -> Selection:
    """The same outputs, and these of them restored as well. Raises UserError for what is not among them."""
    chosen, outputs = [], tuple(selection.outputs)
    for name in names:
        if outputs == (RESTORED,):
            raise UserError("--restore is for separated stems, and this network restores songs itself: leave it out")
        known = name if name in outputs else canonical(name)
        if known not in outputs:
            made = ", ".join(outputs)
            raise UserError(f"--restore {name}: the stems that are made are {made}; {did_you_mean(name, outputs)}")
        if known in chosen:
            raise UserError(f"--restore names {known} twice: leave one of them out")
        chosen.append(known)
    return replace(selection, restored=tuple(chosen))


def targets(path: Path, folder: Path, names: Iterable[str], extension: str, template: str) -> dict[str, Path]:
    """Output name -> file below ``folder`` for the input ``path``.

    ``template`` has the fields track, stem, ext, trackext, foldername (name of the folder of the input), folder (the
    way to it, from the working folder if it lies below that) and, as Spleeter calls them, filename, instrument and
    codec. Raises UserError for an unknown field, a result outside ``folder``, a name too long for a file, two outputs
    in one file, or an output that is the input.
    """
    found: dict[str, Path] = {}
    for name in names:
        target = _below(folder, _fill(template, path, name, extension))
        if target in found.values():
            raise UserError(f"--filename {template!r} gives several stems the name {target}: use {{stem}} in it")
        if _same(target, path):
            raise UserError(f"{path} would be overwritten by its own stem: choose another --output or --filename")
        found[name] = target
    return found


def refuse_collisions(jobs: Mapping[Path, Mapping[str, Path]]) -> None:
    """UserError if two inputs are written to one file, or an input is an output of another."""
    owners: dict[Path, Path] = {}
    inputs = {Path(os.path.realpath(path)): path for path in jobs}
    for path, files in jobs.items():
        for target in files.values():
            if target in owners:
                both = f"{owners[target]} and {path} would both be written to {target}"
                raise UserError(f"{both}: {_way_out(list(jobs))}")
            if (real := Path(os.path.realpath(target))) in inputs:
                raise UserError(f"{inputs[real]} would be overwritten by a stem of {path}: choose another --output")
            owners[target] = path


def _way_out(paths: Sequence[Path]) -> str:
    """What to do about songs of the same name."""
    mixtures = [path for path in paths if path.stem == "mixture"]
    if 0 < len(mixtures) < len(paths):
        place = shlex.quote(str(mixtures[0].parent.parent))
        return (
            f"to separate the mixtures of a data set, name them, {place}/*/{mixtures[0].name}, and use --filename "
            "'{foldername}/{stem}.{ext}'"
        )
    for template in _TELLING_APART:
        if len({_fill(template, path, "", "") for path in paths}) == len(paths):
            return f"use --filename '{template}'"
    return "separate them one by one"


def _index(name: str, sources: Sequence[str]) -> int:
    known = name if name in sources else canonical(name)
    if known in sources:
        return sources.index(known)
    raise UserError(f"this network has {', '.join(sources)} but no {name!r}: {did_you_mean(name, sources)}")


def _fill(template: str, path: Path, name: str, extension: str) -> str:
    values = {
        "track": path.stem,
        "filename": path.stem,
        "stem": name,
        "instrument": name,
        "ext": extension,
        "codec": extension,
        "trackext": path.suffix[1:],
        "foldername": path.resolve().parent.name,
        "folder": _way_to(path.parent),
    }
    try:
        used = {part for _, part, _, _ in string.Formatter().parse(template) if part is not None}
        unknown = [part for part in used if part not in values]
        if not unknown:
            return template.format(**values)
    except ValueError as error:
        raise UserError(f"--filename {template!r} is not understood: {error}") from error
    raise UserError(f"--filename {template!r} has the unknown field {unknown[0]!r}: {did_you_mean(unknown[0], FIELDS)}")


def _way_to(folder: Path) -> str:
    """A folder as a relative path without ``..``: from the working folder if it lies below that, else from the root."""
    place, here = Path(os.path.abspath(folder)), Path.cwd()
    return str(place.relative_to(here if place.is_relative_to(here) else place.anchor))


def _below(folder: Path, name: str) -> Path:
    target = Path(os.path.normpath(folder / name))
    root = Path(os.path.normpath(folder))
    if Path(name).is_absolute() or root not in target.parents:
        raise UserError(f"{name} leads out of the output folder {folder}: --filename must stay below it")
    if too_long := [part for part in target.relative_to(root).parts if len(os.fsencode(part)) > _LONGEST]:
        raise UserError(f"{too_long[0]} is too long for a file name ({_LONGEST} bytes): choose another --filename")
    return target


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
