"""The training step that an audit observes: the trainer's own, with the recipe of the network's family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from omegaconf import OmegaConf

from models import card
from models.demucs import center_trim
from models.demucs_classic import DemucsV1, DemucsV2
from models.rmvpe_config import PITCHES
from runtime.device import Device
from runtime.distributed import Group
from runtime.errors import UserError
from training import recipes
from training.audit_steps import Subject, random_stems
from training.demucs import averages, loop_settings
from training.demucs_trainer import DemucsTrainer
from training.interrupts import StopRequests
from training.recipes.demucs import DemucsRecipe
from training.state import State
from training.trainer import Trainer


def training_step(audited: Subject, batch: int, segment: int, device: Device) -> Callable[[], object]:
    """One update of the weights, each time with the same data.

    Args:
        audited: the network
        batch: segments
        segment: frames or samples of each
        device: the active one
    """
    stems = random_stems(audited.description, batch, segment)
    make = _common_trainer if "network" in audited.cfg else _experiment_trainer
    return make(audited, stems, ["random numbers"] * batch, device).update


def _common_trainer(audited: Subject, stems: Any, songs: list[str], device: Device) -> Trainer:
    cfg, recipe = audited.cfg, recipes.create(audited.cfg)
    loop, mixture = recipes.trainer(cfg), stems.sum(axis=1)
    state = loop.begin(cfg, recipe, recipe.build_model(), device)
    batch = {"mixture": mixture, "targets": stems, "target": mixture / 2, "songs": songs}  # targets of all, of one
    batch |= {"codec": mixture, "original": mixture / 2}
    if audited.description.eats == "mel":
        salience = np.random.default_rng(1).random((len(mixture), mixture.shape[-1], PITCHES), np.float32)
        batch = {"mel": mixture, "target": salience, "songs": songs}
    data = _Repeated(batch)
    return loop(cfg, recipe, state, data, None, Group(), _Silent(), StopRequests(), Path(), {})


def _experiment_trainer(audited: Subject, stems: Any, songs: list[str], device: Device) -> Trainer:
    cfg, recipe = audited.cfg, WaveformRecipe(audited)
    model = recipe.build_model()
    state = State(model, recipe.optimizer(model), averages(cfg, model))
    data = _Repeated({"stems": stems, "songs": songs, "place": (0, 0)})
    train = OmegaConf.create({"train": loop_settings(cfg, steps=1)})
    looked_after = None, Group(), _Silent(), StopRequests(), Path(), {}
    return DemucsTrainer(train, recipe, state, data, *looked_after, experiment=cfg)


class WaveformRecipe(DemucsRecipe):
    """That of the experiments, for a network that need not be one of theirs."""

    def __init__(self, audited: Subject):
        super().__init__(audited.cfg)
        self.audited = audited

    def create_network(self) -> paddle.nn.Layer:
        return self.audited.create()

    def loss(self, model: paddle.nn.Layer, batch: recipes.Batch) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
        if not isinstance(self.model, DemucsV1 | DemucsV2):
            return super().loss(model, batch)

        def lengthened(mixture: paddle.Tensor) -> paddle.Tensor:  # these give less than they take
            length = mixture.shape[2]
            missing = self.model.valid_length(length) - length
            return center_trim(model(card.pad(mixture, missing // 2, missing - missing // 2)), length)

        return super().loss(lengthened, batch)


class _Repeated:
    """In the place of a stream of batches: always the same."""

    def __init__(self, batch: dict[str, Any]):
        self._batch = batch

    def next(self) -> dict[str, Any]:
        return self._batch


class _Silent:
    """In the place of a journal: a step that was not taken cannot be audited, the rest is nobody's business."""

    def step(self, *_: object) -> None:
        pass

    def warn(self, message: str) -> None:
        raise UserError(f"the audited step was skipped: {message}")
