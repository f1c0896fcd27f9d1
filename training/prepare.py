"""What has to be settled before the processes of a run start. Imports no paddle."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pretrained
from models.registry import describe, resolve
from pretrained import apollo, bsrnn
from runtime import checkpoint, config
from runtime.console import log
from runtime.errors import UserError
from runtime.files import alone, require_writable
from training import recipes
from training.schedule import learning_rate

_OTHERS = 3  # runs to mention beside a new one
_ORIGINALS = {  # families whose files say which network they are of: the reader, and options that shapes depend on
    "apollo": (apollo, ("feature_dim", "layer")),
    "bsrnn": (bsrnn, ("t_timesteps", "fc_dim", "rnn_dim", "num_layers", "mlp_dim")),
}
_LIMITS = (  # keys, what their values must fulfil, the same in words
    (
        "train.batch_size train.accumulate train.processes train.save_every train.keep train.check_every "
        "train.max_bad_steps train.log_every train.schedule.steps train.schedule.every train.early_stop.patience "
        "data.samples_per_epoch data.batches_per_epoch data.valid_step data.frames",
        lambda value: value >= 1,
        "it must be at least 1",
    ),
    (
        "train.steps train.epochs train.seed train.valid_every train.valid_segments train.lr train.clip "
        "train.weight_decay train.epsilon train.audio_seconds train.schedule.warmup train.schedule.floor "
        "train.schedule.factor train.schedule.warmup_epochs train.schedule.alpha train.early_stop.min_delta "
        "train.threshold data.workers",
        lambda value: 0 <= value < 2**63,
        "it must be a finite number that is not negative",
    ),
    ("train.ema train.betas", lambda value: 0 <= value < 1, "it must be at least 0 and below 1"),
)


def prepare(cfg: Any, restart: bool = False, offline: bool = False) -> Path:
    """Checks what can be checked early and fetches published weights if the run will begin with them.

    Args:
        cfg: the configuration of the run
        restart: begin anew; what the run has written so far is set aside
        offline: never download

    Returns:
        The run's folder, writable.

    Raises:
        UserError: impossible options, no index or no segments, nothing to start from, a folder that cannot be written
    """
    check_numbers(cfg)
    describe(cfg.network, **plain(cfg.model))
    index, folder = recipes.index(cfg), config.run_folder(cfg, cfg.model_dir)
    if restart or checkpoint.latest(folder) is None:
        mention_others(cfg, folder)
        initial_weights(cfg, offline)
    recipes.datasets(cfg, index)
    if restart:
        set_aside(folder)
    return require_writable(folder)


def plain(section: Any) -> Any:
    """A part of a configuration as Python's own dicts and lists, interpolations resolved."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(section, resolve=True)


def check_numbers(cfg: Any) -> None:
    """Refuses values that no training can work with.

    Raises:
        UserError: names the key
    """
    train = plain(cfg.train)
    if train["steps"] is None and train["epochs"] is None:
        raise UserError("train.steps and train.epochs are both null: say how long to train (--steps or --epochs)")
    if len(train["betas"]) != 2:
        raise UserError(f"train.betas={train['betas']}: it needs two numbers")
    values = {f"data.{key}": value for key, value in plain(cfg.data).items()}
    values |= {f"train.{key}": value for key, value in train.items()}
    for section in ("schedule", "early_stop"):
        values |= {f"train.{section}.{key}": value for key, value in train[section].items()}
    for keys, fits, demand in _LIMITS:
        for key in keys.split():
            value = values.get(key)
            if value is not None and not all(map(fits, value if isinstance(value, list) else [value])):
                raise UserError(f"{key}={value}: {demand}")
    learning_rate(cfg.train, 0)


def mention_others(cfg: Any, folder: Path) -> None:
    """Says which other runs there are beside a run that is about to begin: a forgotten option makes another run."""
    found = []
    for path in folder.parent.glob(f"{'[0-9a-f]' * 8}/config.yaml"):
        if path.parent != folder and (last := checkpoint.latest(path.parent)):
            found.append((config.changes(config.read(path), cfg), last))
    for differences, last in sorted(found, key=lambda one: len(one[0]))[:_OTHERS]:
        options = " ".join(f"{key}={value}" for key, value in differences.items())
        log(f"this is not the run {last.parents[1]} (step {int(last.name.rpartition('-')[2])}), which has {options}")


def initial_weights(cfg: Any, offline: bool = False) -> Path | None:
    """Where the weights of a new run come from; None means from scratch.

    Raises:
        UserError: they cannot be had; says how to go on
    """
    if cfg.train.init == "scratch":
        return None
    published = cfg.train.init == "published"
    try:
        return pretrained.resolve(cfg.network if published else cfg.train.init, offline)
    except UserError as failure:
        missing = "there are no weights to start from (-lm True)"
        if not published:
            missing = f"the weights to start from, {cfg.train.init}, cannot be had"
        raise UserError(f"{missing}: {failure}; {_from_scratch(cfg)}") from failure


def way_out(cfg: Any, source: Path) -> str:
    """How to go on where the weights in ``source`` do not fit the network; names the options that they need."""
    own, needed = plain(cfg.model), {}
    reader, sizes = _ORIGINALS.get(resolve(cfg.network).split("_")[0], (None, ()))
    if reader and source.is_file():
        with suppress(UserError):  # what the weights failed by says more
            needed = reader.options_of(source)
    texts = [f"model.{key}={json.dumps(needed[key])}" for key in sizes if key in needed and needed[key] != own[key]]
    return (f"such weights need {' '.join(texts)}; " if texts else "") + _from_scratch(cfg)


def _from_scratch(cfg: Any) -> str:
    if cfg.train.init == "published":
        return "or train from scratch with -lm False"
    return "or train from scratch without them"


def set_aside(folder: Path) -> None:
    """Renames a run's folder, so that the run begins anew and nothing is lost."""
    if folder.exists():
        target = folder.with_name(f"{folder.name}-until-{time.strftime('%Y%m%d-%H%M%S')}")
        with claim(folder):
            folder.rename(target)
        log(f"the run so far was set aside as {target}")


def claim(folder: Path) -> AbstractContextManager[bool]:
    """One training at a time in a run's folder; the claim ends with the process, however it ends.

    Raises:
        UserError: another process trains there
    """
    require_writable(folder)
    return alone(folder, f"{folder}: another process is training this very run; wait for it or stop it")
