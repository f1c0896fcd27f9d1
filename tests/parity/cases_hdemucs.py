"""Golden cases of the hybrid networks of facebookresearch/demucs and of torchaudio."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from tests.parity.cases_demucs import build, forward, train_l1
from tests.parity.golden import Case


def options(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """A case leaves out what the original class has as default; the released variants differ from it."""
    from models.registry import FAMILIES

    config = next(family.config for family in FAMILIES if name in family.variants)
    return {**asdict(config()), **given}


def _create(name: str) -> Callable[[Case], Any]:
    return lambda case: build(name, options(name, case.config), case)


def same_as(case: Case) -> dict[str, np.ndarray]:
    """What torchaudio's class says, and how far the original's is from it with the same weights under other names."""
    import models
    import pretrained

    ours = forward(case, _create("torch_hdemucs"))["output"]
    weights = {}
    for name, array in case.state.items():
        for old, new in case.run["rename"]:
            name = new + name[len(old) :] if name.startswith(f"{old}.") else name
        weights[name] = array
    for name in case.run["unused"]:
        del weights[name]
    other = models.create("hdemucs", **options("hdemucs", case.run["other_config"]))
    pretrained.load_reference_state(other, weights)
    theirs = forward(case, lambda _: other)["output"]
    return {"output": ours, "difference": np.abs(ours - theirs).max()}


_NETWORKS = {"demucs.HDemucs": "hdemucs", "demucs.HTDemucs": "htdemucs", "torchaudio.HDemucs": "torch_hdemucs"}
CASES = {
    (arch, op): partial(run, create=_create(name))
    for arch, name in _NETWORKS.items()
    for op, run in (("forward", forward), ("train_l1", train_l1))
}
CASES["torchaudio.HDemucs", "same_as"] = same_as
