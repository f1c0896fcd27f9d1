"""A run from its configuration: folder, data, network, weights or resume, then the trainer."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import paddle

import pretrained
from models.registry import resolve
from runtime import checkpoint, config, console
from runtime.device import Device
from runtime.distributed import Group
from runtime.errors import UserError
from training import prepare, recipes
from training.curve import LossCurve
from training.interrupts import StopRequests
from training.journal import Clock, Journal
from training.state import State
from training.stream import Stream

LOG = "train.log"  # in the run's folder: what the first process said, of all sessions


def run(cfg: Any, device: Device, group: Group, requests: StopRequests) -> int:
    """Trains what ``cfg`` describes, going on with the run of the same signature if there is one.

    Args:
        cfg: a configuration of ``runtime.config.load``
        device: the active device
        group: the processes
        requests: signals to stop

    Returns:
        Exit status, see :meth:`training.trainer.Trainer.fit`.

    Raises:
        UserError: no data, no weights to start from, a checkpoint that does not fit, a folder that is in use
    """
    if group.size != cfg.train.processes:
        raise UserError(
            f"{group.size} processes train a run of train.processes={cfg.train.processes}: say -npn {group.size}"
        )
    folder = config.run_folder(cfg, cfg.model_dir)
    if not group.is_main:
        return _run(cfg, device, group, requests, folder)
    with prepare.claim(folder), console.logged(folder / LOG):
        return _run(cfg, device, group, requests, folder)


def _run(cfg: Any, device: Device, group: Group, requests: StopRequests, folder: Path) -> int:
    clock, train = Clock(), cfg.train
    index, recipe = recipes.index(cfg), recipes.create(cfg)
    data, valid = recipes.datasets(cfg, index)
    identity = {
        "network": resolve(cfg.network),
        "signature": config.signature(cfg),
        "config_name": cfg.config_name,
        "config": prepare.plain(cfg),
        "data": fingerprint(data),
    }
    state, origin = begin(cfg, recipe, device, folder, identity)
    stream = Stream(
        data,
        state,
        train.seed,
        train.batch_size,
        group.rank,
        group.size,
        cfg.data.workers,
        drop_last=train.drop_last,
        finish=recipes.finish(cfg, group.rank, group.size),
    )
    if not len(stream.plan(0)):
        raise UserError(f"{data.summary()}: they do not fill one batch of {train.batch_size} a process; lower it (-bs)")
    validation = recipes.validation(cfg, valid, recipe, group) if valid else None

    global_batch = train.batch_size * group.size * train.accumulate
    curve = LossCurve(folder) if train.get("loss_curve") and group.is_main else None
    journal = Journal(folder, train, global_batch, len(stream.plan(0)) / train.accumulate, group.is_main, curve)
    journal.say(f"config: {cfg.config_name}, signature {identity['signature']}, folder {folder}")
    for note in recipe.notes:
        journal.say(note)
    journal.say(f"weights: {origin}")
    journal.say(f"data: {index.path}; train: {data.summary()}; valid: {valid.summary() if valid else 'none'}")
    journal.say(
        f"batch: {train.batch_size} a process × {group.size} processes × {train.accumulate} accumulated "
        f"= {global_batch} segments an update"
    )
    if train.amp and state.scaler is None:
        journal.warn("-amp has no effect on the CPU: training in float32")
    if validation is None:
        journal.warn("there are no validation songs: no weights can be called the best, the last ones count")
    if group.is_main:
        config.dump(cfg, folder / "config.yaml")

    heard = valid and train.get("audio_seconds")
    listen = partial(recipe.listen, state.model, index, valid.songs[0]) if heard else dict
    trainer = recipes.trainer(cfg)(
        cfg, recipe, state, stream, validation, group, journal, requests, folder, identity, listen
    )
    status = trainer.fit()
    journal.conclude(state, status, clock)
    return status


def begin(
    cfg: Any, recipe: recipes.Recipe, device: Device, folder: Path, identity: dict[str, Any]
) -> tuple[State, str]:
    """The state to start with (that of the last checkpoint, or step 0), and a phrase that says where it is from.

    Raises:
        UserError: the checkpoint is damaged or of another network or data set; nothing to start from
    """
    train, last = cfg.train, checkpoint.latest(folder)
    paddle.seed(train.seed)
    model = recipe.build_model()
    origin = f"from scratch, seed {train.seed}"
    source = prepare.initial_weights(cfg, offline=True) if last is None else None
    if source is not None:
        try:
            weights = pretrained.load_weights(model, source)
        except UserError as failure:
            raise UserError(f"{failure}; {prepare.way_out(cfg, source)}") from failure
        source, origin = weights.path, f"{weights.path} ({weights.kind}, {weights.hash})"
    state = recipes.trainer(cfg).begin(cfg, recipe, model, device, source)
    if state.opponent and source is not None:
        origin += f"; discriminator: {state.opponent.origin}"
    if last is not None:
        groups, saved = checkpoint.load(last, network=identity["network"])
        if saved.get("data") != identity["data"]:
            raise UserError(
                f"{last} was trained on other songs than there are now: bring them back, begin anew with --restart, "
                f"or start another run from these weights with train.init={last}"
            )
        state.restore(groups, saved)
        if checkpoint.best(folder) is None:  # nothing to beat
            state.best = state.best_step = None
        origin = f"resumed from {last} (step {state.step}, {checkpoint.weights_hash(groups['model'])})"
    return state, origin


def fingerprint(data: Any) -> str:
    """Twelve hexadecimal digits that name the training songs, the parts of them that count, and an epoch's length."""
    facts = [len(data), *(song.fingerprint for song in data.songs), *getattr(data, "stretches", ())]
    return hashlib.sha256("\n".join(map(str, facts)).encode()).hexdigest()[:12]
