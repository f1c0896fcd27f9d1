"""Published models of the Demucs family by name: single networks by signature, and bags of several.

Names, addresses and checksums are those of facebookresearch/demucs. A repository is a folder with packages named
``SIGNATURE.th``, ``SIGNATURE-CHECKSUM.th`` (or ``.safetensors``) and with ``NAME.yaml`` files that list bags.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrained.download import root_folder
from pretrained.package import SUFFIXES, Package, read_package
from runtime import files
from runtime.console import log
from runtime.disk import sha256
from runtime.errors import UserError
from runtime.nearest import did_you_mean

ROOT_URL = "https://dl.fbaipublicfiles.com/demucs/"
BAGS = Path(__file__).parent / "bags"
UNTRAINED = "demucs_unittest"  # a small network with random weights, for tests of what is around it

# folder below the root -> files: signature, first eight digits of the file's SHA-256
_FILES = {
    "mdx_final": """
        0d19c1c6-0f06f20e 5d2d6c55-db83574e 7d865c68-3d5dd56b 7ecf8ec1-70f50cc9 a1d90b5c-ae9d2452 c511e2ab-fe698775
        cfa93e08-61801ae1 e51eebcc-c1b80bdd 6b9c2ca1-3fd82607 b72baf4e-8778635e 42e558d4-196e0e1b 305bc58f-18378783
        14fc6a69-a89dd0ee 464b36d7-e5a9386e 7fd6ef75-a905dd85 83fc094f-4a16d450 1ef250f1-592467ce 902315c2-b39ce9c9
        9a6b4851-03af0aa6 fa0cb7f9-100d8bf4""",
    "hybrid_transformer": """
        955717e8-8726e21a f7e0c4bc-ba3fe64a d12395a8-e57c48e6 92cfc3b6-ef3bcb9c 04573f0d-f3cf25b2 75fc33f5-1941ce65
        5c90dfd2-34c22ccb""",
}


@dataclass(frozen=True)
class Bag:
    """Networks whose estimates are averaged, source by source.

    Attributes:
        name: name of the bag, or signature of the only network
        models: networks in evaluation mode; the same object twice where a bag lists it twice
        weights: one row a network, one number a source (1 unless the bag says otherwise)
        segments: seconds of one input of each network
        packages: where the networks came from; empty for networks in memory
    """

    name: str
    models: tuple[Any, ...]
    weights: tuple[tuple[float, ...], ...]
    segments: tuple[float, ...]
    packages: tuple[Package, ...] = ()

    @classmethod
    def of(
        cls,
        models: Sequence[Any],
        weights: Sequence[Sequence[float]] | None = None,
        segment: float | None = None,
        name: str = "bag",
        packages: Sequence[Package] = (),
    ) -> Bag:
        """A bag of networks in memory.

        ``segment`` (seconds) replaces each network's own, but never makes that of a network of fixed length longer.

        Raises:
            UserError: no networks, networks that do not fit together, or weights of another form
        """
        if not models:
            raise UserError(f"{name}: a bag needs at least one network")
        facts = [model.description for model in models]
        for key in ("sources", "sample_rate", "channels"):
            if len({getattr(each, key) for each in facts}) > 1:
                raise UserError(f"{name}: its networks differ in {key}: {[getattr(each, key) for each in facts]}")
        sources = facts[0].sources
        rows = [[1.0] * len(sources) for _ in models] if weights is None else [list(row) for row in weights]
        if len(rows) != len(models) or any(len(row) != len(sources) for row in rows):
            form = f"{len(models)} rows (networks) of {len(sources)} numbers ({', '.join(sources)})"
            raise UserError(f"{name}: weights must be {form}")
        for source, column in zip(sources, zip(*rows, strict=True), strict=True):
            if any(not weight >= 0 for weight in column) or sum(column) <= 0:
                raise UserError(f"{name}: the weights of {source} must not be negative, and not all be zero")
        own = [each.segment / each.sample_rate for each in facts]
        segments = [
            length if segment is None or (each.fixed_length and segment > length) else float(segment)
            for length, each in zip(own, facts, strict=True)
        ]
        return cls(name, tuple(models), tuple(map(tuple, rows)), tuple(segments), tuple(packages))

    @property
    def sources(self) -> tuple[str, ...]:
        """Stem names in the order of the source axis."""
        return self.models[0].description.sources

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.models[0].description.sample_rate

    samplerate = sample_rate  # the original's spelling

    @property
    def channels(self) -> int:
        """Audio channels that the networks work on."""
        return self.models[0].description.channels

    audio_channels = channels


def names() -> list[str]:
    """The published bags, alphabetically."""
    return sorted(path.stem for path in BAGS.glob("*.yaml"))


def signatures() -> dict[str, str]:
    """Signature of every published network -> its address below `ROOT_URL`."""
    return {
        entry.split("-")[0]: f"{folder}/{entry}.th" for folder, entries in _FILES.items() for entry in entries.split()
    }


def is_name(name: str, repo: str | Path | None = None) -> bool:
    """Whether `get_model` knows ``name``."""
    return (repo is None and name == UNTRAINED) or any(name in known for known in contents(repo))


def get_model(
    name: str, repo: str | Path | None = None, offline: bool = False, say: Callable[[str], None] = log
) -> Bag:
    """The published networks behind a name, downloaded when they are not here, in evaluation mode.

    Args:
        name: a bag (``htdemucs_ft``), or the signature of one network (``955717e8``), which makes a bag of one
        repo: look in this folder instead, and download nothing
        offline: never download
        say: hears what is downloaded

    Raises:
        UserError: unknown name, no connection, a wrong checksum, a damaged file, a bag that contradicts itself
    """
    if name == UNTRAINED and repo is None:
        import models

        return Bag.of([models.create("hdemucs", channels=4)], name=name)
    found = locate(name, repo, offline, say)
    packages = {path: read_package(path).with_segment(found.segment) for path in dict.fromkeys(found.paths)}
    built = {path: package.build(say) for path, package in packages.items()}
    models_, used = [built[path] for path in found.paths], [packages[path] for path in found.paths]
    return Bag.of(models_, found.weights, found.segment, name, used)


@dataclass(frozen=True)
class Found:
    """The files of a bag or of a single network, in its order, and what the bag says of them."""

    paths: list[Path]
    weights: list[list[float]] | None = None
    segment: float | None = None


def locate(name: str, repo: str | Path | None = None, offline: bool = False, say: Callable[[str], None] = log) -> Found:
    """The packages behind a name, verified by the checksums in their names; arguments and errors as of `get_model`."""
    bags, singles = contents(repo)
    if not bags and not singles:
        raise UserError(f"{repo} holds neither packages ({', '.join(SUFFIXES)}) nor bags (.yaml)")
    if name not in bags and name not in singles:
        where = f" in {repo}" if repo is not None else ""
        raise UserError(f"there is no model {name}{where}: {did_you_mean(name, [*bags, *singles])}")
    wanted, weights, segment = read_bag(bags[name]) if name in bags else ([name], None, None)
    if missing := [signature for signature in wanted if signature not in singles]:
        raise UserError(f"there is no package of {missing[0]} in {repo or 'the published models'}")
    if repo is None:
        paths = {signature: fetch(signature, offline, say) for signature in dict.fromkeys(wanted)}
    else:
        paths = {signature: _only(singles[signature]) for signature in dict.fromkeys(wanted)}
    return Found([paths[signature] for signature in wanted], weights, segment)


def contents(repo: str | Path | None = None) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """Bags (name -> file) and single networks (signature -> files) of a folder, or the published ones.

    Raises:
        UserError: no such folder
    """
    folder = BAGS if repo is None else Path(repo)
    if not folder.is_dir():
        raise UserError(f"there is no folder {repo} to look for models in")
    bags = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if repo is None:
        return bags, {signature: [place(signature)] for signature in signatures()}
    packages: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in SUFFIXES:
            packages.setdefault(path.stem.rpartition("-")[0] or path.stem, []).append(path)
    return bags, packages


def members(name: str) -> list[str]:
    """The signatures of the networks behind a published name, each once."""
    return list(dict.fromkeys(read_bag(BAGS / f"{name}.yaml")[0])) if name in names() else [name]


def url(signature: str) -> str:
    """The address of a published network; the environment's DEMUCS_URL names a mirror of `ROOT_URL`."""
    return os.environ.get("DEMUCS_URL", ROOT_URL).rstrip("/") + "/" + signatures()[signature]


def place(signature: str, root: str | Path | None = None) -> Path:
    """Where the file of a published network is kept: ``demucs`` in the folder of published weights."""
    return root_folder(root) / "demucs" / Path(signatures()[signature]).name


def fetch(
    signature: str, offline: bool = False, say: Callable[[str], None] = log, root: str | Path | None = None
) -> Path:
    """The file of a published network, verified; downloaded if it is not there.

    Raises:
        UserError: damaged, not there while ``offline``, or no connection
    """
    target, address = place(signature, root), url(signature)
    if target.is_file():
        _check(target)
        return target
    by_hand = f"fetch {address} on another machine and put it there"
    if offline:
        raise UserError(f"{target} is not there, and downloading is off: {by_hand}")
    say(f"downloading {address}")
    try:
        files.download([address], target, sha256=_checksum(target))
    except UserError as failure:
        raise UserError(f"{failure}. Without a connection, {by_hand}") from failure
    return target


def fetch_members(name: str, repo: str | Path | None = None, offline: bool = False) -> None:
    """Downloads what is not here of the networks behind a published name, before there are processes that would wait.

    Nothing is to be done for other names, or where networks come from ``repo``; errors as of `fetch`.
    """
    if repo is None and name != UNTRAINED and is_name(name):
        for signature in members(name):
            fetch(signature, offline)


def _only(found: list[Path]) -> Path:
    if len(found) > 1:
        raise UserError(f"there are several packages of one network ({', '.join(map(str, found))}): keep one")
    _check(found[0])
    return found[0]


def _checksum(path: Path) -> str | None:
    """The digits of the SHA-256 that the name of a package ends with."""
    return path.stem.rpartition("-")[2] if "-" in path.stem else None


def _check(path: Path) -> None:
    expected = _checksum(path)
    if expected and not (found := sha256(path)).startswith(expected.lower()):
        raise UserError(
            f"{path} is damaged: its SHA-256 begins with {found[:8]}; remove it, so that it is fetched anew"
        )


def read_bag(path: Path) -> tuple[list[str], list[list[float]] | None, float | None]:
    """Signatures, weights and segment (seconds) of a bag's file; `UserError` if it makes no sense."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as failure:
        raise UserError(f"{path} is no YAML file: {' '.join(str(failure).split())}") from failure
    if not isinstance(content, Mapping) or not isinstance(content.get("models"), list) or not content["models"]:
        raise UserError(f"{path} lists no models: it needs a line such as 'models: [955717e8]'")
    weights, segment = content.get("weights"), content.get("segment")
    numbers = (int, float)
    rows = weights is None or (
        isinstance(weights, list)
        and all(isinstance(row, list) and all(isinstance(number, numbers) for number in row) for row in weights)
    )
    if not rows or not (segment is None or (isinstance(segment, numbers) and segment > 0)):
        raise UserError(f"{path}: weights must be rows of numbers, and segment a number of seconds")
    return [str(model) for model in content["models"]], weights, segment
