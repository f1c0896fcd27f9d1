"""Files of BandSplitRNN's original: which network with which options a file is of, and where published weights lie.

The original knows its networks by a configuration beside the weights (``hparams.yaml``); where that is missing, the
shapes of the tensors say nearly all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import registry
from models.bsrnn_config import BSRNN, SCHEMES, BSRNNConfig
from pretrained import lightning, tf_checkpoint, torch_pickle
from runtime.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

SUFFIXES = (".pt", ".pth", ".ckpt")
SAVED = Path("saved_models")  # <target>/<target>.pt below the working directory, as in the original
ADDRESS = "https://drive.google.com/file/d/14FzOPUcf4BKym1kCRqRH1PeJWSvv4qHE/view"
PUBLISHED = {  # network -> what its authors say of the published file; they give no checksum
    "bsrnn_vocals": "epoch 139 of amanteur/BandSplitRNN-Pytorch, uSDR 6.88 dB, cSDR 6.67 dB",
}
_FIRST = "bandsplit.fcs.0.weight"  # a tensor that every such network has
_MODEL = ("sr", "n_fft", "bandsplits", "complex_as_channel", "is_mono", "bottleneck_layer", "t_timesteps", "fc_dim")
_MODEL += ("rnn_dim", "rnn_type", "bidirectional", "num_layers", "mlp_dim", "return_mask")  # keys of a configuration
_GATES = {4: "LSTM", 3: "GRU"}
_TARGETS = tuple(variant["target"] for variant in BSRNN.values())


def identify(path: str | Path, network: str | None = None) -> tuple[str, dict[str, Any]] | None:
    """Which network a file of the original holds, and its options; None if it is another kind of file.

    Args:
        path: a state dict or checkpoint, see `pretrained.load_weights`
        network: name in the registry, where it is known; else the configuration beside the file, the name of its folder
            or its own, or its bands decide which stem it separates

    Raises:
        UserError: a damaged file, weights of another stem than ``network``'s, bands that nobody knows, or nothing that
            says which stem it is
    """
    file, _ = lightning.split(path)
    if file.suffix not in SUFFIXES or not file.is_file() or tf_checkpoint.is_checkpoint(file):
        return None
    shapes, own = torch_pickle.load(file, _look, foreign=True)
    if _FIRST not in shapes:
        return None
    options = _options(file, shapes, own)
    said = options.pop("target", None) or (file.stem if file.stem == file.parent.name in _TARGETS else None)
    if network is not None:
        if registry.family(network).config is not BSRNNConfig:
            raise UserError(f"{path} holds weights of a BandSplitRNN, not of {network}")
        wanted = registry.describe(network).sources[0]
        if said not in (None, wanted):
            raise UserError(f"{path} holds weights for {said}, not for {wanted} ({network})")
        return network, options
    target = said or _guess(file, options)
    known = next((name for name, variant in BSRNN.items() if variant["target"] == target), None)
    return (known, options) if known else ("bsrnn_vocals", {**options, "target": target})


def options_of(path: str | Path) -> dict[str, Any]:
    """Options of the network that a file of the original is of, by its configuration and the shapes of its tensors.

    The configuration is ``hparams.yaml`` beside the file or in the folder ``tb_logs`` of the run, else the one inside
    of a checkpoint. ``target`` is there if it says so.

    Raises:
        UserError: no such file, damaged, another network, a configuration that contradicts the tensors, or bands that
            neither it nor a known scheme explains
    """
    file, _ = lightning.split(path)
    shapes, own = torch_pickle.load(file, _look, foreign=True)
    if _FIRST not in shapes:
        raise UserError(f"{path} holds no weights of a BandSplitRNN")
    return _options(file, shapes, own)


def place(network: str) -> Path:
    """Where the weights of a network are looked for: ``saved_models/<target>/<target>.pt``."""
    target = registry.describe(network).sources[0]
    return SAVED / target / f"{target}.pt"


def find(network: str) -> Path:
    """The file at `place`; raises `UserError` that says what is known of published weights if it is not there."""
    file = place(network)
    if file.is_file():
        return file
    known = PUBLISHED.get(network)
    if known is None:
        raise UserError(
            f"there are no weights for {network}, and none were ever published: train it, save weights of yours as "
            f"{file}, or give their path"
        )
    raise UserError(
        f"there are no weights for {network}. The published ones ({known}) are at {ADDRESS}; nobody has published a "
        f"checksum of them, so they are not fetched automatically: save the file as {file}, or give its path"
    )


# ---------------------------------------------------------------------------------------------------- from the tensors


def _look(content: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """Shapes of the network's tensors, and the configuration that a checkpoint holds itself."""
    if lightning.is_checkpoint(content):
        state, own = lightning.network_state(content, averaged=False), lightning.hyper_parameters(content)
    else:
        state, own = content if isinstance(content, Mapping) else {}, {}
    return {name: tuple(value.shape) for name, value in state.items() if isinstance(value, torch_pickle.Tensor)}, own


def _options(file: Path, shapes: Mapping[str, tuple[int, ...]], own: Mapping[str, Any]) -> dict[str, Any]:
    try:
        seen = _seen(shapes)
        rows = [shapes[f"bandsplit.fcs.{k}.weight"][1] for k in range(_count(shapes, "bandsplit.fcs."))]
    except (KeyError, IndexError, ValueError) as failure:
        raise UserError(f"{file} holds no whole BandSplitRNN: {failure} is not there or of another form") from failure
    source, notes = _configuration(file, own)
    said = {key: value for key, value in _said(source, notes) if value is not None or key == "t_timesteps"}
    for key in seen.keys() & said.keys():
        if seen[key] != said[key]:
            raise UserError(f"{source} says {key}={said[key]}, but the weights in {file} have {key}={seen[key]}")
    return {**said, **seen, **_bands(file, rows, said)}


def _seen(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """What the shapes say beside the bands."""
    norm = shapes["maskest.layernorms.0.weight"]
    found = {
        "fc_dim": shapes[_FIRST][0],
        "mlp_dim": shapes["maskest.mlp.0.mlp.0.weight"][0],
        "t_timesteps": norm[0] if len(norm) == 2 else None,
    }
    if "bandsequence.bsrnn.0.0.fc.weight" not in shapes:
        state = shapes["bandsequence.dptransformers.0.0.recurrent.weight_hh_l0"]
        layers = _count(shapes, "bandsequence.dptransformers.")
        return {**found, "bottleneck_layer": "att", "rnn_dim": state[1], "num_layers": layers}
    rows, state = shapes["bandsequence.bsrnn.0.0.rnn.weight_hh_l0"]
    if rows // state not in _GATES:
        raise ValueError("a recurrent layer of LSTM or GRU")
    return {
        **found,
        "bottleneck_layer": "rnn",
        "rnn_dim": state,
        "rnn_type": _GATES[rows // state],
        "bidirectional": "bandsequence.bsrnn.0.0.rnn.weight_hh_l0_reverse" in shapes,
        "num_layers": _count(shapes, "bandsequence.bsrnn."),
    }


def _count(shapes: Mapping[str, Any], prefix: str) -> int:
    """How many layers a list of them has."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)})


def _bands(file: Path, rows: Sequence[int], said: Mapping[str, Any]) -> dict[str, Any]:
    """The scheme of bands, and what a bin of a frame consists of; ``rows``: numbers in each band."""
    for options in _candidates(rows, said):
        try:
            config = BSRNNConfig(**options)
        except UserError:  # bands that are narrower than a bin
            continue
        if [config.planes * width for width in config.widths()] == list(rows):
            return options
    if "bandsplits" in said:
        raise UserError(f"the bands in {file} ({', '.join(map(str, rows))} numbers) are not those of its configuration")
    raise UserError(
        f"the bands in {file} ({', '.join(map(str, rows))} numbers) are of no known scheme ({', '.join(SCHEMES)}): "
        "put its configuration beside it as hparams.yaml"
    )


def _candidates(rows: Sequence[int], said: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Possible options, the usual ones first."""
    for pairs in (True, False):
        for mono in (False, True):
            numbers = (1 if mono else 2) * (2 if pairs else 1)
            own = {"complex_as_channel": pairs, "is_mono": mono, "n_fft": 2 * (sum(rows) // numbers - 1)}
            if all(said.get(key, value) == value for key, value in own.items()):
                known = {key: said[key] for key in ("sr", "hop_length") if key in said}
                for splits in [said["bandsplits"]] if "bandsplits" in said else SCHEMES:
                    yield {**known, **own, "bandsplits": splits}


# ---------------------------------------------------------------------------------------------- from the configuration


def _configuration(file: Path, own: Mapping[str, Any]) -> tuple[Path, DictConfig]:
    """Where the configuration is, and what it says."""
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    beside = (file.parent / "hparams.yaml", file.parent.parent / "tb_logs" / "hparams.yaml")
    source = next((place for place in beside if place.is_file()), file)
    try:
        notes = OmegaConf.create(dict(own)) if source == file else OmegaConf.load(source)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as failure:
        raise UserError(f"{source} is no configuration: {' '.join(str(failure).split())}") from failure
    return source, notes if isinstance(notes, DictConfig) else OmegaConf.create()


def _said(source: Path, notes: DictConfig) -> Iterator[tuple[str, Any]]:
    """Options of the network in a configuration of the original."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    def value(key: str) -> Any:
        found = OmegaConf.select(notes, key)
        return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found

    try:
        model = value("model")
        for key in _MODEL:
            if isinstance(model, dict) and key in model:
                yield key, model[key]
        yield "hop_length", value("featurizer.direct_transform.hop_length")
        yield "target", value("audio_params.target") or value("train_dataset.target")
    except OmegaConfBaseException as failure:
        raise UserError(f"{source}: {' '.join(str(failure).split())}") from failure


def _guess(file: Path, options: Mapping[str, Any]) -> str:
    """The stem of weights without a word about it: by the folder or the name of the file, or by bands of its own."""
    for word in (file.parent.name, file.stem, options["bandsplits"]):
        if word in _TARGETS:
            return word
    raise UserError(
        f"{file} does not say which stem it separates: name the network, too ({', '.join(BSRNN)}), "
        "or put its configuration beside it as hparams.yaml"
    )
