"""Finding configurations and composing them with Hydra."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import UserError
from runtime.nearest import did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

OWN_KEYS = ("config_name", "config_base")  # what a loaded configuration says about itself


@dataclass(frozen=True)
class Source:
    """A configuration file that was found, and where the files it inherits from are."""

    name: str  # of the configuration
    base: str  # name below the configs of the file that holds all its keys
    file: str  # as Hydra wants it: below the first folder, without .yaml
    folders: tuple[Path, ...]


@contextmanager
def located(name: str, group: str | None, configs: Path) -> Iterator[Source]:
    """Find ``name`` among the configs, in their folder ``group``, or as a path; `UserError` if it is none of these."""
    known = [path.relative_to(configs).with_suffix("").as_posix() for path in configs.rglob("*.yaml")]
    path = Path(name).resolve()
    within = path.with_suffix("").relative_to(configs.resolve()).as_posix() if path.is_relative_to(configs) else name
    for candidate in (name, f"{group}/{name}", within):
        if candidate in known:
            yield Source(candidate, _base_beside(candidate, known), candidate, (configs,))
            return
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise UserError(f"there is no configuration {name}: {did_you_mean(name, known)}")
    with tempfile.TemporaryDirectory() as scratch:
        yield _own_file(path, group, configs, known, Path(scratch))


def _own_file(path: Path, group: str | None, configs: Path, known: list[str], scratch: Path) -> Source:
    """Put a user's file where it is alone, with a defaults list if it has none."""
    from omegaconf import DictConfig, OmegaConf

    with readable_errors(str(path)):
        content = OmegaConf.load(path)
    if not isinstance(content, DictConfig):
        raise UserError(f"{path} must consist of 'key: value' lines")
    name, base = (content.pop(key, None) for key in OWN_KEYS)
    parents = [entry for entry in content.pop("defaults", ()) if isinstance(entry, str) and entry != "_self_"]
    parents = parents or [base or (f"{group}/base" if group else "")]
    if not parents[0]:
        raise UserError(f"{path} does not say what it changes: begin it with 'defaults: [spleeter/2stems, _self_]'")
    candidates = [parents[0], f"{group}/{parents[0]}"]
    found = next((candidate for candidate in candidates if candidate in known), None)
    if found is None:
        raise UserError(f"{path} inherits from {parents[0]}, which is not there: {did_you_mean(parents[0], known)}")
    text = OmegaConf.to_yaml(OmegaConf.merge({"defaults": [found, *parents[1:], "_self_"]}, content))
    (scratch / f"{path.stem}.yaml").write_text(text, "utf-8")
    return Source(name or path.stem, _base_beside(found, known), path.stem, (scratch, path.parent, configs))


def _base_beside(name: str, known: list[str]) -> str:
    base = f"{name.rpartition('/')[0]}/base"
    return base if base in known else name


def compose(folders: Sequence[Path], file: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Let Hydra compose ``file`` of the first folder, looking for inherited files in all of them."""
    import hydra

    first, *more = (str(Path(folder).resolve()) for folder in folders)
    search = [f"hydra.searchpath=[{','.join(quoted(f'file://{folder}') for folder in more)}]"] if more else []
    with readable_errors(file), hydra.initialize_config_dir(first, version_base="1.3"):
        return hydra.compose(file, overrides=[*search, *overrides])


def quoted(text: str) -> str:
    """``text`` as one word in Hydra's grammar of overrides, unless it is quoted already."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (r"\'" if found[2] else ""), text) + "'"


@contextmanager
def readable_errors(what: str) -> Iterator[None]:
    """Make `UserError` of what Hydra, OmegaConf and the YAML reader complain about."""
    import hydra.errors
    import omegaconf.errors
    import yaml

    try:
        yield
    except (hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException, yaml.YAMLError, OSError) as error:
        sentence = " ".join(str(error).split("\nSee http")[0].split())
        raise UserError(f"configuration {what}: {sentence}") from error
