"""Puts weights into networks, all of them or none, from our own files and from reference checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models import registry
from models.tensors import tensors
from pretrained import names, tf_checkpoint
from runtime import checkpoint
from runtime.errors import UserError

_SHOWN = 5


@dataclass(frozen=True)
class Weights:
    """Where the weights of a network came from. ``hash`` identifies the arrays, wherever they lie."""

    path: Path
    kind: str
    hash: str


def load_reference_state(model: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Loads tensors under the names and in the layout of the reference implementation.

    Args:
        model: a network of ``models.create``
        arrays: reference name -> array; exactly those of the network

    Raises:
        UserError: missing, unexpected or wrongly shaped tensors, listed by reference name; nothing is loaded
    """
    ours, spelling = _to_ours(model, arrays)
    load_state(model, ours, spelling)


def reference_state(model: Any) -> dict[str, np.ndarray]:
    """The network's tensors under the names and in the layout of the reference implementation."""
    state = tensors(model)
    return {link.theirs: np.asarray(link.to_theirs(state[link.ours].numpy()), order="C") for link in names.links(model)}


def load_state(
    model: Any, arrays: Mapping[str, np.ndarray], spelling: Mapping[str, str] | None = None, source: str = "the weights"
) -> None:
    """Loads tensors under our own names, in any precision.

    Args:
        model: a network of ``models.create``
        arrays: our name -> array; exactly those of the network
        spelling: names to use in messages instead of ours
        source: what the arrays are, for messages

    Raises:
        UserError: missing, unexpected or wrongly shaped tensors; nothing is loaded then
    """
    state, spelling = tensors(model), spelling or {}
    wrong = {
        "missing": [spelling.get(name, name) for name in state if name not in arrays],
        "unexpected": [spelling.get(name, name) for name in arrays if name not in state],
        "wrongly shaped": [
            f"{spelling.get(name, name)} {list(arrays[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in state.items()
            if name in arrays and list(arrays[name].shape) != list(tensor.shape)
        ],
    }
    complaints = [f"{len(found)} {kind} ({_some(found)})" for kind, found in wrong.items() if found]
    if complaints:
        raise UserError(f"{source} do not fit {_title(model)}: {'; '.join(complaints)}")
    for name, tensor in state.items():
        dtype = str(tensor.dtype).removeprefix("paddle.")
        tensor.set_value(np.asarray(arrays[name], dtype, order="C"))


def load_weights(model: Any, path: str | Path) -> Weights:
    """Loads a network's weights from whatever lies at ``path``.

    Args:
        model: a network of ``models.create``
        path: a checkpoint folder of ours, a run folder (its best or else latest checkpoint), a ``.safetensors`` file
            with our names, or a TensorFlow checkpoint (folder, prefix or one of its files)

    Returns:
        what was loaded

    Raises:
        UserError: nothing there, damaged, or weights of another network; the network is unchanged then
    """
    path = Path(path)
    kind, source, arrays, spelling = _read(model, path)
    load_state(model, arrays, spelling, f"the weights in {source}")
    return Weights(source, kind, checkpoint.weights_hash(arrays))


def _read(model: Any, path: Path) -> tuple[str, Path, dict[str, np.ndarray], dict[str, str]]:
    """Kind, exact source, arrays under our names, and their spelling in the source where that differs."""
    if path.suffix == ".safetensors" and path.is_file():
        if (path.parent / checkpoint.STATE).is_file():
            _check_network(model, checkpoint.read_state(path.parent), path.parent)
        return "safetensors", path, _safetensors(path), {}
    if folder := _checkpoint_folder(path):
        return "checkpoint", folder, _own(model, folder), {}
    if tf_checkpoint.is_checkpoint(path):
        prefix = tf_checkpoint.find_prefix(path)
        arrays = tf_checkpoint.read(prefix)
        kept = {name: array for name, array in arrays.items() if not names.is_training_state(name)}
        return "TensorFlow checkpoint", prefix, *_to_ours(model, kept)
    if not path.exists():
        raise UserError(f"there are no weights at {path}")
    raise UserError(
        f"{path} holds no weights: it is neither a checkpoint or run folder of this program, "
        "nor a .safetensors file, nor a TensorFlow checkpoint"
    )


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


def _own(model: Any, folder: Path) -> dict[str, np.ndarray]:
    """The arrays to use a checkpoint with: the averaged weights where it has them."""
    state = checkpoint.read_state(folder)
    _check_network(model, state, folder)
    group = "ema" if "ema.safetensors" in state["sha256"] else "model"
    return checkpoint.load(folder, [group])[0][group]


def _check_network(model: Any, state: Mapping[str, Any], folder: Path) -> None:
    """Compares what a checkpoint says of its network with ``model``: shapes alone do not tell ELU from LeakyReLU."""
    config = state.get("config") or {}
    network = state.get("network") or config.get("network")
    if network is None:
        return
    theirs, ours = registry.describe(network, **(config.get("model") or {})), model.description
    if theirs.sources != ours.sources:
        raise UserError(
            f"{folder} is a checkpoint of {network} ({', '.join(theirs.sources)}), "
            f"not of {ours.name} ({', '.join(ours.sources)})"
        )
    for key in model.config.meaning:
        if theirs.config.get(key) != ours.config[key]:
            raise UserError(
                f"{folder} is a checkpoint of {network} with {key}={theirs.config.get(key)}; "
                f"this network has {key}={ours.config[key]}"
            )


def _to_ours(model: Any, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays under our names and in our layout, and the reference spelling of each; unknown ones match nothing."""
    links = {link.theirs: link for link in names.links(model)}
    spelling = {link.ours: link.theirs for link in links.values()}
    ours = {}
    for name, array in arrays.items():
        if name in links:
            ours[links[name].ours] = links[name].to_ours(array)
        else:
            ours[f"reference {name}"] = array
            spelling[f"reference {name}"] = name
    return ours, spelling


def _title(model: Any) -> str:
    return f"{model.description.name} ({', '.join(model.description.sources)})"


def _some(found: Sequence[str]) -> str:
    return ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
