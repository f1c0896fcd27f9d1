"""What models there are: published ones of the Demucs family, and those in a folder of packages and bags."""

from __future__ import annotations

from pathlib import Path

from pretrained import catalogue, demucs
from pretrained.package import SUFFIXES
from runtime import console
from runtime.errors import UserError
from runtime.nearest import did_you_mean


def files(name: str, repo: str | Path | None = None, offline: bool = False) -> list[Path]:
    """The packages of a bag or of a single network, in the bag's order; published ones are fetched if need be.

    Raises:
        UserError: unknown name, no such folder, a package that is missing, damaged, or cannot be fetched
    """
    if repo is None:
        return [demucs.fetch(signature, offline) for signature in demucs.members(name)]
    bags, singles = contents(repo)
    if name not in (*bags, *singles):
        raise UserError(f"there is no model {name} in {repo}: {did_you_mean(name, [*bags, *singles])}")
    wanted = demucs.read_bag(bags[name])[0] if name in bags else [name]
    missing = [signature for signature in wanted if signature not in singles]
    if missing:
        raise UserError(f"there is no package of {missing[0]} in {repo}")
    return [singles[signature] for signature in wanted]


def contents(repo: str | Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Bags and single networks in a folder: name or signature -> file. UserError if there is no such folder."""
    folder = Path(repo)
    if not folder.is_dir():
        raise UserError(f"there is no folder {repo} to look for models in")
    packages = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    singles = {path.stem.rpartition("-")[0] or path.stem: path for path in packages}
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}, singles


def listing(repo: str | Path | None = None) -> str:
    """What ``--list-models`` says: names with published weights, or those in a folder."""
    if repo is None:
        spleeter = [name for archive in catalogue.ARCHIVES for name in archive.networks]
        groups = {"spleeter": spleeter, "bag": demucs.names(), "single network": sorted(demucs.signatures())}
    else:
        groups = dict(zip(("bag", "single network"), contents(repo), strict=True))
    return console.table([[name, kind] for kind, names in groups.items() for name in names], ["name", "kind"])
