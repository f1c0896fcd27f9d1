"""A run of the Demucs family from its experiment: folder, data, network, weights or resume, then the trainer."""

from __future__ import annotations

from contextlib import closing, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from omegaconf import OmegaConf

from data.demucs_augment import Augmentation, augment, batch_generator
from models.tensors import tensors
from pretrained import demucs as published
from runtime import checkpoint, console
from runtime.device import Device
from runtime.distributed import Group
from runtime.errors import UserError
from training import prepare
from training.demucs_data import Data, fingerprint, load
from training.demucs_journal import EpochJournal
from training.demucs_options import check
from training.demucs_trainer import DemucsTrainer
from training.ema import EMA
from training.interrupts import StopRequests
from training.journal import Clock
from training.recipes import Batch
from training.recipes.demucs import DemucsRecipe
from training.state import State, load_optimizer
from training.stream import Stream
from training.xp_network import exported

_STEPS_PER_SAVE = 1000  # besides the end of every epoch


def run(experiment: Any, device: Device, group: Group, requests: StopRequests, cache: str | Path | None = None) -> int:
    """Trains an experiment, going on where it stopped if it was begun before.

    Args:
        experiment: of ``training.xp``; all that is written lies below its ``folder``
        device: the active device
        group: the processes
        requests: signals to stop
        cache: folder for waveforms, for songs that take long to decode

    Returns:
        Exit status, see :meth:`training.trainer.Trainer.fit`.

    Raises:
        UserError: no data, options that contradict each other, no weights to start from, a checkpoint that does not
            fit, a folder that is in use
    """
    cfg = experiment.cfg
    check(cfg, group.size)
    if cfg.misc.show:
        return _show(cfg, group)
    with prepare.claim(experiment.folder) if group.is_main else nullcontext():
        data = load(cfg, group, cache)
        with closing(data.train):
            return _run(experiment, device, group, requests, data)


def _run(experiment: Any, device: Device, group: Group, requests: StopRequests, data: Data) -> int:
    clock, cfg, folder = Clock(), experiment.cfg, Path(experiment.folder)
    recipe = DemucsRecipe(cfg)
    name, options = exported(cfg)
    identity = {
        "network": name,
        "signature": experiment.signature,
        "config": {"network": name, "model": _json(options), "experiment": prepare.plain(cfg)},
        "data": fingerprint(data.train),
    }
    state, origin = begin(cfg, recipe, folder, identity)
    batch_size = cfg.batch_size // group.size
    stream = Stream(
        data.train,
        state,
        int(cfg.seed),
        batch_size,
        group.rank,
        group.size,
        cfg.misc.num_workers,
        drop_last=True,
        limit=1 if cfg.debug or cfg.flag == "debug" else cfg.max_batches,
        finish=Finish(cfg, group.rank, group.size),
    )
    steps = stream.length(stream.plan(0))
    if not steps:
        raise UserError(f"{data.train.summary()}: they do not fill one batch of {cfg.batch_size}; lower batch_size")
    train = loop_settings(cfg, steps)
    journal = EpochJournal(folder, train, cfg.batch_size, steps, group.is_main)
    journal.say(f"experiment {experiment.signature}, folder {folder}")
    journal.say(f"network: {name}, {_size(state.model):.1f} MB; device: {device.name}; weights: {origin}")
    journal.say(f"train: {data.train.summary()}; valid: {len(data.valid)} songs; test: {len(data.test or ())} songs")
    journal.say(f"batch: {batch_size} a process × {group.size} processes; {steps} batches an epoch")
    valid = data.valid if cfg.flag != "debug" else [data.valid[0]]
    trainer = DemucsTrainer(
        OmegaConf.create({"train": train}),
        recipe,
        state,
        stream,
        valid,
        group,
        journal,
        requests,
        folder,
        identity,
        tests=data.test,
        experiment=cfg,
    )
    status = trainer.fit()
    journal.conclude(state, status, clock)
    return status


def loop_settings(cfg: Any, steps: int) -> Any:
    """What the trainer calls ``train``, for an experiment whose epochs have ``steps`` updates."""
    return OmegaConf.create(
        {
            "seed": int(cfg.seed),
            "steps": None,
            "epochs": int(cfg.epochs),
            "accumulate": 1,
            "lr": float(cfg.optim.lr),
            "schedule": {"kind": "constant", "warmup": 0},
            "early_stop": {"patience": None, "min_delta": 0.0},
            "clip": float(cfg.optim.clip_grad),
            "max_bad_steps": 10,
            "valid_every": 0,
            "save_every": _STEPS_PER_SAVE,
            "keep": 1,
            "check_every": 100,
            "log_every": max(steps // max(cfg.misc.num_prints, 1), 1),
            "visualdl": False,
        }
    )


class Finish:
    """Makes new music out of a batch of stems.

    Args:
        cfg: the experiment's configuration
        rank, processes: which share of a global batch this process has
    """

    def __init__(self, cfg: Any, rank: int, processes: int):
        self.options, self.seed = Augmentation.from_config(cfg.augment), int(cfg.seed)
        self.shift = int(cfg.dset.samplerate * cfg.dset.shift)
        self.share = {"rank": rank, "processes": processes}

    def __call__(self, batch: Batch, epoch: int, position: int) -> Batch:
        """``stems [B, S, C, N]`` become shorter by the shift; ``place`` says where in the run the batch is."""
        random = batch_generator(self.seed, epoch, position)
        stems = augment(batch["stems"], self.options, random, self.shift, **self.share)
        return {"stems": stems, "songs": batch["songs"], "place": (epoch, position)}


# --------------------------------------------------------------------------------------------------------- beginnings


def begin(cfg: Any, recipe: DemucsRecipe, folder: Path, identity: dict[str, Any]) -> tuple[State, str]:
    """The state to start with, and a phrase that says where it is from.

    That is the last checkpoint of the run; or else the weights that ``continue_pretrained`` or ``continue_from`` name;
    or new ones.

    Raises:
        UserError: a checkpoint is damaged, of another network or of other songs; the weights cannot be had
    """
    model = recipe.build_model()
    optimizer = recipe.optimizer(model)
    last, origin = checkpoint.latest(folder), f"new, seed {cfg.seed}"
    if last is None and cfg.continue_pretrained:
        origin = _published(cfg, model)
    elif last is None and cfg.continue_from:
        origin = _continued(cfg, model, optimizer, folder)
    state = State(model, optimizer, averages(cfg, model))
    if last is not None:
        groups, saved = checkpoint.load(last, network=identity["network"])
        if saved.get("data") != identity["data"]:
            raise UserError(
                f"{last} was trained on other songs than there are now: bring them back, begin anew with --clear, or "
                f"make another experiment of it with continue_from={folder.name}"
            )
        state.restore(groups, saved)
        origin = f"resumed from {last} (epoch {state.epoch}, step {state.step})"
    return state, origin


def averages(cfg: Any, model: paddle.nn.Layer) -> dict[str, EMA]:
    """The moving averages of ``ema.batch`` and ``ema.epoch``, which begin with the model's weights."""
    every = {"batch": "step", "epoch": "epoch"}
    return {
        f"ema_{kind}_{number}": EMA(model, float(decay), unbiased=True, every=every[kind])
        for kind in ("batch", "epoch")
        for number, decay in enumerate(cfg.ema[kind] or ())
    }


def _published(cfg: Any, model: paddle.nn.Layer) -> str:
    networks = published.get_model(cfg.continue_pretrained, repo=cfg.pretrained_repo).models
    if len(networks) != 1:
        raise UserError(
            f"continue_pretrained={cfg.continue_pretrained} is a bag of {len(networks)} networks: "
            "name one of them by its signature"
        )
    arrays = {name: value.numpy() for name, value in tensors(networks[0]).items()}
    _take(model, arrays, f"continue_pretrained={cfg.continue_pretrained}", strict=True)
    return f"published {cfg.continue_pretrained}"


def _continued(cfg: Any, model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer, folder: Path) -> str:
    """The weights of another experiment; what only one of the networks has is left out, as in the original."""
    other = folder.parent / str(cfg.continue_from)
    source = checkpoint.best(other) if cfg.continue_best else checkpoint.latest(other)
    if source is None:
        known = str(cfg.continue_from) in published.signatures()
        instead = f", or begin with its published weights: continue_pretrained={cfg.continue_from}" if known else ""
        raise UserError(f"continue_from={cfg.continue_from}: {other} has no checkpoint; train it first{instead}")
    groups, state = checkpoint.load(source)
    _take(model, groups["model"] | groups.get("quantiser", {}), str(source), strict=False)
    origin = f"{source} (epoch {state['epoch']})"
    if cfg.continue_opt:
        last = checkpoint.latest(other)
        load_optimizer(optimizer, model, checkpoint.load(last, ["optimizer"])[0]["optimizer"])
        origin += f", optimiser of {last}"
    return origin


def _take(model: paddle.nn.Layer, arrays: dict[str, np.ndarray], source: str, strict: bool) -> None:
    """Loads what has the same names.

    Raises:
        UserError: nothing does, something has another shape, or (``strict``) something is missing
    """
    own = tensors(model)
    wrong = [name for name, tensor in own.items() if name in arrays and list(arrays[name].shape) != tensor.shape]
    common = own.keys() & arrays.keys()
    if strict:
        wrong += [name for name in own if name not in arrays and not name.endswith("_diffq")]
    if wrong or not common:
        raise UserError(
            f"{source} is of another network than this experiment's: " + (", ".join(wrong[:5]) or "no name is common")
        )
    for name in common:
        own[name].set_value(arrays[name])


def _show(cfg: Any, group: Group) -> int:
    """Prints the network instead of training it (``misc.show``)."""
    model = DemucsRecipe(cfg).create_network()
    if group.is_main:
        console.log(str(model))
        console.log(f"size: {_size(model):.1f} MB")
        console.log(f"field: {1000 * model.valid_length(1) / cfg.dset.samplerate:.1f} ms")
    return 0


def _size(model: paddle.nn.Layer) -> float:
    return sum(parameter.size for parameter in model.parameters()) * 4 / 2**20


def _json(options: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Fraction) else value for name, value in options.items()}
