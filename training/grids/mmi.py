"""Hybrid Transformer Demucs and what it was compared with, on MUSDB-HQ and 800 further songs."""

from __future__ import annotations

from collections.abc import Iterator

from training.xp_grids import Needs, join

NEEDS = Needs(cards=8, minutes=3 * 24 * 60)
_BASE = {
    "dset": "extra_mmi_goodclean",
    "dset.segment": 10,
    "batch_size": 32,
    "max_batches": 800,
    "ema.epoch": [0.9, 0.95],
    "ema.batch": [0.9995, 0.9999],
    "test.shifts": 0,
    "model": "htdemucs",
    "htdemucs.depth": 4,
    "htdemucs.dconv_mode": 3,
    "htdemucs.t_dropout": 0.02,
    "htdemucs.t_layers": 5,
}
_SPARSE = {
    "batch_size": 24,
    "augment.remix.group_size": 3,
    "htdemucs.t_layers": 7,
    "htdemucs.t_auto_sparsity": True,
    "htdemucs.t_sparse_self_attn": True,
    "htdemucs.t_sparse_cross_attn": True,
    "htdemucs.t_sparsity": 0.9,
}
_CROPPED = 10 * 0.88  # s; repitching crops every example to 0.88 of its length, without it there is no crop


def experiments() -> Iterator[list[str]]:
    """The hybrid network on three data sets; transformers of two depths and widths, on segments of three lengths."""
    for data in ({}, {"dset": "extra44"}, {"dset": "musdb44"}):
        yield join(_BASE, {"model": "hdemucs"}, data)
    for layers in (5, 7):
        for width in (0, 512):
            network = join(_BASE, {"htdemucs.t_layers": layers, "htdemucs.bottom_channels": width})
            for changes in _ablations(layers, width):
                yield join(network, changes)
            for seconds in (5, 10, 15):
                yield join(network, {"dset.segment": seconds})


def _ablations(layers: int, width: int) -> Iterator[dict]:
    if layers != 5:
        return
    if width == 0:
        yield {"augment.remix.proba": 0.0}
        yield {"augment.repitch.proba": 0.0, "dset.segment": _CROPPED}
    else:
        yield {"dset": "musdb44"}
        yield {"dset": "extra44"}
        yield {**_SPARSE, "dset.segment": 15}
