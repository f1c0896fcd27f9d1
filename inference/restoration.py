"""Which network restores music, by the words of the commands that do nothing else."""

from __future__ import annotations

from pathlib import Path

from inference import planning
from inference.planning import Plan
from models import registry
from models.apollo_config import APOLLO, ApolloConfig
from pretrained import apollo, lightning
from runtime.errors import UserError

NETWORK = next(iter(APOLLO))
OVERLAPS = 20  # chunks over each sample, at most


def plan(model: str | Path | None = None, config: str | Path | None = None) -> Plan:
    """Make a plan.

    Args:
        model: a file of the originals, a run folder or checkpoint of ours, or a name in the registry; None: the file
            that was saved for the network, else the run that was trained last
        config: a YAML file with the network's options below ``model``, for files of the originals that do not say
            theirs; what is known of others must agree with it

    Raises:
        UserError: nothing there, weights of a network that restores nothing, or a configuration of another one
    """
    said = {} if config is None else _read(Path(config))
    known = None if model is None or config is None else apollo.identify(model, config=Path(config))
    if known:
        network, options = known
        return Plan(network, Path(model), f"{network}-{Path(model).stem}", options)
    model = model or NETWORK
    if not lightning.split(model)[0].exists():
        if Path(model).suffix or Path(model).name != str(model):
            raise UserError(f"there is no file or folder {model}, which was given as the network")
        _check(model, registry.resolve(str(model)))  # before anything is downloaded
    found = planning.plan(model)
    _check(model, found.network)
    options = found.description.config
    for key, value in said.items():
        if options[key] != value:
            raise UserError(f"{config} says {key}={value}, but {found.weights} has {key}={options[key]}")
    return found


def _check(model: str | Path, network: str) -> None:
    if registry.family(network).config is not ApolloConfig:
        raise UserError(f"{model} is {network}, which restores nothing: {', '.join(APOLLO)} do")


def _read(config: Path) -> dict:
    said = apollo.read_options(config)
    if not said:
        raise UserError(f"{config} has no options of an Apollo (sr, win, feature_dim, layer below model)")
    return said


def share(overlap: int | None) -> float | None:
    """The share of a chunk that overlaps the next where each sample is in ``overlap`` chunks, as the original says it.

    Raises:
        UserError: more than can be
    """
    if overlap is not None and overlap > OVERLAPS:
        raise UserError(f"--overlap {overlap}: each sample can be in 1 … {OVERLAPS} chunks")
    return None if overlap is None else 1 - 1 / overlap
