"""Files of Apollo's originals: which options the network in a file has.

That is the official file (``.bin``), the checkpoints of the training fork (``.ckpt``), its best model (``.pth``), and
what is made of them for Music-Source-Separation-Training, which alone holds a configuration of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models import registry
from models.apollo_config import APOLLO, ApolloConfig
from pretrained import lightning, tf_checkpoint, torch_pickle
from runtime import checkpoint
from runtime.errors import UserError

SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
SAVED = Path("saved_models/apollo/pytorch_model.bin")  # where weights are looked for that nobody names
ADDRESS = "https://huggingface.co/JusperLee/Apollo/resolve/main/pytorch_model.bin"
_DISCRIMINATOR = "discriminator"  # what trainings call it, here and there
_FIRST = "BN.0.1.weight"  # a tensor that every such network has
_KEYS = ("sr", "win", "feature_dim", "layer")
_RATES = (44100, 48000, 32000, 24000, 22050, 16000, 11025, 8000)  # Hz, at which the bands may be those of 20 ms


def find(network: str) -> Path:
    """The file at `SAVED`; raises `UserError` that says where published weights are if it is not there."""
    if SAVED.is_file():
        return SAVED
    raise UserError(
        f"there are no weights for {network}: train it, or give their path. Published ones are at {ADDRESS}, without a "
        f"checksum, so they are not fetched automatically: save the file as {SAVED}, or give its path"
    )


def identify(
    path: str | Path, network: str | None = None, config: Path | None = None
) -> tuple[str, dict[str, Any]] | None:
    """Which network a file holds, and its options; None if it is another kind of file.

    Args:
        path: weights, see `pretrained.load_weights`
        network: name in the registry, where it is known
        config: the configuration to go by, instead of one in the file or beside it

    Raises:
        UserError: a damaged file, or weights that are not ``network``'s; see also `options_of`
    """
    file, _ = lightning.split(path)
    if file.suffix not in SUFFIXES or not file.is_file() or tf_checkpoint.is_checkpoint(file):
        return None
    shapes, own = torch_pickle.load(file, _look, foreign=True)
    if _FIRST not in shapes:
        return None
    if network is not None and registry.family(network).config is not ApolloConfig:
        raise UserError(f"{path} holds weights of an Apollo, not of {network}")
    options = _options(file, shapes, own, config)
    near = (name for name, own in APOLLO.items() if own.get("feature_dim") == options["feature_dim"])
    return network or next(near, "apollo"), options


def options_of(path: str | Path) -> dict[str, Any]:
    """Sample rate, frame, features and layers of the network that a file is of.

    They are in the file, or in a configuration beside it (``config_….yaml`` beside ``model_….ckpt``, or ``config.yaml``
    there or one folder up), else the shapes of the tensors say them: of all rates that have such bands in frames of
    20 ms the first of 44100 Hz and a few others.

    Raises:
        UserError: no such file, damaged, another network, a configuration that contradicts the tensors, or bands of
            none of those rates
    """
    file, _ = lightning.split(path)
    shapes, own = torch_pickle.load(file, _look, foreign=True)
    if _FIRST not in shapes:
        raise UserError(f"{path} holds no weights of an Apollo")
    return _options(file, shapes, own)


def discriminator_state(path: str | Path) -> dict[str, Any] | None:
    """The tensors of the discriminator that a network was trained against, where they were kept with it.

    Args:
        path: a checkpoint folder of a training here, or a checkpoint of the training fork
    """
    place, _ = lightning.split(path)
    if place.is_dir():
        kept = (place / f"{_DISCRIMINATOR}.safetensors").is_file()
        return checkpoint.load(place, [_DISCRIMINATOR])[0][_DISCRIMINATOR] if kept else None
    if place.suffix not in SUFFIXES or not place.is_file() or tf_checkpoint.is_checkpoint(place):
        return None
    return torch_pickle.load(place, _judge, foreign=True) or None


def _judge(content: Any) -> dict[str, Any]:
    """The discriminator's tensors in a file."""
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    state, prefix = state if isinstance(state, Mapping) else {}, f"{_DISCRIMINATOR}."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _look(content: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """Shapes of the network's tensors, and the configuration in the file."""
    own: Any = {}
    if lightning.is_checkpoint(content):
        content = lightning.network_state(content, averaged=False)
    elif isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content, own = content["state_dict"], content.get("config")
    state = content if isinstance(content, Mapping) else {}
    shapes = {name: tuple(value.shape) for name, value in state.items() if isinstance(value, torch_pickle.Tensor)}
    return shapes, dict(own) if isinstance(own, Mapping) else {}


def _options(
    file: Path, shapes: Mapping[str, tuple[int, ...]], own: Mapping[str, Any], config: Path | None = None
) -> dict[str, Any]:
    layers = {name.split(".")[1] for name in shapes if name.startswith("net.")}
    seen = {"feature_dim": shapes[_FIRST][0], "layer": len(layers)}
    source, said = _configuration(file, own) if config is None else (config, read_options(config))
    for key, value in seen.items():
        if said.get(key, value) != value:
            raise UserError(f"{source} says {key}={said[key]}, but the weights in {file} have {key}={value}")
    bands = sum(name.startswith("BN.") and name.endswith(".1.weight") for name in shapes)
    try:
        widths = [(shapes[f"BN.{band}.1.weight"][1] - 1) // 2 for band in range(bands)]
    except (KeyError, IndexError) as failure:
        raise UserError(f"{file} holds no whole Apollo: {failure} is not there or of another form") from failure
    for options in _candidates(said):
        config = ApolloConfig(**options, **seen)
        if config.widths() == widths:
            return {**options, **seen}
    if {"sr", "win"} & said.keys():
        raise UserError(f"{source} says " + _listed(said) + f", but the bands in {file} are others")
    raise UserError(
        f"the {len(widths)} bands in {file} are not those of frames of 20 ms at any usual rate: "
        "put its configuration beside it as config.yaml, with sr and win below model"
    )


def _candidates(said: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Possible rates and frames, the usual ones first."""
    for rate in [said["sr"]] if "sr" in said else _RATES:
        yield {"sr": rate, "win": said.get("win", 20)}


def _listed(said: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={said[key]}" for key in ("sr", "win") if key in said)


def _configuration(file: Path, own: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Where options of the network are written down, and those of them that decide what its tensors mean."""
    if own:
        return file, {key: own[key] for key in _KEYS if key in own}
    beside = [file.with_name("config.yaml"), file.parent.parent / "config.yaml"]
    if file.stem.startswith("model_apollo"):
        beside.insert(0, file.with_name(file.stem.replace("model_", "config_", 1) + ".yaml"))
    source = next((path for path in beside if path.is_file()), None)
    return (file, {}) if source is None else (source, read_options(source))


def read_options(source: Path) -> dict[str, Any]:
    """The options below ``model`` in a YAML file that decide what tensors mean; none in that of something else.

    Raises:
        UserError: no such file, or no YAML
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        model = OmegaConf.select(OmegaConf.load(source), "model")
        said = OmegaConf.to_container(model, resolve=True) if OmegaConf.is_dict(model) else {}
    except (OmegaConfBaseException, YAMLError, OSError) as failure:
        raise UserError(f"{source} is no sound configuration: {failure}") from failure
    return {key: said[key] for key in _KEYS if key in said}
