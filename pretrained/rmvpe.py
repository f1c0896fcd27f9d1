"""Published weights of RMVPE: where they lie, how they are fetched, and which network a file of the originals is of."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models import registry
from models.rmvpe_config import RMVPE
from pretrained import torch_pickle
from runtime import files
from runtime.console import log
from runtime.errors import UserError

NETWORK = "rmvpe"  # the one that weights are published for
SUFFIXES = (".pt", ".pth")
FOLDER = "rmvpe"  # below the folder of published weights
FILE, SIZE = "rmvpe.pt", 181_184_272  # of lj1995/VoiceConversionWebUI: half precision
SHA256 = "6d62215f4306e3ca278246188607209f09af3dc77ed4232efdd069798c4ec193"
HOST = "https://huggingface.co"
LOCATION = "lj1995/VoiceConversionWebUI/resolve/main/rmvpe.pt"
OTHER = "model.pt"  # of yxlllc/RMVPE, the same weights in single precision
OTHER_ADDRESS = "https://github.com/yxlllc/RMVPE/releases/download/230917/rmvpe.zip"
_RECURRENT = "fc.0.gru.weight_ih_l0"
_FIRST = "unet.encoder.layers.0.conv.0.conv.0.weight"  # a tensor that every such network has
_COUNTED = {  # option -> what numbers of tensors' names count
    "en_de_layers": r"unet\.encoder\.layers\.(\d+)\.",
    "inter_layers": r"unet\.intermediate\.layers\.(\d+)\.",
    "n_blocks": r"unet\.encoder\.layers\.0\.conv\.(\d+)\.",
    "n_gru": r"fc\.0\.gru\.weight_ih_l(\d+)$",
}


def url() -> str:
    """Address of the published file; HF_ENDPOINT in the environment chooses a mirror, as for other programs."""
    return f"{(os.environ.get('HF_ENDPOINT') or HOST).rstrip('/')}/{LOCATION}"


def here(root: Path) -> Path | None:
    """The file of published weights below ``root``, of either publisher, if there is one."""
    return next((path for name in (FILE, OTHER) if (path := root / FOLDER / name).is_file()), None)


def fetch(network: str, offline: bool, root: Path) -> Path:
    """The published weights below ``root``, downloaded if they are not there.

    Raises:
        UserError: a network that none are published for, no connection, or nothing there while ``offline``
    """
    if network != NETWORK:
        raise UserError(f"there are no published weights for {network}; there are for {NETWORK}")
    if found := here(root):
        return found
    target = root / FOLDER / FILE
    by_hand = (
        f"save {url()} (sha256 {SHA256}) as {target}, or {OTHER} out of {OTHER_ADDRESS} beside it, or give the path of "
        "weights"
    )
    if offline:
        raise UserError(f"there are no weights in {target.parent}, and downloading is off: {by_hand}")
    log(f"downloading {url()}")
    try:
        files.download([url()], target, sha256=SHA256, size=SIZE)
    except UserError as failure:
        raise UserError(f"{failure}. Without a connection, {by_hand}") from failure
    return target


def identify(path: str | Path) -> tuple[str, dict[str, Any]] | None:
    """Which network a file of the originals holds, and its options by the shapes of its tensors; None: another file.

    E2E and E2E0 have tensors of the same names: it is taken for E2E0, as the originals' programs do.

    Raises:
        UserError: a damaged file
    """
    path = Path(path)
    if path.suffix not in SUFFIXES or not path.is_file():
        return None
    shapes = torch_pickle.load(path, _shapes, foreign=True)
    if _FIRST not in shapes:
        return None
    options: dict[str, Any] = {"en_out_channels": shapes[_FIRST][0]}
    for option, pattern in _COUNTED.items():
        options[option] = 1 + max((int(match[1]) for name in shapes if (match := re.match(pattern, name))), default=-1)
    inputs = shapes[_RECURRENT] if options["n_gru"] else shapes.get("fc.0.weight", (0, 0))
    bands = inputs[1] // 3
    network = next((name for name in RMVPE if registry.describe(name).config["n_mels"] == bands), None)
    if network is None:
        return None
    return network, {key: value for key, value in options.items() if registry.describe(network).config[key] != value}


def _shapes(content: Any) -> dict[str, tuple[int, ...]]:
    while isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping):
        return {}
    return {name: tuple(value.shape) for name, value in content.items() if isinstance(value, torch_pickle.Tensor)}
