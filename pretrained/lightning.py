"""Checkpoints of PyTorch Lightning: the network among all that a training keeps, and the average of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrained.torch_pickle import Mention
from runtime.errors import UserError

RAW = "#raw"  # at the end of a path: the weights themselves, not their moving average
_NETWORK = "model."  # what modules call the network among losses and transforms
_AUDIO_NETWORK = "audio_model."  # what those of look2hear call it, beside a discriminator


def split(path: str | Path) -> tuple[Path, bool]:
    """A path of weights without `RAW`, and whether their average is wanted, if there is one."""
    path = Path(path)
    if path.name.endswith(RAW) and not path.exists():
        return path.with_name(path.name.removesuffix(RAW)), False
    return path, True


def is_checkpoint(content: Any) -> bool:
    """Whether the content of a PyTorch file is a checkpoint of Lightning: a module's state among other things."""
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        return False
    marks = ("pytorch-lightning_version", "optimizer_states")
    return any(mark in content for mark in marks) or any(name.startswith((_NETWORK, _AUDIO_NETWORK)) for name in state)


def network_state(content: Mapping[str, Any], averaged: bool = True) -> dict[str, Any]:
    """The network's tensors under its own names, out of those of a whole module; all of them if none is a ``model``.

    Args:
        content: a checkpoint, see `is_checkpoint`
        averaged: take the moving average that an optimiser kept, where it kept one: it is what was validated

    Raises:
        UserError: an average of other tensors

    Source: ``load_pl_state_dict`` and ``EMAOptimizer`` of amanteur/BandSplitRNN-Pytorch; the average is a sequence in
    the order of the parameters.
    """
    module = content["state_dict"]
    state = {
        name.removeprefix(_AUDIO_NETWORK): value for name, value in module.items() if name.startswith(_AUDIO_NETWORK)
    }
    state = (
        state
        or {name.replace(_NETWORK, ""): value for name, value in module.items() if "model" in name}
        or dict(module)
    )
    average = _average(content.get("optimizer_states")) if averaged else None
    if average is None:
        return state
    if [tensor.shape for tensor in average] != [getattr(tensor, "shape", None) for tensor in state.values()]:
        raise UserError(
            f"its average has {len(average)} tensors that are not those of the network ({len(state)}): "
            f"put {RAW} behind the path for the weights themselves"
        )
    return dict(zip(state, average, strict=True))


def _average(optimisers: Any) -> list[Any] | None:
    first = optimisers[0] if isinstance(optimisers, list | tuple) and optimisers else None
    found = first.get("ema") if isinstance(first, Mapping) else None
    if not isinstance(found, list | tuple) or not all(hasattr(tensor, "shape") for tensor in found):
        return None
    return list(found)


def hyper_parameters(content: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration in a checkpoint as plain containers and numbers; interpolations of OmegaConf stay texts."""
    found = _plain(content.get("hyper_parameters"))
    return found if isinstance(found, dict) else {}


def _plain(value: Any) -> Any:
    if isinstance(value, Mention):
        state = value.state if isinstance(value.state, Mapping) else {}
        inner = next((state[key] for key in ("_content", "_val") if key in state), None)  # as OmegaConf keeps them
        return _plain(inner) if inner is not None else _plain(value.items or value.values or None)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if isinstance(key, str)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str) else None
