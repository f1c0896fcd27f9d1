"""What has to be settled before the processes of a run start. Imports no paddle."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pretrained
from data.index import read_index
from models.registry import describe
from runtime import checkpoint, config
from runtime.console import log
from runtime.errors import UserError
from runtime.files import require_writable

FROM_SCRATCH = "or train from scratch with -lm False"


def prepare(cfg: Any, restart: bool = False, offline: bool = False) -> Path:
    """Checks what can be checked early and fetches published weights if the run will begin with them.

    Args:
        cfg: the configuration of the run
        restart: begin anew; what the run has written so far is set aside
        offline: never download

    Returns:
        The run's folder, writable.

    Raises:
        UserError: impossible options, no index, nothing to start from, a folder that cannot be written
    """
    check_numbers(cfg)
    describe(cfg.network, **plain(cfg.model))
    read_index(cfg.data.index)
    folder = config.run_folder(cfg, cfg.model_dir)
    if restart:
        set_aside(folder)
    if checkpoint.latest(folder) is None:
        initial_weights(cfg, offline)
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
    train = cfg.train
    if train.steps is None and train.epochs is None:
        raise UserError("train.steps and train.epochs are both null: say how long to train (--steps or --epochs)")
    for key in (
        "batch_size",
        "accumulate",
        "processes",
        "save_every",
        "keep",
        "check_every",
        "max_bad_steps",
        "log_every",
    ):
        if train[key] < 1:
            raise UserError(f"train.{key}={train[key]}: it must be at least 1")
    for key in ("steps", "epochs", "valid_every", "valid_segments", "lr", "clip", "weight_decay", "audio_seconds"):
        if train[key] is not None and train[key] < 0:
            raise UserError(f"train.{key}={train[key]}: it cannot be negative")
    if not 0 <= train.ema < 1:
        raise UserError(f"train.ema={train.ema}: the decay lies between 0 (off) and 1")


def initial_weights(cfg: Any, offline: bool = False) -> Path | None:
    """Where the weights of a new run come from; None means from scratch.

    Raises:
        UserError: they cannot be had; says how to go on
    """
    if cfg.train.init == "scratch":
        return None
    try:
        return pretrained.resolve(cfg.network if cfg.train.init == "published" else cfg.train.init, offline)
    except UserError as failure:
        raise UserError(f"there are no weights to start from (-lm True): {failure}; {FROM_SCRATCH}") from failure


def set_aside(folder: Path) -> None:
    """Renames a run's folder, so that the run begins anew and nothing is lost."""
    if folder.exists():
        target = folder.with_name(f"{folder.name}-until-{time.strftime('%Y%m%d-%H%M%S')}")
        with alone(folder):
            folder.rename(target)
        log(f"the run so far was set aside as {target}")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One training at a time in a run's folder; the claim ends with the process, however it ends.

    Raises:
        UserError: another process trains there
    """
    require_writable(folder)
    with open(folder / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: another process is training this very run; wait for it or stop it") from error
        yield
