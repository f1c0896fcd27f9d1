"""MUSDB-HQ in one setting for all networks, with ablations. `repro_ft` fine-tunes them."""

from __future__ import annotations

from collections.abc import Iterator

from training.xp_grids import Needs, join

NEEDS = Needs(cards=8, minutes=3 * 24 * 60)
_ALL = {"epochs": 600, "ema.epoch": [0.9, 0.95], "ema.batch": [0.9995, 0.9999]}
_V2 = {"model": "demucs", "demucs.dconv_mode": 0, "demucs.gelu": False, "demucs.lstm_layers": 2}
_TIME = {"model": "demucs", "demucs.normalize": True}
_HYBRID = {"model": "hdemucs"}
_SVD = {"svd": "base2", "svd.penalty": 1e-5}
_ABLATIONS = (
    {"ema.epoch": [], "ema.batch": []},
    {"demucs.dconv_lstm": 10},
    {"demucs.dconv_attn": 10},
    {"demucs.dconv_attn": 10, "demucs.dconv_lstm": 10, "demucs.lstm_layers": 2},
    {"demucs.dconv_mode": 0},
    {"demucs.gelu": False},
)


def experiments() -> Iterator[list[str]]:
    """Demucs v2; two seeds each of the waveform's and the hybrid network (the bag `repro_mdx_a`); the ablations."""
    yield join(_ALL, _V2, {"epochs": 360})
    for network in (_TIME, _HYBRID):
        for seed in ({}, {"seed": 43}):
            yield join(_ALL, network, _SVD, seed)
        if network is _TIME:
            yield join(_ALL, network)
            for changes in _ABLATIONS:
                yield join(_ALL, network, _SVD, changes)
