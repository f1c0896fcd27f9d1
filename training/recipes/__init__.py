"""One recipe a network: what a batch means, its loss, what its validation measures. The loop is the same for all."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from runtime.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import paddle

    from data.index import Index, Song
    from runtime.distributed import Group
    from training.trainer import Trainer

Batch = dict[str, Any]  # arrays by name, and ``songs``: the names of the songs they come from


@dataclass(frozen=True)
class Family:
    """Where the code for one family of networks is, as ``module:name``; the data's imports no paddle."""

    recipe: str  # (cfg) -> Recipe
    datasets: str  # (cfg, index) -> training and validation segments
    finish: str | None = None  # (cfg, rank, processes) -> what changes a training batch, see `training.stream.Stream`
    index: str | None = None  # (cfg) -> what `datasets` takes; None reads the file data.index
    validation: str = "training.validation:segments"  # (cfg, validation segments, recipe, group) -> what measures them
    trainer: str = "training.trainer:Trainer"  # the loop


FAMILIES = {
    "spleeter": Family("training.recipes.spleeter:SpleeterRecipe", "training.segments:magnitude_segments"),
    "bsrnn": Family(
        "training.recipes.bsrnn:BSRNNRecipe", "training.bsrnn_data:salient_segments", "training.bsrnn_data:Finish"
    ),
    "rmvpe": Family(
        "training.recipes.rmvpe:RMVPERecipe",
        "training.rmvpe_data:pitch_segments",
        index="training.rmvpe_data:folder",
        validation="training.rmvpe_data:WholeSongs",
    ),
    "apollo": Family(
        "training.recipes.apollo:ApolloRecipe",
        "training.apollo_data:codec_segments",
        index="training.apollo_data:pairs",
        validation="training.apollo_data:WholePairs",
        trainer="training.adversarial:AdversarialTrainer",
    ),
}


class Recipe(Protocol):
    """How one family of networks is trained; made with the whole configuration.

    Attributes:
        scores: what :meth:`validate` measures; ``loss`` is first, and the lowest one is the best
        sample_rate: Hz, of :meth:`listen`
        notes: lines about the network, for the beginning of a run
    """

    scores: Sequence[str]
    sample_rate: int
    notes: Sequence[str]

    def build_model(self) -> paddle.nn.Layer:
        """The network with its initial weights."""

    def optimizer(self, model: paddle.nn.Layer) -> paddle.optimizer.Optimizer:
        """The optimiser of its trainable parameters."""

    def loss(self, model: paddle.nn.Layer, batch: Batch) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
        """Mean loss of a batch, and the named terms it consists of (all scalars)."""

    def validate(self, model: paddle.nn.Layer, batch: Batch) -> Mapping[str, np.ndarray]:
        """Each of ``scores`` for every segment of a batch, float64 ``[B]``."""

    def listen(self, model: paddle.nn.Layer, index: Index, song: Song) -> Mapping[str, np.ndarray]:
        """A few seconds of the stems of a song by name, waveforms ``[C, N]``; may be empty."""


def create(cfg: Any) -> Recipe:
    """The recipe for ``cfg.network``.

    Raises:
        UserError: no recipe trains this network
    """
    return _named(_family(cfg).recipe)(cfg)


def index(cfg: Any) -> Index:
    """The songs of a configuration.

    Raises:
        UserError: no recipe trains this network; there is no index, or no folder of songs
    """
    from data.index import read_index

    place = _family(cfg).index
    return _named(place)(cfg) if place else read_index(cfg.data.index)


def validation(cfg: Any, valid: Any, recipe: Recipe, group: Group) -> Any:
    """What measures the validation segments of :func:`datasets`, see :class:`training.validation.Validation`."""
    return _named(_family(cfg).validation)(cfg, valid, recipe, group)


def trainer(cfg: Any) -> type[Trainer]:
    """The loop that trains ``cfg.network``."""
    return _named(_family(cfg).trainer)


def datasets(cfg: Any, index: Index) -> tuple[Any, Any]:
    """Training and validation segments for ``cfg.network``, see ``data.datasets``; the latter may be None.

    Raises:
        UserError: no recipe trains this network; an empty split, no usable segment, songs that are not cached
    """
    return _named(_family(cfg).datasets)(cfg, index)


def finish(cfg: Any, rank: int, processes: int) -> Callable[[Batch, int, int], Batch] | None:
    """What changes every training batch of one process of several, for ``cfg.network``; None if nothing does."""
    place = _family(cfg).finish
    return _named(place)(cfg, rank, processes) if place else None


def _family(cfg: Any) -> Family:
    from models.registry import resolve

    name = resolve(cfg.network).split("_")[0]
    if name not in FAMILIES:
        raise UserError(f"network={cfg.network}: there is no training recipe for it, only for {', '.join(FAMILIES)}")
    return FAMILIES[name]


def _named(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
