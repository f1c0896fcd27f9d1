"""Overrides of Demucs experiments: ``key=value`` read as Hydra reads it, and checked against the default's type."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from runtime.config_files import quoted
from runtime.errors import UserError
from runtime.nearest import did_you_mean

CHOICES = {
    "model": ("demucs", "hdemucs", "torch_hdemucs", "htdemucs"),
    "test.metric": ("loss", "nsdr"),
    "optim.loss": ("l1", "mse"),
    "optim.optim": ("adam", "adamw"),
    "htdemucs.t_emb": ("sin", "cape", "scaled"),
}
_OPEN = {  # keys whose default is null, with an example of what else they may be
    **dict.fromkeys(["dset.wav", "dset.wav2", "dset.backend", "test.nonhq", "flag"], ""),
    **dict.fromkeys(["continue_from", "continue_pretrained", "pretrained_repo", "slurm.constraint"], ""),
    **dict.fromkeys(["dset.valid_samples", "max_batches", "save_every", "hdemucs.channels_time"], 1),
    **dict.fromkeys(["htdemucs.channels_time", "quant.qat"], 1),
    **dict.fromkeys(["dset.wav2_weight", "model_segment", "htdemucs.t_lr", "quant.diffq"], 1.0),
}
_FRACTIONS = (  # keys whose default is a whole number, but which are measures, not counts
    r"dset\.(segment|shift)|augment\.\w+\.(proba|max_tempo)|optim\.(weight_decay|clip_grad)|svd\.(penalty|min_size|proba)"
    r"|\w+\.emb_scale"
)
_NULLABLE = ("dset.musdb",)


def simplified(overrides: Sequence[str]) -> list[str]:
    """Without those that a later one of the same key makes void; the others keep their places.

    Raises:
        UserError: one is not ``key=value``
    """
    kept: dict[str, str] = {}
    for override in reversed(overrides):
        key, equals, _ = override.partition("=")
        if not equals or not re.fullmatch(r"\w[\w.]*", key.strip()):
            raise UserError(f"{override!r} is not understood: write key=value, for example optim.lr=1e-4", status=2)
        kept.setdefault(key.strip(), override)
    return list(kept.values())[::-1]


def leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of all that is not a group of keys, sorted within each group."""
    for name in sorted(tree):
        if isinstance(tree[name], dict):
            yield from leaves(tree[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", tree[name]


def value_of(key: str, text: str, defaults: dict[str, Any]) -> Any:
    """What ``key=text`` sets.

    Args:
        key: dotted
        text: the value as it is written on the command line
        defaults: dotted key → value of the configuration that is changed

    Raises:
        UserError: there is no such key; the text is no value for it
    """
    if key not in defaults:
        below = [known for known in defaults if known.startswith(f"{key}.")]
        if below:
            raise UserError(f"{key} is a group of keys: set them one by one, for example {below[0]}=…")
        raise UserError(f"unknown key {key}: {did_you_mean(key, defaults)}")
    default, text = defaults[key], text.strip()
    if default is None:
        default = _OPEN.get(key)
    if text == "null" and (defaults[key] is None or key in _NULLABLE):
        return None
    if isinstance(default, str):
        value = _parsed(key, quoted(text))  # a signature such as 955717e8 is a word, not a number
        if key in CHOICES and value not in CHOICES[key]:
            raise UserError(f"{key}={value}: it must be {' or '.join(CHOICES[key])}")
        return value
    value = _parsed(key, text)
    if default is None:
        return value
    wanted = _complaint(key, value, default)
    if wanted:
        example = "" if defaults[key] is None else f", like the default {json.dumps(default)}"
        raise UserError(f"{key}={text}: it must be {wanted}{example}")
    return value


def written(value: Any) -> str:
    """A value as an override has it, so that `value_of` gives it back."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, str) and re.fullmatch(
        r"(?!null$|true$|false$|inf$|nan$)[A-Za-z_./][\w./-]*", value, re.IGNORECASE
    ):
        return value  # cannot be taken for anything but a word
    return json.dumps(value, ensure_ascii=False)


def _parsed(key: str, text: str) -> Any:
    from hydra.errors import HydraException

    try:
        override = _parser().parse_override(f"{key}={text}")
        if not override.is_sweep_override():
            return override.value()
    except HydraException:
        pass
    raise UserError(f"{key}={text}: this is no value; put words with commas, brackets or quotes in quotes")


@cache
def _parser() -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def _complaint(key: str, value: Any, default: Any) -> str | None:
    """What the value should be, if it is not."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, list):
        words = (bool(default) and isinstance(default[0], str)) or key.startswith(("slurm.", "dora."))
        fits = isinstance(value, list) and all(isinstance(one, str) if words else _number(one) for one in value)
        return None if fits else f"a list of {'words' if words else 'numbers'}"
    if isinstance(default, int) and not re.fullmatch(_FRACTIONS, key):
        return None if _number(value) and isinstance(value, int) else "a whole number"
    return None if _number(value) else "a number"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
