"""Which network with which weights a name means; decided before paddle is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pretrained
from models import Description, registry
from models.apollo_config import APOLLO
from models.bsrnn_config import BSRNN
from pretrained import apollo, bsrnn, demucs, lightning, targets
from pretrained.package import is_package, read_package
from runtime import checkpoint
from runtime.errors import UserError
from runtime.nearest import nearest

DEFAULT_NAME = "spleeter_2stems"
_APOLLO_RUNS = ("exps", "model")  # of the fork's configuration, and of our own
_EXPERIMENTS = "xps"  # folder of Demucs' experiments, which are named by their signatures alone


@dataclass(frozen=True)
class Plan:
    """What a separator is to be built from.

    Attributes:
        network: name in the registry
        model: options of the network that differ from the registry's
        separation: defaults of the configuration: exponent, mask_extension, mwf
        weights: what `pretrained.load_weights` reads
        label: short name for folders: the network, or configuration and signature of a run
        bag: name of a bag or signature of the Demucs family; network, model and weights are then those of the first
            of its networks
        repo: folder to look for it in, instead of what is published
        targets: plans of networks for one stem each that run together; the facts above are those of the first then
    """

    network: str
    weights: Path
    label: str
    model: Mapping[str, Any] = field(default_factory=dict)
    separation: Mapping[str, Any] = field(default_factory=dict)
    bag: str | None = None
    repo: str | None = None
    targets: tuple[Plan, ...] = ()

    @property
    def description(self) -> Description:
        """The network's description (that of all ``targets`` together), without building it."""
        if self.targets:
            return targets.together(self.label, [each.description for each in self.targets])
        return registry.describe(self.network, **self.model)

    @classmethod
    def restore(cls, facts: Mapping[str, Any]) -> Plan:
        """A plan out of the fields of one that went through JSON."""
        members = tuple(cls.restore(each) for each in facts["targets"])
        return cls(**{**facts, "weights": Path(facts["weights"]), "targets": members})


def plan(
    name: str | Path | None = None,
    weights: str | Path | None = None,
    offline: bool = False,
    repo: str | Path | None = None,
) -> Plan:
    """Make a plan.

    Args:
        name: a network of the registry, a bag or signature of the Demucs family, or a checkpoint, run folder, folder of
            runs of ours, package, or file of a BandSplitRNN; or several of them with commas between, networks for one
            stem each that run together; None: what ``weights`` say, else `DEFAULT_NAME`
        weights: path of the weights; None is the name's own or the published ones, downloaded when needed, for a
            BandSplitRNN or an Apollo the file that was saved for it, or the run of that network that was trained last
        offline: never download
        repo: folder of packages and bags, in which ``name`` is looked for instead

    Raises:
        UserError: unknown network, no such weights, or weights whose configuration says they are of another network
    """
    if repo is not None:
        return _of_bag(name, weights, offline, repo)
    if name is not None and "," in str(name) and not Path(name).exists():
        return _of_targets(str(name), weights, offline)
    if name is not None and (found := _at(Path(name))):
        return replace(found, weights=Path(weights)) if weights else found
    if name is not None and weights is None and demucs.is_name(str(name)):
        return _of_bag(name, weights, offline, repo)
    network = _network(str(name)) if name is not None else None
    if weights is None and (network in BSRNN or network in APOLLO):
        weights = _own(network)
    if weights is not None and (found := _at(Path(weights), network)):
        if network not in (None, found.network):
            raise UserError(f"{weights} holds weights of {found.network}, not of {network}")
        return found
    network = network or DEFAULT_NAME
    if weights is not None:
        return Plan(network, Path(weights), label=network)
    _check_separates(network, registry.describe(network))  # before anything is downloaded
    return Plan(network, pretrained.resolve(network, offline=offline), label=network)


def separating(
    name: str | Path | None, weights: str | Path | None = None, offline: bool = False, repo: str | Path | None = None
) -> Plan:
    """`plan` of a network that separates or restores songs; UserError for one that follows their pitch."""
    found = plan(name, weights, offline, repo)
    _check_separates(found.label, found.description)
    return found


def _check_separates(name: str, facts: Description) -> None:
    if facts.eats == "mel":
        raise UserError(
            f"{name} follows the pitch of a voice and separates nothing: it is for `run_scripts/run_rmvpe.py -m infer` "
            "and `-m evaluate`, and for `separator.py --pitch`"
        )


def _network(name: str) -> str:
    """The registry's name; the error for an unknown one considers the bags, too."""
    near = nearest(name, demucs.names(), 0.8)
    try:
        return registry.resolve(name)
    except UserError:
        if near is None:
            raise
        raise UserError(f"there is no network called {name!r}; did you mean {near}?") from None


def _own(network: str) -> Path:
    """The weights of a network that nobody names: the saved file, else the run that was trained last."""
    if network in BSRNN:
        saved, find, roots = bsrnn.place(network), bsrnn.find, ("model",)
    else:
        saved, find, roots = apollo.SAVED, apollo.find, _APOLLO_RUNS
    runs = (newest_run(root, network) for root in roots) if not saved.is_file() else ()
    return next((run for run in runs if run), None) or find(network)


def _of_targets(name: str, weights: str | Path | None, offline: bool) -> Plan:
    names = [each.strip() for each in name.split(",")]
    if weights is not None:
        raise UserError("--weights goes with one network: put the paths of weights among the names instead")
    if not all(names):
        raise UserError(f"-n {name}: between two commas a network is missing")
    for each in names:  # before anything is downloaded
        if lightning.split(each)[0].exists():
            continue
        if demucs.is_name(each) or not (facts := registry.describe(_network(each))).hop:
            raise UserError(f"{each} does not run together with others: only networks that separate one stem each do")
        targets.refuse_restoring(facts)
    plans = [plan(each, offline=offline) for each in names]
    plans.sort(key=lambda each: targets.rank(each.description))
    label = "+".join(each.label for each in plans)
    targets.together(label, [each.description for each in plans])
    return replace(plans[0], label=label, targets=tuple(plans))


def _of_bag(name: str | Path | None, weights: str | Path | None, offline: bool, repo: str | Path | None) -> Plan:
    if name is None:
        raise UserError(f"--repo {repo} needs the name of a bag or a signature, which -n gives")
    if weights is not None:
        raise UserError("--repo and --weights exclude each other: a repository has its own weights")
    bag, place = str(name), None if repo is None else str(repo)
    if bag == demucs.UNTRAINED and repo is None:
        return Plan("hdemucs", Path(bag), bag, {"channels": 4}, bag=bag)
    found = demucs.locate(bag, repo, offline)
    first = found.paths[0]
    package = read_package(first).with_segment(found.segment)
    return Plan(package.network, first, bag, dict(package.options), bag=bag, repo=place)


def newest_run(root: str | Path = "model", network: str | None = None) -> Path | None:
    """The checkpoint that was trained last below ``root`` (of a certain network), or None if there is none."""
    states = Path(root).rglob(f"step-*/{checkpoint.STATE}")
    trained = any(network is None or checkpoint.read_state(path.parent).get("network") == network for path in states)
    return checkpoint.newest(root, network) if trained else None


def _at(path: Path, network: str | None = None) -> Plan | None:
    """The plan of weights at this place that say themselves which network they are of, if there are any.

    ``network`` is what they are meant to be of, where that is known: a file of a BandSplitRNN may not say its stem.
    """
    path, averaged = lightning.split(path)
    found = _found(path, network)
    if found is None or averaged:
        return found
    return replace(found, weights=Path(f"{found.weights}{lightning.RAW}"), label=f"{found.label}-raw")


def _found(path: Path, network: str | None) -> Plan | None:
    """See `_at`: a package, a file of a BandSplitRNN, a checkpoint, a run or a folder of runs."""
    if is_package(path):
        package = read_package(path)
        return Plan(package.network, path, path.stem.partition("-")[0], dict(package.options))
    if known := bsrnn.identify(path, network):
        own, options = known
        stem = registry.describe(own, **options).sources[0]
        return Plan(own, path, own if path.stem == stem else f"{own}-{path.stem}", options)
    if known := apollo.identify(path, network):
        own, options = known
        return Plan(own, path, f"{own}-{path.stem}", options)
    if (path / checkpoint.STATE).is_file():
        return _from_checkpoint(path)
    folder = checkpoint.best(path) or checkpoint.latest(path) or newest_run(path)
    return _from_checkpoint(folder) if folder else None


def _from_checkpoint(folder: Path) -> Plan:
    state = checkpoint.read_state(folder)
    config = state.get("config") or {}
    network = state.get("network") or config.get("network")
    if not network:
        raise UserError(f"{folder} does not say which network it is of: name the network and give this as the weights")
    run = folder.resolve().parents[1]
    known = config and folder.parent.name in ("best", "checkpoints")
    label = f"{run.parent.name if run.parent.name != _EXPERIMENTS else network}-{run.name}" if known else network
    return Plan(network, folder, label, config.get("model") or {}, config.get("separation") or {})
