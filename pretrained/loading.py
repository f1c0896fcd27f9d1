"""Puts arrays into networks, all of them or none, under our names or those of the reference implementation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.tensors import tensors
from pretrained import names
from runtime.errors import UserError

_SHOWN = 5
_COUNTER = ".num_batches_tracked"  # of PyTorch's batch normalisation; nothing computes with it


def load_reference_state(model: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Loads tensors under the names and in the layout of the reference implementation.

    Args:
        model: a network of ``models.create``
        arrays: reference name -> array; exactly those of the network

    Raises:
        UserError: missing, unexpected or wrongly shaped tensors, listed by reference name; nothing is loaded
    """
    ours, spelling = to_ours(model, arrays)
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
    state, arrays = _without_idle(model, state, arrays, spelling)
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


def to_ours(model: Any, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays under our names and in our layout, and the reference spelling of each; unknown ones match nothing."""
    links = {link.theirs: link for link in names.links(model)}
    spelling = {link.ours: link.theirs for link in links.values()}
    ours = {}
    for given, array in arrays.items():
        if given.endswith(_COUNTER):
            continue
        name = given
        if given not in links and (now := names.current(model, given)) in links and now not in arrays:
            name = now
        if name in links:
            ours[links[name].ours] = links[name].to_ours(array)
        else:
            ours[f"reference {name}"] = array
            spelling[f"reference {name}"] = name
    return ours, spelling


def _without_idle(
    model: Any, state: Mapping[str, Any], arrays: Mapping[str, np.ndarray], spelling: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Tensors and arrays less each block that computes nothing (``model.idle``) and that only one of them has."""
    state, arrays = dict(state), dict(arrays)
    for block in getattr(model, "idle", ()):
        mine = [name for name in state if name.startswith(block)]
        theirs = [name for name in arrays if spelling.get(name, name).startswith(block)]
        if not mine or not theirs:
            for name in mine:
                del state[name]
            for name in theirs:
                del arrays[name]
    return state, arrays


def _title(model: Any) -> str:
    return f"{model.description.name} ({', '.join(model.description.sources)})"


def _some(found: Sequence[str]) -> str:
    return ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
