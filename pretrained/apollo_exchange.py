"""Writes an Apollo for Music-Source-Separation-Training: weights in PyTorch's form, and a configuration beside them."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

from models.apollo_config import ApolloConfig
from pretrained.loading import reference_state
from pretrained.torch_save import save
from runtime import checkpoint
from runtime.atomic import atomic_write

_SECONDS = 10  # of a chunk there
_SCORED = re.compile(r"epoch=(\d+)-val_loss=(-?[\d.]+)\.ckpt")  # what the training fork calls its checkpoints


def names(source: str | Path) -> tuple[str, str]:
    """Of the weights and of the configuration, as the training fork makes them out of the checkpoint's name.

    A checkpoint of ours says itself how many epochs it has learnt, and its loss if it was validated.
    """
    source = Path(source)
    if (source / checkpoint.STATE).is_file():
        suffix = _scored(checkpoint.read_state(source))
    else:
        found = _SCORED.fullmatch(source.name)
        suffix = f"_ep_{found[1]}_val_loss_{found[2]}" if found else ""
    return f"model_apollo{suffix}.ckpt", f"config_apollo{suffix}.yaml"


def _scored(state: dict[str, Any]) -> str:
    if "epoch" not in state:
        return ""
    losses = {line["step"]: line["valid"]["loss"] for line in state.get("history", ())}
    loss = losses.get(state["step"])
    return f"_ep_{state['epoch']}" + ("" if loss is None else f"_val_loss_{loss:.4f}")


def write(model: Any, folder: Path, source: str | Path, description: str = "") -> tuple[Path, Path]:
    """Write both files into ``folder``; returns their paths.

    Args:
        model: an Apollo; its discriminator, which only training needs, is no part of it
        folder: is made if it is not there
        source: the file or checkpoint that the weights came from, for the names
        description: text to put into the file
    """
    import paddle

    config: ApolloConfig = model.config
    options = {"sr": config.sr, "win": config.win, "feature_dim": config.feature_dim, "layer": config.layer}
    weights, settings = (folder / name for name in names(source))
    content = {
        "name": "apollo",
        "info": {"software_versions": {"paddle_version": paddle.__version__}, "description": description},
        "config": options,
        "state_dict": OrderedDict(reference_state(model)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save(content, weights)
    with atomic_write(settings, "w") as handle:
        handle.write(_yaml(options))
    return weights, settings


def _yaml(options: dict[str, Any]) -> str:
    """The keys that are read there; those of a training are its defaults, for fine-tuning."""
    from omegaconf import OmegaConf

    audio = {"chunk_size": _SECONDS * options["sr"], "min_mean_abs": 0.0, "num_channels": 2}
    training = {"batch_size": 1, "coarse_loss_clip": True, "grad_clip": 0, "instruments": ["restored", "addition"]}
    training |= {"lr": 1.0, "num_epochs": 1000, "num_steps": 1000, "optimizer": "prodigy", "patience": 2, "q": 0.95}
    training |= {"reduce_factor": 0.95, "target_instrument": "restored", "use_amp": True}
    sections = {
        "audio": {**audio, "sample_rate": options["sr"]},
        "augmentations": {"enable": False},
        "inference": {"batch_size": 1, "num_overlap": 4},
        "model": options,
        "training": training,
    }
    return OmegaConf.to_yaml(sections)
