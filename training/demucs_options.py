"""Refuses values of an experiment that no training can work with. Imports no paddle."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from runtime.errors import UserError

_LIMITS = (  # keys, what their values must fulfil, the same in words; null is always allowed where it is a default
    ("optim.lr", lambda value: 0 < value < 1e3, "it must be above 0"),
    (
        "epochs batch_size max_batches save_every test.every svd.dim svd.niters svd.bs quant.group_size",
        lambda value: value >= 1,
        "it must be at least 1",
    ),
    (
        "optim.weight_decay optim.clip_grad svd.penalty svd.min_size quant.diffq quant.min_size test.shifts seed "
        "misc.num_workers test.workers weights",
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


def check(cfg: Any) -> None:
    """Looks at the values of an experiment's configuration.

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
    if len(cfg.weights) != len(cfg.dset.sources) or not sum(cfg.weights) > 0:
        raise UserError(f"weights={list(cfg.weights)}: one number for each of {', '.join(cfg.dset.sources)} is needed")
    if cfg.quant.diffq and cfg.quant.qat:
        raise UserError("quant.diffq and quant.qat exclude each other: set one of them to null")
