"""Refuses values of an experiment that no training can work with. Imports no paddle."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from runtime.errors import UserError

_LIMITS = (  # keys, what their values must fulfil, the same in words; null is always allowed where it is a default
    ("optim.lr", lambda value: 0 < value < 1e3, "it must be above 0"),
    (
        "epochs batch_size max_batches save_every test.every svd.dim svd.niters svd.bs quant.group_size "
        "dset.samplerate dset.channels dset.valid_samples",
        lambda value: value >= 1,
        "it must be at least 1",
    ),
    ("dset.segment", lambda value: 0 < value < 1e6, "it must be above 0"),
    (
        "dset.wav2_weight",
        lambda value: 0 < value < 1,
        "it must be above 0 and below 1; without a weight each song counts alike",
    ),
    (
        "optim.weight_decay optim.clip_grad svd.penalty svd.min_size quant.diffq quant.min_size test.shifts seed "
        "misc.num_workers test.workers weights dset.shift augment.remix.group_size",
        lambda value: 0 <= value < 2**63,
        "it must be a finite number that is not negative",
    ),
    (
        "optim.momentum optim.beta2 test.overlap ema.batch ema.epoch",
        lambda value: 0 <= value < 1,
        "it must be at least 0 and below 1",
    ),
    ("svd.proba", lambda value: 0 < value <= 1, "it must be above 0 and at most 1"),
)
_CHOICES = {
    "optim.loss": ("l1", "mse"),
    "optim.optim": ("adam", "adamw"),
    "test.metric": ("loss", "nsdr"),
    "model": ("demucs", "hdemucs", "torch_hdemucs", "htdemucs"),
}


def check(cfg: Any, processes: int = 1) -> None:
    """Looks at the values of an experiment's configuration.

    Args:
        cfg: the whole configuration
        processes: that share a batch

    Raises:
        UserError: names the key
    """
    for keys, fits, demand in _LIMITS:
        for key in keys.split():
            value = OmegaConf.select(cfg, key)
            if value is not None and not all(map(fits, value if OmegaConf.is_list(value) else [value])):
                raise UserError(f"{key}={value}: {demand}")
    for key, known in _CHOICES.items():
        value = OmegaConf.select(cfg, key)
        if value not in known:
            raise UserError(f"{key}={value}: choose {' or '.join(known)}")
    if len(cfg.weights) != len(cfg.dset.sources):
        raise UserError(
            f"weights={list(cfg.weights)}: there are {len(cfg.dset.sources)} sources, so as many weights are needed"
        )
    if not sum(cfg.weights) > 0:
        raise UserError(f"weights={list(cfg.weights)}: one of them must be above 0")
    if cfg.quant.diffq and cfg.quant.qat:
        raise UserError("quant.diffq and quant.qat exclude each other: set one of them to null")
    if cfg.model == "htdemucs" and not (cfg.test.split and cfg.valid_apply):
        raise UserError("htdemucs hears no more at once than in training: leave test.split and valid_apply on")
    _check_batch(cfg, processes)


def _check_batch(cfg: Any, processes: int) -> None:
    size, remix = cfg.batch_size, cfg.augment.remix
    if size % processes:
        raise UserError(
            f"batch_size={size} cannot be shared out to {processes} processes: "
            f"it counts the examples of all of them, so choose a multiple of {processes}"
        )
    if remix.proba and remix.group_size and size // processes % remix.group_size:
        raise UserError(
            f"augment.remix.group_size={remix.group_size} does not divide the {size // processes} examples that a "
            "process has of a batch: change it or batch_size"
        )
