"""The experiments of `repro`, fine-tuned on automix."""

from __future__ import annotations

from collections.abc import Iterator

from training import xp
from training.grids import repro
from training.xp_grids import Needs, join

NEEDS = Needs(cards=8, minutes=300)
_TUNING = {
    "dset": "auto_mus",
    "dset.segment": 28,
    "dset.shift": 2,
    "model_segment": 44,
    "epochs": 4,
    "batch_size": 16,
    "optim.lr": 1e-4,
    "ema.epoch": [0.9, 0.95],
    "ema.batch": [0.9995, 0.9999],
    "augment.remix.proba": 0,
    "augment.scale.proba": 0,
    "augment.shift_same": True,
    "test.every": 1,
    "test.sdr": True,
}


def experiments() -> Iterator[list[str]]:
    """One for each experiment of `repro`; none can begin before that one has finished."""
    for argv in repro.experiments():
        yield join(argv, {"continue_from": xp.compose(argv).signature}, _TUNING)
