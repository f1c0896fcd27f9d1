"""Weights from whatever lies on a disk into a network: our own files, packages, and checkpoints of the originals."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models import registry
from pretrained import lightning, names, tf_checkpoint, torch_pickle
from pretrained.loading import load_state, to_ours
from pretrained.package import is_package, read_package
from runtime import checkpoint
from runtime.errors import UserError

_TORCH = (".pt", ".pth", ".ckpt", ".bin")
_STATES = ("state_dict", "model", "state")  # what training programs call the weights among other things


@dataclass(frozen=True)
class Weights:
    """Where the weights of a network came from. ``hash`` identifies the arrays, wherever they lie."""

    path: Path
    kind: str
    hash: str


def load_weights(model: Any, path: str | Path) -> Weights:
    """Loads a network's weights from whatever lies at ``path``.

    Args:
        model: a network of ``models.create``
        path: a checkpoint folder of ours, a run folder (its best or else latest checkpoint), a ``.safetensors`` file
            with our names, a package of the Demucs family (``.th``, ``.safetensors``), a state dict of PyTorch or a
            checkpoint of Lightning (``.pt``, ``.pth``, ``.ckpt``, ``.bin``), or a TensorFlow checkpoint (folder,
            prefix or one of its files). Of training checkpoints the moving average of the weights is taken, where there
            is one; ``#raw`` at the end of the path takes the weights themselves

    Returns:
        what was loaded

    Raises:
        UserError: nothing there, damaged, or weights of another network; the network is unchanged then
    """
    path, averaged = lightning.split(path)
    if is_package(path):
        package = read_package(path)
        _check_meaning(model, package.network, package.options, path)
        package.load_into(model)
        return Weights(path, "package", checkpoint.weights_hash(package.arrays(model)))
    kind, source, arrays, spelling = _read(model, path, averaged)
    load_state(model, arrays, spelling, f"the weights in {source}")
    return Weights(source, kind, checkpoint.weights_hash(arrays))


def _read(model: Any, path: Path, averaged: bool) -> tuple[str, Path, dict[str, np.ndarray], dict[str, str]]:
    """Kind, exact source, arrays under our names, and their spelling in the source where that differs."""
    if path.suffix == ".safetensors" and path.is_file():
        if (path.parent / checkpoint.STATE).is_file():
            _check_network(model, checkpoint.read_state(path.parent), path.parent)
        return "safetensors", path, _safetensors(path), {}
    if folder := _checkpoint_folder(path):
        return "checkpoint", folder, _own(model, folder, averaged), {}
    if tf_checkpoint.is_checkpoint(path):
        prefix = tf_checkpoint.find_prefix(path)
        arrays = tf_checkpoint.read(prefix)
        kept = {name: array for name, array in arrays.items() if not names.is_training_state(name)}
        return "TensorFlow checkpoint", prefix, *to_ours(model, kept)
    if path.suffix in _TORCH and path.is_file():
        return "PyTorch state", path, *to_ours(model, _torch_state(path, averaged))
    if not path.exists():
        raise UserError(f"there are no weights at {path}")
    raise UserError(
        f"{path} holds no weights: it is neither a checkpoint or run folder of this program, "
        f"nor a .safetensors file, nor a package (.th), nor a PyTorch state ({', '.join(_TORCH)}), "
        "nor a TensorFlow checkpoint"
    )


def _torch_state(path: Path, averaged: bool) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint of Lightning, or of a state dict, also of one among other things."""

    def select(content: Any) -> Any:
        if lightning.is_checkpoint(content):
            return lightning.network_state(content, averaged)
        while isinstance(content, dict) and (key := next((key for key in _STATES if key in content), None)):
            content = content[key]
        return content

    content = torch_pickle.load(path, select, foreign=True)
    if not isinstance(content, dict) or not any(isinstance(value, np.ndarray) for value in content.values()):
        raise UserError(f"{path} holds no weights")
    return {name: value for name, value in content.items() if isinstance(value, np.ndarray)}


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, KeyError) as failure:
        raise UserError(f"{path} is no sound safetensors file: {failure}") from failure


def _checkpoint_folder(path: Path) -> Path | None:
    """The checkpoint of ours that ``path`` means: itself, or the best or else the latest one of a run."""
    if (path / checkpoint.STATE).is_file():
        return path
    return checkpoint.best(path) or checkpoint.latest(path) or next(reversed(checkpoint.steps(path)), None)


def _own(model: Any, folder: Path, averaged: bool) -> dict[str, np.ndarray]:
    """The arrays to use a checkpoint with: the averaged weights where it has them."""
    state = checkpoint.read_state(folder)
    _check_network(model, state, folder)
    group = "ema" if averaged and "ema.safetensors" in state["sha256"] else "model"
    return checkpoint.load(folder, [group])[0][group]


def _check_network(model: Any, state: Mapping[str, Any], folder: Path) -> None:
    """Compares what a checkpoint says of its network with ``model``: shapes alone do not tell ELU from LeakyReLU."""
    config = state.get("config") or {}
    network = state.get("network") or config.get("network")
    if network is None:
        return
    _check_meaning(model, network, config.get("model") or {}, folder)


def _check_meaning(model: Any, network: str, options: Mapping[str, Any], source: Path) -> None:
    theirs, ours = registry.describe(network, **options), model.description
    if theirs.sources != ours.sources:
        raise UserError(
            f"{source} is a checkpoint of {network} ({', '.join(theirs.sources)}), "
            f"not of {ours.name} ({', '.join(ours.sources)})"
        )
    for key in model.config.meaning:
        if theirs.config.get(key) != ours.config[key]:
            raise UserError(
                f"{source} is a checkpoint of {network} with {key}={theirs.config.get(key)}; "
                f"this network has {key}={ours.config[key]}"
            )
