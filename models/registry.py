"""Names of the networks and how to build them. Does not import paddle before ``create``."""

import dataclasses
import importlib
import re
from dataclasses import dataclass
from typing import Any

from models.apollo_config import APOLLO, ApolloConfig
from models.bsrnn_config import BSRNN, BSRNNConfig
from models.demucs_config import DEMUCS, DEMUCS_V1, DEMUCS_V2, DemucsConfig, DemucsV1Config, DemucsV2Config
from models.description import Description
from models.hdemucs_config import HDEMUCS, TORCH_HDEMUCS, HDemucsConfig, TorchHDemucsConfig
from models.htdemucs_config import HTDEMUCS, HTDemucsConfig
from models.rmvpe_config import RMVPE, RMVPEConfig
from models.spleeter_config import VARIANTS, SpleeterConfig
from models.tasnet_config import TASNET, TasNetConfig
from runtime.errors import UserError
from runtime.nearest import did_you_mean


@dataclass(frozen=True)
class Family:
    """One network class: where it lives, its options, and its published variants (name -> options)."""

    module: str
    layer: str
    config: type
    variants: dict[str, dict[str, Any]]


FAMILIES: tuple[Family, ...] = (
    Family("models.spleeter", "Spleeter", SpleeterConfig, VARIANTS),
    Family("models.demucs", "Demucs", DemucsConfig, DEMUCS),
    Family("models.demucs_classic", "DemucsV1", DemucsV1Config, DEMUCS_V1),
    Family("models.demucs_classic", "DemucsV2", DemucsV2Config, DEMUCS_V2),
    Family("models.tasnet", "ConvTasNet", TasNetConfig, TASNET),
    Family("models.hdemucs", "HDemucs", HDemucsConfig, HDEMUCS),
    Family("models.hdemucs", "TorchHDemucs", TorchHDemucsConfig, TORCH_HDEMUCS),
    Family("models.htdemucs", "HTDemucs", HTDemucsConfig, HTDEMUCS),
    Family("models.apollo", "Apollo", ApolloConfig, APOLLO),
    Family("models.bsrnn", "BandSplitRNN", BSRNNConfig, BSRNN),
    Family("models.rmvpe", "RMVPE", RMVPEConfig, RMVPE),
)


def names() -> list[str]:
    """Every name that :func:`create` takes, in the order of the families."""
    return [name for family in FAMILIES for name in family.variants]


def resolve(name: str) -> str:
    """The registry name behind any accepted spelling, such as ``spleeter:2stems-16kHz`` or ``2stems``.

    Raises:
        UserError: no network has this name; says which one is nearest
    """
    spelling = re.sub(r"[:\-./ ]+", "_", name.strip().lower())
    for candidate in (spelling, f"spleeter_{spelling}"):
        if candidate in names():
            return candidate
    meant = spelling if spelling[:1].isalpha() else f"spleeter_{spelling}"
    raise UserError(f"there is no network called {name!r}; {did_you_mean(meant, names())}")


def _find(name: str) -> tuple[str, Family]:
    known = resolve(name)
    return known, next(family for family in FAMILIES if known in family.variants)


def family(name: str) -> Family:
    """Class, options and variants behind a name, in any accepted spelling; `UserError` for an unknown one."""
    return _find(name)[1]


def _configure(name: str, overrides: dict[str, Any]) -> tuple[str, Family, Any]:
    known, family = _find(name)
    options = [field.name for field in dataclasses.fields(family.config)]
    for key in overrides:
        if key not in options:
            raise UserError(f"{known} has no option {key!r}; {did_you_mean(key, options)}")
    return known, family, family.config(**{**family.variants[known], **overrides})


def describe(name: str, **overrides: Any) -> Description:
    """The description of a network that is not built (and without paddle).

    Raises:
        UserError: unknown name, unknown option, or an option out of range
    """
    known, _, config = _configure(name, overrides)
    return config.describe(known)


def create(name: str, **overrides: Any) -> Any:
    """Builds a network with its reference initialisation.

    Args:
        name: one of :func:`names`, or another accepted spelling
        overrides: options of the family's config class that replace those of the variant

    Returns:
        a ``paddle.nn.Layer`` with a ``description``

    Raises:
        UserError: unknown name, unknown option, or an option out of range
    """
    known, family, config = _configure(name, overrides)
    layer = getattr(importlib.import_module(family.module), family.layer)
    return layer(config, known)
