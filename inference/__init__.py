"""From a mixture to stems: ``from inference import Separator``. Paddle is imported when a separator is built."""

import importlib

_PLACES = {
    "apply_model": "inference.apply",
    "Cancelled": "inference.progress",
    "Options": "inference.options",
    "Separator": "inference.separator",
    "SeparationReport": "inference.files",
    "get_model": "pretrained",
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> object:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
