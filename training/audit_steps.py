"""What an audit observes: a network with the settings of its family's training, and its part of a separation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from omegaconf import OmegaConf

import models
from models.bsrnn_config import SCHEMES
from models.description import Description
from models.registry import describe, resolve
from runtime import config
from training.recipes import FAMILIES

_OWN = "model."  # begins the overrides that are options of the network itself


@dataclass(frozen=True)
class Subject:
    """A network that is audited.

    Attributes:
        description: of the network with its options
        options: all that `models.create` needs besides the name
        cfg: how its family is trained
    """

    description: Description
    options: dict[str, Any]
    cfg: Any

    def create(self) -> paddle.nn.Layer:
        """The network with its initial weights."""
        return models.create(self.description.name, **self.options)


def subject(network: str, overrides: Sequence[str] = ()) -> Subject:
    """A network of the registry, in any accepted spelling.

    Args:
        network: its name
        overrides: ``key=value``; ``model.key`` are options of the network, the others belong to the training

    Raises:
        UserError: unknown network, key or value
    """
    name = resolve(network)
    settings = _in_common_loop if name.split("_")[0] in FAMILIES else _experiments  # Demucs has experiments
    options, cfg = settings(name, overrides)
    return Subject(describe(name, **options), options, cfg)


def _in_common_loop(network: str, overrides: Sequence[str]) -> tuple[dict[str, Any], Any]:
    """The family's base with the options of the network's own variant."""
    base = f"{network.split('_')[0]}/base"
    options = dict(describe(network).config)
    if "bandsplits" in options:  # a scheme's name, where the base has its numbers
        options["bandsplits"] = SCHEMES[options["bandsplits"]]
    keys = config.load(base).model
    own = [f"{_OWN}{key}={json.dumps(options[key])}" for key in keys if key in options and key != "seed"]
    cfg = config.load(base, [f"network={network}", *own, *overrides])
    return OmegaConf.to_container(cfg.model, resolve=True), cfg


def _experiments(network: str, overrides: Sequence[str]) -> tuple[dict[str, Any], Any]:
    """The base of the Demucs experiments; networks that none of them can choose are trained as ``demucs`` is."""
    from training import xp

    own = [override for override in overrides if override.startswith(_OWN)]
    options = OmegaConf.to_container(OmegaConf.from_dotlist(own)).get(_OWN.rstrip("."), {})
    sources = list(describe(network, **options).sources)
    chosen = next((kind for kind in ("torch_hdemucs", "hdemucs", "htdemucs") if network.startswith(kind)), "demucs")
    fitting = [f"model={chosen}", f"dset.sources={json.dumps(sources)}", f"weights={[1.0] * len(sources)}"]
    return options, xp.compose([*fitting, *(override for override in overrides if override not in own)]).cfg


def inference_step(audited: Subject, batch: int, segment: int) -> Callable[[], object]:
    """The network's part of a separation: from the host's memory and back to it."""
    model, mixture = audited.create(), random_stems(audited.description, batch, segment).sum(axis=1)
    model.eval()

    def step() -> None:
        with paddle.no_grad():
            model(paddle.to_tensor(mixture)).numpy()

    return step


def random_stems(description: Description, batch: int, segment: int) -> np.ndarray:
    """Magnitudes ``[B, S, C, T, F]``, waveforms ``[B, S, C, N]`` or mel spectrograms ``[B, S, F, T]``, whichever the
    network eats; always the same."""
    shape, random = (batch, len(description.sources), description.channels, segment), np.random.default_rng(0)
    if description.eats == "magnitude":
        return random.random((*shape, description.config["frequency_bins"]), np.float32)
    if description.eats == "mel":
        shape = (*shape[:2], description.config["n_mels"], segment)
    return random.standard_normal(shape, np.float32)
