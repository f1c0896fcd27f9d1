"""Which network with which weights a name means; decided before paddle is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pretrained
from models import Description, registry
from runtime import checkpoint
from runtime.errors import UserError

DEFAULT_NAME = "spleeter_2stems"


@dataclass(frozen=True)
class Plan:
    """What a separator is to be built from.

    Attributes:
        network: name in the registry
        model: options of the network that differ from the registry's
        separation: defaults of the configuration: exponent, mask_extension, mwf
        weights: what `pretrained.load_weights` reads
        label: short name for folders: the network, or configuration and signature of a run
    """

    network: str
    weights: Path
    label: str
    model: Mapping[str, Any] = field(default_factory=dict)
    separation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> Description:
        """The network's description, without building it."""
        return registry.describe(self.network, **self.model)


def plan(name: str | Path | None = None, weights: str | Path | None = None, offline: bool = False) -> Plan:
    """Make a plan.

    Args:
        name: a network of the registry, or a checkpoint, run folder or folder of runs of ours; None: what ``weights``
            say, else `DEFAULT_NAME`
        weights: path of the weights; None is the run's own or the published ones, downloaded when needed
        offline: never download

    Raises:
        UserError: unknown network, no such weights, or weights whose configuration says they are of another network
    """
    if name is not None and (folder := _checkpoint_at(Path(name))):
        return _from_checkpoint(folder, Path(weights) if weights else folder)
    network = registry.resolve(str(name)) if name is not None else None
    if weights is not None and (folder := _checkpoint_at(Path(weights))):
        found = _from_checkpoint(folder, folder)
        if network not in (None, found.network):
            raise UserError(f"{weights} holds weights of {found.network}, not of {network}")
        return found
    network = network or DEFAULT_NAME
    path = Path(weights) if weights is not None else pretrained.resolve(network, offline=offline)
    return Plan(network, path, label=network)


def newest_run(root: str | Path = "model") -> Path | None:
    """The checkpoint that was trained last below ``root``, or None if nothing was trained there."""
    trained = next(Path(root).rglob(f"step-*/{checkpoint.STATE}"), None)
    return checkpoint.newest(root) if trained else None


def _checkpoint_at(path: Path) -> Path | None:
    if (path / checkpoint.STATE).is_file():
        return path
    return checkpoint.best(path) or checkpoint.latest(path) or newest_run(path)


def _from_checkpoint(folder: Path, weights: Path) -> Plan:
    state = checkpoint.read_state(folder)
    config = state.get("config") or {}
    network = state.get("network") or config.get("network")
    if not network:
        raise UserError(f"{folder} does not say which network it is of: name the network and give this as the weights")
    run = folder.resolve().parents[1]
    known = config and folder.parent.name in ("best", "checkpoints")
    label = f"{run.parent.name}-{run.name}" if known else network
    return Plan(network, weights, label, config.get("model") or {}, config.get("separation") or {})
