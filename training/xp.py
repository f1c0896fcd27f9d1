"""Demucs experiments: what they change of ``configs/demucs/config.yaml``, and the signature that follows from it.

An experiment is a list of overrides, ``key=value`` for one value and ``dset=``, ``svd=`` or ``variant=`` for a file of
that folder. Its signature is that of Dora (facebookresearch/dora): the first eight hexadecimal digits of the SHA-1 of
what the overrides change, written as JSON. So the published experiments of Demucs have here the signatures that they
have there. Imports no paddle.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import config, config_files
from runtime.errors import UserError
from runtime.nearest import did_you_mean
from training.xp_values import leaves, simplified, value_of, written

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIGS = config.CONFIGS / "demucs"
ROOT = "outputs"  # dora.dir, unless an override says otherwise
ARGV = ".argv.json"  # in an experiment's folder: its overrides
_ALWAYS_EXCLUDED = ("dora.*", "slurm.*")


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        signature: eight hexadecimal digits; names the experiment and its folder
        argv: the overrides, each key once
        delta: ``[key, value]`` of all that makes the signature: chosen files first, then values by key
        cfg: the whole configuration, an OmegaConf ``DictConfig`` that refuses unknown keys
        folder: where everything of the experiment lives
    """

    signature: str
    argv: list[str]
    delta: list[list[Any]]
    cfg: DictConfig
    folder: Path


def compose(overrides: Sequence[str] = (), configs: Path = CONFIGS) -> Experiment:
    """The experiment of these overrides; of several for one key, the last counts.

    Args:
        overrides: ``dotted.key=value`` or ``group=file``
        configs: folder of ``config.yaml`` and the groups

    Raises:
        UserError: unknown key or file (the nearest known one is named), a value of another type than the default
    """
    from omegaconf import OmegaConf

    argv, known = simplified(overrides), groups(configs)
    chosen, values = [], []
    for override in argv:
        key, _, text = (part.strip() for part in override.partition("="))
        if key in known:
            chosen.append((key, _file(key, text.strip("'\""), known[key])))
        else:
            values.append((key, text))
    base, defaults = _base(configs, tuple(chosen))
    cfg = copy.deepcopy(base)
    for key, text in values:
        OmegaConf.update(cfg, key, value_of(key, text, defaults))
    changed = [
        [key, value] for key, value in leaves(OmegaConf.to_container(cfg, resolve=True)) if value != defaults[key]
    ]
    delta = [[key, value] for key, value in [*map(list, chosen), *changed] if _counts(key, base)]
    name = signature(delta)
    return Experiment(name, argv, delta, cfg, Path(cfg.dora.dir) / "xps" / name)


def counted(experiment: Experiment) -> list[str]:
    """Those of the overrides whose keys make signatures."""
    return [text for text in experiment.argv if _counts(text.partition("=")[0].strip(), experiment.cfg)]


def _counts(key: str, cfg: DictConfig) -> bool:
    return not any(fnmatch(key, pattern) for pattern in (*cfg.dora.exclude, *_ALWAYS_EXCLUDED))


def signature(delta: Sequence[Sequence[Any]]) -> str:
    """Eight hexadecimal digits that name what was changed, whatever the order."""
    return hashlib.sha1(json.dumps(sorted(map(list, delta))).encode()).hexdigest()[:8]


def load(name: str, overrides: Sequence[str] = (), configs: Path = CONFIGS) -> Experiment:
    """The experiment of a signature, with further ``overrides`` if any: then it is another one.

    Known are the experiments that ran or were initialised below ``dora.dir``, and the published ones.

    Raises:
        UserError: nothing is known of that signature; the configuration's files were edited since
    """
    argv = known_argv(name, root(overrides), configs)
    found = compose(argv, configs)
    if found.signature != name:
        raise UserError(
            f"{name} has the signature {found.signature} now: files in {configs} were edited since it began; "
            "undo that, and say what shall be otherwise on the command line or in a new file below variant/"
        )
    return compose([*argv, *overrides], configs) if overrides else found


def known_argv(name: str, folder: Path, configs: Path = CONFIGS) -> list[str]:
    """The overrides behind a signature, looked for in ``folder``/xps and among the published experiments.

    Raises:
        UserError: nothing is known of it; names the nearest known one
    """
    path = folder / "xps" / name / ARGV
    if path.is_file():
        try:
            argv = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read: {error}") from error
        if not (isinstance(argv, list) and all(isinstance(override, str) for override in argv)):
            raise UserError(f"{path} is not a list of overrides")
        return argv
    released = published(configs)
    if name not in released:
        others = [*released, *(path.parent.name for path in folder.glob(f"xps/*/{ARGV}"))]
        raise UserError(
            f"there is no experiment {name}, neither in {folder / 'xps'} nor published: {did_you_mean(name, others)}"
        )
    return released[name]


def published(configs: Path = CONFIGS) -> dict[str, list[str]]:
    """Signature → overrides of the experiments that were published with Demucs."""
    path = configs / "experiments.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def root(overrides: Sequence[str] = ()) -> Path:
    """The folder that ``dora.dir`` in these overrides, or its default, names."""
    found = [text.partition("=")[2].strip().strip("'\"") for text in overrides if text.startswith("dora.dir=")]
    return Path(found[-1] if found else ROOT)


def elsewhere(experiment: Experiment, places: Mapping[str, Any]) -> Experiment:
    """The same experiment, of the same signature, with its data or whatever else is this machine's elsewhere.

    Args:
        experiment: is not changed
        places: dotted key → value, ``None`` leaves the key as it is
    """
    from omegaconf import OmegaConf

    cfg = copy.deepcopy(experiment.cfg)
    for key, value in places.items():
        if value is not None:
            OmegaConf.update(cfg, key, value)
    return dataclasses.replace(experiment, cfg=cfg)


def override(key: str, value: Any) -> str:
    """``key=value`` for a value of Python, as the command line has it."""
    return f"{key}={written(value)}"


def groups(configs: Path = CONFIGS) -> dict[str, list[str]]:
    """Name → files (without ``.yaml``) of each folder that a ``name=file`` override chooses from."""
    return {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in sorted(configs.iterdir())
        if folder.is_dir()
    }


def _file(group: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise UserError(f"{group}={name}: there is no such file; {did_you_mean(name, known)}")
    return name


@lru_cache(maxsize=64)
def _base(configs: Path, chosen: tuple[tuple[str, str], ...]) -> tuple[DictConfig, dict[str, Any]]:
    """What an experiment is measured against: the configuration with the chosen files, and its values by key."""
    from omegaconf import OmegaConf

    cfg = config_files.compose([configs], "config", [f"{group}={name}" for group, name in chosen])
    return cfg, dict(leaves(OmegaConf.to_container(cfg, resolve=True)))
