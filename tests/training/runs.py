"""Runs of the real trainer inside the test process, and what they leave."""

from pathlib import Path
from typing import Any

import numpy as np

from runtime import checkpoint, config
from runtime.device import Device
from runtime.distributed import Group
from training.interrupts import StopRequests


def settings(places: dict[str, Path]) -> list[str]:
    """Overrides that every run of these tests shares: where the data are, 16 kHz, no long lines."""
    return [f"data.dataset={places['dataset']}", f"data.cache={places['cache']}", "model.sample_rate=16000"]


def train(cfg: Any, device: str = "cpu") -> int:
    """Runs the trainer in this process and returns its exit status."""
    from training import experiment

    with StopRequests() as requests:
        return experiment.run(cfg, Device(device, 0, "test"), Group(), requests)


def outcome(cfg: Any, kind: str = "checkpoints") -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Arrays and numbers of a run's last (or best) checkpoint, without what time and place put in."""
    run = config.run_folder(cfg, cfg.model_dir)
    groups, state = checkpoint.load(checkpoint.latest(run) if kind == "checkpoints" else checkpoint.best(run))
    for key in ("seconds", "saved_at", "config", "sha256"):
        del state[key]
    for line in state["history"]:
        del line["seconds"]
    return groups, state


def assert_equal(one: Any, other: Any) -> None:
    """Both checkpoints of `outcome` are equal, every bit of every array included."""
    assert one[1] == other[1]
    assert {name: sorted(arrays) for name, arrays in one[0].items()} == {
        name: sorted(arrays) for name, arrays in other[0].items()
    }
    for group, arrays in one[0].items():
        for name, array in arrays.items():
            assert array.dtype == other[0][group][name].dtype
            assert array.tobytes() == other[0][group][name].tobytes(), f"{group}: {name}"
