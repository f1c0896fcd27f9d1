"""Hybrid Transformer Demucs, fine-tuned for each source apart: the bag `htdemucs_ft`."""

from __future__ import annotations

from collections.abc import Iterator

from training import xp
from training.xp_grids import Needs, join

NEEDS = Needs(cards=4, minutes=3 * 24 * 60)
SEGMENTS = {"2899e11a": (15, 18), "955717e8": (10, 15)}  # s; of a 15 s network with 7 layers, and of `htdemucs`
_TUNING = {
    "epochs": 50,
    "batch_size": 8,
    "optim.optim": "adamw",
    "optim.lr": 1e-4,
    "optim.clip_grad": 5,
    "htdemucs.t_weight_decay": 0.05,
    "augment.remix.proba": 0,
    "augment.scale.proba": 0,
    "augment.shift_same": True,
    "dset.wav2_valid": True,
    "ema.epoch": [],
    "continue_best": True,
}


def experiments() -> Iterator[list[str]]:
    """Each network as it was, then one fine-tuning for each length of the segments and each source."""
    for start, lengths in SEGMENTS.items():
        argv = xp.load(start).argv
        yield argv
        for seconds in lengths:
            for source in range(4):
                weights = [int(place == source) for place in range(4)]
                yield join(argv, _TUNING, {"continue_from": start, "weights": weights, "dset.segment": seconds})
