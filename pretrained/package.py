"""Packages of the Demucs family: one file with the class of a network, its constructor's arguments and its weights.

``.th`` is what the original's export and its published files are: a dict of ``torch.save``, mostly in half precision or
packed by DiffQ. ``.safetensors`` carries the same facts in its metadata, as the package ``demucs`` 4.1 publishes them;
it is what is written here. Nothing of either is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import models
from models import registry
from pretrained import diffq, torch_pickle
from pretrained.loading import load_reference_state, reference_state
from pretrained.names import links
from runtime import checkpoint
from runtime.atomic import atomic_path
from runtime.console import log
from runtime.errors import UserError

SUFFIXES = (".th", ".safetensors")

# class of the original -> network of the registry
_NETWORKS = {
    "demucs.demucs.Demucs": "demucs",
    "demucs.hdemucs.HDemucs": "hdemucs",
    "demucs.wdemucs.WDemucs": "hdemucs",
    "demucs.htdemucs.HTDemucs": "htdemucs",
    "demucs.train.TorchHDemucsWrapper": "torch_hdemucs",
}
_WRAPPED = {"torch_hdemucs": "torch_hdemucs."}  # what the original's wrapper puts before the names of the tensors
_MAY_DIFFER = ("seed",)  # options of ours that are not the original's


@dataclass(frozen=True)
class Package:
    """What a file says, before anything is built.

    Attributes:
        path: the file
        network: name in the registry
        options: every option of the network
        state: reference name -> array, or a state packed by DiffQ
        training: the resolved configuration of the training, if the file has it
        metrics: scores that were stored with it
        dropped: arguments in the file that the network does not know
    """

    path: Path
    network: str
    options: Mapping[str, Any]
    state: Mapping[str, Any] = field(repr=False)
    training: Mapping[str, Any] = field(default_factory=dict, repr=False)
    metrics: Any = None
    dropped: tuple[str, ...] = ()

    def with_segment(self, segment: float | None) -> Package:
        """The package of a network whose inputs have ``segment`` seconds; one of fixed length only becomes shorter."""
        if segment is None:
            return self
        own = registry.describe(self.network, **self.options)
        if own.fixed_length and segment * own.sample_rate > own.segment:
            return self
        return replace(self, options={**self.options, "segment": segment})

    def build(self, say: Callable[[str], None] = log) -> Any:
        """The network with these weights, in evaluation mode.

        Raises:
            UserError: the weights are not exactly those of the network
        """
        if self.dropped:
            say(f"{self.path}: without the arguments {', '.join(self.dropped)}, which {self.network} does not know")
        model = models.create(self.network, **self.options)
        self.load_into(model)
        model.eval()
        return model

    def load_into(self, model: Any) -> None:
        """Puts the weights into a network of the same form; raises `UserError` if they are not exactly its own."""
        try:
            load_reference_state(model, self.arrays(model))
        except UserError as failure:
            raise UserError(f"{self.path}: {failure}") from failure

    def arrays(self, model: Any) -> dict[str, np.ndarray]:
        """The weights under their reference names, unpacked; ``model`` says which tensor a packed one is."""
        if not diffq.is_packed(self.state):
            prefix = _WRAPPED.get(self.network, "")
            return {name.removeprefix(prefix): array for name, array in self.state.items()}
        tensors = model.state_dict()
        shapes = {}
        for link in links(model):
            shape = tuple(tensors[link.ours].shape)
            shapes[link.theirs] = tuple(shape[axis] for axis in np.argsort(link.axes)) if link.axes else shape
        return diffq.restore(self.state, shapes)


def is_package(path: str | Path) -> bool:
    """Whether ``path`` is a file in one of the two forms (a ``.safetensors`` with the facts of a package)."""
    path = Path(path)
    if path.suffix == ".safetensors" and path.is_file():
        return "klass" in _metadata(path)
    return path.suffix == ".th" and path.is_file()


def read_package(path: str | Path) -> Package:
    """Reads a package.

    Raises:
        UserError: no such file, damaged, of an unknown network, or with options that the network refuses
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no package {path}")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_th(path)
    try:
        network, options, dropped = _options(content)
    except UserError as failure:
        raise UserError(f"{path}: {failure}") from failure
    if not isinstance(content["state"], Mapping):
        raise UserError(f"{path} holds no weights")
    return Package(
        path, network, options, content["state"], content.get("training_args") or {}, content.get("metrics"), dropped
    )


def write_package(
    path: str | Path, model: Any, training: Mapping[str, Any] | None = None, metrics: Any = None, half: bool = True
) -> str:
    """Writes a network as ``.safetensors``, which `read_package` and the package ``demucs`` 4.1 can read.

    Args:
        path: the file, replaced if it is there
        model: a network of the Demucs family
        training: the resolved configuration it was trained with
        metrics: its scores, ready for JSON
        half: store float16, as published packages do; half the size, errors of 5e-4 of a weight

    Returns:
        first eight digits of the SHA-256 of the weights, as `runtime.checkpoint.weights_hash` gives them

    Raises:
        UserError: the network is not of the Demucs family, or the file cannot be written
    """
    klass = next((name for name, network in _NETWORKS.items() if network == _family(model)), None)
    if klass is None:
        raise UserError(f"{model.description.name} is not a network that packages are made of")
    prefix = _WRAPPED.get(_NETWORKS[klass], "")
    state = {
        prefix + name: array.astype(np.float16) if half else array for name, array in reference_state(model).items()
    }
    options = {name: value for name, value in asdict(model.config).items() if name not in _MAY_DIFFER}
    if isinstance(options.get("segment"), str):  # 39/5, exactly
        options["segment"] = Fraction(options["segment"])
    facts = {"args": [], "kwargs": options, "training_args": training or {}, "metrics": metrics}
    metadata = {"klass": klass, **{name: json.dumps(_encoded(value)) for name, value in facts.items()}}
    with atomic_path(path) as temporary:
        checkpoint.write_arrays(temporary, state, str(path), metadata)
    return checkpoint.weights_hash(state)


def _family(model: Any) -> str:
    """The registry's name for the class of a network, whichever variant of it this is."""
    return next((name for name in _NETWORKS.values() if registry.family(name).layer == type(model).__name__), "")


# -------------------------------------------------------------------------------------------------------- the content


def _read_th(path: Path) -> dict[str, Any]:
    content = torch_pickle.load(path)
    if not isinstance(content, dict) or not {"klass", "kwargs", "state"} <= content.keys():
        raise UserError(f"{path} is no package: it does not say which network the weights belong to")
    return {**content, "klass": torch_pickle.class_name(content["klass"])}


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    facts = _metadata(path)
    if "klass" not in facts:
        raise UserError(f"{path} is no package: it does not say which network the weights belong to")
    try:
        parsed = {
            name: _decoded(json.loads(text)) for name, text in facts.items() if name not in ("klass", "structure")
        }
        tensors: Any = load_file(path)
        state = _nested(json.loads(facts["structure"]), tensors) if "structure" in facts else tensors
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as failure:
        raise UserError(f"{path} is no sound package: {failure}") from failure
    return {"args": [], "kwargs": {}, **parsed, "klass": facts["klass"], "state": state}


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as handle:
            return dict(handle.metadata() or {})
    except (SafetensorError, OSError) as failure:
        raise UserError(f"{path} is no sound safetensors file: {failure}") from failure


def _nested(node: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    """The containers of a packed state, which safetensors cannot hold itself, around its tensors."""
    if not isinstance(node, dict):
        return node
    (kind, value), *more = node.items()
    if more:
        raise ValueError("a node of the structure has two kinds")
    if kind == "_tensor":
        return tensors[value]
    if kind == "_dict":
        return {key: _nested(item, tensors) for key, item in value}
    if kind in ("_list", "_tuple"):
        items = [_nested(item, tensors) for item in value]
        return items if kind == "_list" else tuple(items)
    if kind == "_class":
        return torch_pickle.mentioned(value)
    raise ValueError(f"a node of the structure is a {kind}")


def _options(content: Mapping[str, Any]) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Network, all its options, and the arguments it does not know."""
    klass = content["klass"]
    network = _NETWORKS.get(klass)
    if network is None:
        raise UserError(f"its network is {klass}, and only these are known: {', '.join(_NETWORKS)}")
    config = registry.family(network).config
    known = [each.name for each in fields(config)]
    given = dict(zip(known, content.get("args") or (), strict=False)) | dict(content["kwargs"])
    dropped = tuple(name for name in given if name not in known)
    options = asdict(config(**{name: value for name, value in given.items() if name in known}))
    return network, options, dropped


def _encoded(value: Any) -> Any:
    if isinstance(value, Fraction):
        return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
    if isinstance(value, Mapping):
        return {key: _encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(item) for item in value]
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("_type") == "fraction":
            return Fraction(value["numerator"], value["denominator"])
        return {key: _decoded(item) for key, item in value.items()}
    return [_decoded(item) for item in value] if isinstance(value, list) else value
