"""The steps that an audit observes: the trainer's own and a separation's, on random data that are always the same.

Every family of networks has its configuration, recipe and trainer; a class each says what they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import paddle
from omegaconf import OmegaConf

import models
from models import card
from models.demucs import center_trim
from models.demucs_classic import DemucsV1, DemucsV2
from models.description import Description
from models.registry import describe, resolve
from runtime import config
from runtime.device import Device
from runtime.distributed import Group
from runtime.errors import UserError
from training import recipes, xp
from training.demucs import averages, loop_settings
from training.demucs_trainer import DemucsTrainer
from training.interrupts import StopRequests
from training.prepare import plain
from training.recipes.demucs import DemucsRecipe
from training.state import State
from training.trainer import Trainer

_OWN = "model."  # begins the overrides that are options of the network itself


class Subject(Protocol):
    """A network with the settings of its training, made of a name of the registry and overrides ``key=value``.

    Overrides of ``model.key`` are options of the network, the others belong to the training of its family. Raises
    `UserError` for an unknown key or value.

    Attributes:
        network: its name in the registry
        options: all that `models.create` needs besides the name
    """

    network: str
    options: dict[str, Any]

    def trainer(self, batch: int, segment: int, device: Device) -> Trainer:
        """The trainer of the family before its first step, on ``batch`` segments of so many frames or samples."""


def subject(network: str, overrides: Sequence[str] = ()) -> Subject:
    """What is audited under a name of the registry, in any accepted spelling."""
    kinds = {"magnitude": Magnitudes, "waveform": Waveforms}
    description = describe(network)
    if description.eats not in kinds:
        raise UserError(f"the audit makes no data for {network}, which eats {description.eats} spectrograms")
    return kinds[description.eats](resolve(network), overrides)


class Magnitudes:
    """A Spleeter, trained as ``configs/spleeter/base.yaml`` says with the options of the network's own variant."""

    def __init__(self, network: str, overrides: Sequence[str]):
        base = f"{network.split('_')[0]}/base"
        options = describe(network).config
        keys = config.load(base).model
        own = [f"{_OWN}{key}={json.dumps(options[key])}" for key in keys if key in options and key != "seed"]
        self.cfg = config.load(base, [f"network={network}", *own, *overrides])
        self.network, self.options = network, plain(self.cfg.model)

    def trainer(self, batch: int, segment: int, device: Device) -> Trainer:
        cfg, recipe = self.cfg, recipes.create(self.cfg)
        model = recipe.build_model()
        state = State.begin(cfg, model, recipe.optimizer(model), device)
        targets = random_stems(model.description, batch, segment)
        data = _Repeated({"mixture": targets.sum(axis=1), "targets": targets, "songs": ["random numbers"] * batch})
        return Trainer(cfg, recipe, state, data, None, Group(), _Silent(), StopRequests(), Path(), {})


class Waveforms:
    """A network of the Demucs family, trained as ``configs/demucs/config.yaml`` says.

    Those that no experiment can choose, the oldest, are trained as ``demucs`` is.
    """

    def __init__(self, network: str, overrides: Sequence[str]):
        own = [override for override in overrides if override.startswith(_OWN)]
        options = OmegaConf.to_container(OmegaConf.from_dotlist(own)).get("model", {})
        self.network, self.options = network, dict(describe(network, **options).config)
        sources = list(self.options["sources"])
        chosen = next((kind for kind in ("torch_hdemucs", "hdemucs", "htdemucs") if network.startswith(kind)), "demucs")
        self.cfg = xp.compose(
            [
                f"model={chosen}",
                f"dset.sources={json.dumps(sources)}",
                f"weights={json.dumps([1.0] * len(sources))}",
                *(override for override in overrides if override not in own),
            ]
        ).cfg

    def trainer(self, batch: int, segment: int, device: Device) -> Trainer:
        cfg, recipe = self.cfg, _Recipe(self)
        model = recipe.build_model()
        state = State(model, recipe.optimizer(model), averages(cfg, model))
        stems = random_stems(model.description, batch, segment)
        data = _Repeated({"stems": stems, "songs": ["random numbers"] * batch, "place": (0, 0)})
        train = OmegaConf.create({"train": loop_settings(cfg, steps=1)})
        common = train, recipe, state, data, None, Group(), _Silent(), StopRequests(), Path(), {}
        return DemucsTrainer(*common, experiment=cfg)


class _Recipe(DemucsRecipe):
    """That of the experiments, for a network that need not be one of theirs."""

    def __init__(self, audited: Waveforms):
        super().__init__(audited.cfg)
        self.audited = audited

    def create_network(self) -> paddle.nn.Layer:
        return models.create(self.audited.network, **self.audited.options)

    def loss(self, model: paddle.nn.Layer, batch: recipes.Batch) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
        if not isinstance(self.model, DemucsV1 | DemucsV2):
            return super().loss(model, batch)

        def lengthened(mixture: paddle.Tensor) -> paddle.Tensor:  # these give less than they take
            length = mixture.shape[2]
            missing = self.model.valid_length(length) - length
            return center_trim(model(card.pad(mixture, missing // 2, missing - missing // 2)), length)

        return super().loss(lengthened, batch)


def training_step(what: Subject, batch: int, segment: int, device: Device) -> Callable[[], object]:
    """One update of the weights, each time with the same data."""
    return what.trainer(batch, segment, device).update


def inference_step(what: Subject, batch: int, segment: int) -> Callable[[], object]:
    """The network's part of a separation: from the host's memory and back to it."""
    model = models.create(what.network, **what.options)
    model.eval()
    mixture = random_stems(model.description, batch, segment).sum(axis=1)

    def step() -> None:
        with paddle.no_grad():
            model(paddle.to_tensor(mixture)).numpy()

    return step


def random_stems(description: Description, batch: int, segment: int) -> np.ndarray:
    """Magnitudes ``[B, S, C, T, F]`` or waveforms ``[B, S, C, N]``, whichever the network eats."""
    shape, random = (batch, len(description.sources), description.channels, segment), np.random.default_rng(0)
    if description.eats == "magnitude":
        return random.random((*shape, description.config["frequency_bins"]), np.float32)
    return random.standard_normal(shape, np.float32)


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
