"""Which network with which weights the pitch is followed with; decided before paddle is imported."""

from __future__ import annotations

from pathlib import Path

import pretrained
from inference import planning
from inference.planning import Plan
from models import registry
from models.rmvpe_config import RMVPE
from pretrained import rmvpe
from runtime import console
from runtime.errors import UserError

RUNS = (Path("runs/Hybrid"), Path("model"))  # where runs are looked for: the trainings' own place, then all others'


def plan(weights: str | Path | None = None, offline: bool = False) -> Plan:
    """Make a plan.

    Args:
        weights: a run folder or checkpoint of ours, a file of the originals (``.pt``, ``.pth``, ``.safetensors``), or
            ``rmvpe``, the published weights; None: the run that was trained last, else the published weights
        offline: never download

    Raises:
        UserError: nothing there, or weights of a network that follows no pitch
    """
    if weights is None:
        found = trained()
        console.log(f"network: {found or rmvpe.NETWORK} ({'trained last' if found else 'published; nothing trained'})")
        weights = found or rmvpe.NETWORK
    path = Path(weights)
    if not path.exists():
        if path.suffix or path.name != str(weights):
            raise UserError(f"there is no file or folder {weights}, which was given as the pitch network")
        network = registry.resolve(str(weights))
        _check(weights, network)
        return Plan(network, pretrained.resolve(network, offline=offline), network)
    if known := rmvpe.identify(path):
        network, options = known
        return Plan(network, path, path.stem, options)
    if path.is_file() and path.suffix in (*rmvpe.SUFFIXES, ".safetensors"):
        found = planning.plan(rmvpe.NETWORK, path.parent if _is_checkpoint(path) else path, offline)
    else:
        found = planning.plan(path, offline=offline)
    _check(weights, found.network)
    return found


def trained() -> Path | None:
    """The checkpoint of the pitch network that was trained last."""
    runs = ((root, network) for root in RUNS if root.is_dir() for network in RMVPE)
    return next((found for root, network in runs if (found := planning.newest_run(root, network))), None)


def _is_checkpoint(path: Path) -> bool:
    from runtime import checkpoint

    return (path.parent / checkpoint.STATE).is_file()


def _check(name: str | Path, network: str) -> None:
    if network not in RMVPE:
        raise UserError(f"{name} is {network}, which follows no pitch: {', '.join(RMVPE)} do")
