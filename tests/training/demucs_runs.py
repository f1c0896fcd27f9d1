"""Runs of Demucs experiments inside the test process, and what they leave."""

from pathlib import Path
from typing import Any

from runtime import checkpoint
from runtime.device import Device
from runtime.distributed import Group
from training import xp
from training.interrupts import StopRequests

TINY = (  # a network, songs and epochs that take a second
    "dset.samplerate=8000",
    "dset.musdb_samplerate=8000",
    "dset.segment=0.75",
    "dset.shift=0.25",
    "model=demucs",
    "demucs.channels=4",
    "demucs.depth=3",
    "demucs.norm_starts=2",
    "demucs.dconv_lstm=2",
    "demucs.dconv_attn=2",
    "demucs.resample=false",
    "augment.repitch.proba=0",
    "batch_size=4",
    "max_batches=3",
    "misc.num_workers=0",
    "test.every=2",
    "test.sdr=false",
)
EVERYTHING = (  # all that has a state of its own, or random numbers
    "optim.optim=adamw",
    "optim.weight_decay=0.01",
    "optim.clip_grad=0.1",
    "test.metric=nsdr",
    "ema.batch=[0.9,0.99]",
    "ema.epoch=[0.5]",
    "svd.penalty=1e-3",
    "svd.min_size=0.001",
    "svd.dim=4",
    "svd.proba=0.6",
    "quant.diffq=1e-3",
    "quant.min_size=0.001",
    "weights=[1,1,0.5,2]",
)


def experiment(songs: Path, out: Path, *overrides: str) -> xp.Experiment:
    """An experiment of the tiny network on ``songs``."""
    found = xp.compose([*TINY, f"dora.dir={out}", *overrides])
    return xp.elsewhere(found, {"dset.musdb": str(songs), "dset.metadata": str(songs.parent / "metadata")})


def train(one: xp.Experiment, device: str = "cpu") -> int:
    """Runs an experiment in this process and returns its exit status."""
    from training import demucs

    with StopRequests() as requests:
        return demucs.run(one, Device(device, 0, "test"), Group(), requests)


def outcome(one: xp.Experiment, kind: str = "checkpoints") -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays and numbers of the last (or best) checkpoint, without what time and place put in."""
    folder = one.folder
    groups, state = checkpoint.load(checkpoint.latest(folder) if kind == "checkpoints" else checkpoint.best(folder))
    for key in ("seconds", "saved_at", "config", "sha256"):
        del state[key]
    for line in state["history"]:
        del line["seconds"]
    return groups, state
