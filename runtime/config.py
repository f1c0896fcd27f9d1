"""Configurations: YAML composed by Hydra, changed by ``key=value``, checked against the defaults, named by a hash.

Every network has a folder in ``configs/`` whose ``base.yaml`` holds all keys with their defaults; the other files of
the folder, files of the user, and overrides may change values, never invent keys or types. A folder in that folder is a
group of files, one of which the base chooses (``schedule: default`` in its defaults); ``schedule=paper`` chooses
another. Two lists of dotted keys at
the top of a base are read here: ``machine_only``, the keys that do not make another run, and ``nullable``, those that
may be ``null`` although their default is not. A loaded configuration also knows its ``config_name`` and
``config_base``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.atomic import atomic_write
from runtime.config_files import OWN_KEYS, compose, located, quoted, readable_errors
from runtime.errors import UserError
from runtime.nearest import did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_LISTS = ("machine_only", "nullable")
_WANTED = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", list: "a list"}


def load(
    name: str | os.PathLike, overrides: Sequence[str] = (), group: str | None = None, configs: Path = CONFIGS
) -> DictConfig:
    """Compose configuration ``name`` and apply ``overrides`` (``dotted.key=value``, the last one of a key wins).

    ``name`` is ``folder/variant`` below ``configs``, ``variant`` alone if ``group`` says which folder is meant, or the
    path of a YAML file anywhere, which may inherit (``defaults: [spleeter/2stems, _self_]``) or just list what it
    changes of the base of ``group``. Returns an OmegaConf ``DictConfig`` that refuses unknown keys. Raises `UserError`
    for an unknown name or key (naming the nearest known one) and for a value of another type than its default.
    """
    from omegaconf import OmegaConf, open_dict

    with located(str(name), group, configs) as source:
        spelled = [_choice(text, source.base, configs) for text in overrides]
        base = _base(configs, source.base, tuple(choice for choice in spelled if choice))
        defaults = _tree(base, source.base)
        prepared = [choice or _prepared(text, defaults) for text, choice in zip(overrides, spelled, strict=True)]
        cfg = compose(source.folders, source.file, prepared)
    nullable = base.get("nullable") or ()
    for key, value in list(_leaves(_tree(cfg, source.name))):
        conformed = _conformed(key, value, defaults, nullable)
        if conformed is not value:
            OmegaConf.update(cfg, key, conformed)
    with open_dict(cfg):
        cfg.config_name, cfg.config_base = source.name, source.base
    return cfg


def base_of(cfg: DictConfig, configs: Path = CONFIGS) -> DictConfig:
    """The configuration whose keys and defaults ``cfg`` is measured against; it must not be changed."""
    return _base(configs, cfg.config_base)


def _base(configs: Path, file: str, choices: tuple[str, ...] = ()) -> DictConfig:
    return _own_base(file, choices) if configs == CONFIGS else compose([configs], file, choices)


@functools.lru_cache(16)
def _own_base(file: str, choices: tuple[str, ...]) -> DictConfig:
    """Hydra takes a tenth of a second, and each configuration is measured against the same one again and again."""
    return compose([CONFIGS], file, choices)


def diff(cfg: DictConfig, base: DictConfig) -> dict[str, Any]:
    """Dotted key → value of everything that ``cfg`` has otherwise than ``base``, interpolations resolved."""
    defaults = dict(_leaves(_tree(base, cfg.config_base)))
    return {
        key: value
        for key, value in _leaves(_tree(cfg))
        if key not in OWN_KEYS and (key not in defaults or defaults[key] != value)
    }


def changes(cfg: DictConfig, base: DictConfig) -> dict[str, Any]:
    """The part of `diff` that makes another run: all but the keys that ``base`` calls machine-only."""
    skipped = (*_LISTS, *(base.get("machine_only") or ()))
    return {
        key: value for key, value in diff(cfg, base).items() if not any(f"{key}.".startswith(f"{s}.") for s in skipped)
    }


def signature(cfg: DictConfig, base: DictConfig | None = None) -> str:
    """Eight hexadecimal digits that name a run: its configuration's name and all it changes but machine-only keys."""
    identity = json.dumps([cfg.config_name, changes(cfg, base_of(cfg) if base is None else base)], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def run_folder(cfg: DictConfig, root: str | os.PathLike, base: DictConfig | None = None) -> Path:
    """``<root>/<configuration name>/<signature>``: where everything of this run lives."""
    return Path(root, cfg.config_name, signature(cfg, base))


def dump(cfg: DictConfig, path: str | os.PathLike) -> None:
    """Write the resolved configuration as YAML; `load` of that file gives the same run again."""
    from omegaconf import OmegaConf

    with atomic_write(path, "w") as handle:
        handle.write(OmegaConf.to_yaml(cfg, resolve=True))


def read(path: str | os.PathLike) -> DictConfig:
    """A configuration that `dump` wrote, as it is: its keys may be those of another version."""
    from omegaconf import OmegaConf

    with readable_errors(str(path)):
        return OmegaConf.load(path)


# ---------------------------------------------------------------------------------------------------- keys and types


def _tree(cfg: DictConfig, name: str | None = None) -> dict:
    from omegaconf import OmegaConf

    with readable_errors(name or cfg.config_name):
        return OmegaConf.to_container(cfg, resolve=True)


def _leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of all that is not a group of keys; an empty group counts as a value."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _default(key: str, defaults: dict) -> Any:
    """Value of a dotted key; ``None`` below a default of ``null`` or ``{}``, which leave open what they hold."""
    value: Any = defaults
    for name in key.split("."):
        if value is None or (value == {} and value is not defaults):
            return None
        if not isinstance(value, dict) or name not in value:
            raise UserError(f"unknown key {key}: {did_you_mean(key, [known for known, _ in _leaves(defaults)])}")
        value = value[name]
    return value


def _choice(override: str, base: str, configs: Path) -> str | None:
    """``group=file`` as Hydra spells it, where the group is a folder of or beside the base; None for a key's value."""
    key, _, value = (part.strip() for part in override.partition("="))
    beside = base.rpartition("/")[0]
    for folder, spelling in ((f"{beside}/{key}", f"{beside}/{key}@{key}"), (key, key)):
        files = [path.stem for path in configs.joinpath(*folder.split("/")).glob("*.yaml")]
        if value and files and re.fullmatch(r"\w+", key):
            if value not in files:
                raise UserError(f"{override}: there is no {key} of this name, {did_you_mean(value, files)}")
            return f"{spelling if beside else key}={value}"
    return None


def _prepared(override: str, defaults: dict) -> str:
    """``key=value`` so that Hydra reads it as the default's type asks: paths with spaces and commas stay words.

    The ``++`` lets it add what a default of ``{}`` leaves open; that the key is known otherwise has been checked here.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = (part.strip() for part in override.partition("="))
    if not equals or not re.fullmatch(r"\w[\w.-]*", key):
        raise UserError(f"{override!r} is not understood: write key=value, for example train.lr=3e-4", status=2)
    default = _default(key, defaults)
    if isinstance(default, dict) and default:
        raise UserError(f"{key} is a group of keys: set them one by one, for example {key}.{next(iter(default))}=…")
    if isinstance(default, str) and value != "null":
        return f"++{key}={quoted(value)}"
    try:
        parsed = OverridesParser.create().parse_override(f"{key}={value}")
        readable = not parsed.is_sweep_override()
    except HydraException:
        readable = False
    if readable:
        return f"++{key}={value}"
    if default is None:
        return f"++{key}={quoted(value)}"
    raise _wrong_type(key, value, default)


def _conformed(key: str, value: Any, defaults: dict, nullable: Collection[str]) -> Any:
    """``value`` in the type of its default, or `UserError`."""
    default = _default(key, defaults)
    if default is None or default == {} or (value is None and key in nullable):
        return value
    if isinstance(default, list) and isinstance(value, list):
        pattern = default[0] if default else None
        items = [item if pattern is None else _cast(item, pattern) for item in value]
        if ... not in items:
            return items
    elif (cast := _cast(value, default)) is not ...:
        return cast
    raise _wrong_type(key, value, default)


def _cast(value: Any, default: Any) -> Any:
    """``value`` if it has the type of ``default`` or loses nothing by taking it, else ``...``."""
    if type(value) is type(default):
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(default) is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return ...


def _wrong_type(key: str, value: Any, default: Any) -> UserError:
    value = value if isinstance(value, str) else json.dumps(value)
    return UserError(f"{key}={value}: it must be {_WANTED[type(default)]}, like the default {json.dumps(default)}")
