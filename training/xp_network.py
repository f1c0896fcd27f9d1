"""The network that a Demucs experiment trains, before anything is built. Imports no paddle."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from runtime.errors import UserError


def network(cfg: Any, segment: float | Fraction | None = None) -> tuple[str, dict[str, Any]]:
    """Name in the registry and all options of the network of a configuration.

    Args:
        cfg: of an experiment
        segment: seconds of the network's natural input; by default ``model_segment``, else 4 · ``dset.segment``
    """
    from omegaconf import OmegaConf

    options = OmegaConf.to_container(cfg[cfg.model], resolve=True)
    return cfg.model, {
        "sources": list(cfg.dset.sources),
        "audio_channels": cfg.dset.channels,
        "samplerate": cfg.dset.samplerate,
        "segment": segment or cfg.model_segment or 4 * cfg.dset.segment,
        **options,
    }


def example_length(cfg: Any) -> int:
    """Samples of a training example when it reaches the network: the segment, cropped by repitching and by the shift.

    Raises:
        UserError: nothing is left of it
    """
    length = int(cfg.dset.segment * cfg.dset.samplerate)
    if cfg.augment.repitch.proba:
        length = int((1 - 0.01 * cfg.augment.repitch.max_tempo) * length)
    length -= int(cfg.dset.samplerate * cfg.dset.shift)
    if length <= 0:
        raise UserError(
            f"dset.segment={cfg.dset.segment}: repitching and dset.shift={cfg.dset.shift} leave nothing of it"
        )
    return length


def exported(cfg: Any) -> tuple[str, dict[str, Any]]:
    """As `network`; one that separates in the length it was trained on has that as its segment."""
    if cfg.model != "htdemucs":
        return network(cfg)
    return network(cfg, Fraction(example_length(cfg), cfg.dset.samplerate))
