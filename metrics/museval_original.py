"""The original BSS Eval of museval, loaded from its file.

Importing the package needs the ffmpeg programs; its module ``metrics.py`` needs numpy and scipy only.  museval 0.4.1
names ``np.linalg.linalg``, which NumPy 2 removed: the loaded module sees numpy through a proxy that still has it.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from metrics.bss_eval import FILTERS_LENGTH, METRICS, frame_slices, is_silent, prepare


class _Proxy:
    """All of a module, with some names added."""

    def __init__(self, module: ModuleType, **added: Any):
        self._module = module
        self.__dict__.update(added)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@functools.cache
def load_museval() -> ModuleType:
    """museval's own ``metrics`` module; ``ImportError`` with the remedy if the package is not installed."""
    package = importlib.util.find_spec("museval")
    if package is None or not package.submodule_search_locations:
        raise ImportError("museval is not installed: pip install museval")
    path = Path(package.submodule_search_locations[0]) / "metrics.py"
    spec = importlib.util.spec_from_file_location("museval_original_metrics", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.np = _Proxy(np, linalg=_Proxy(np.linalg, linalg=np.linalg))
    return module


def museval_bss_eval(
    references: np.ndarray,
    estimates: np.ndarray,
    window: float = 44100,
    hop: float = 44100,
    filters_len: int = FILTERS_LENGTH,
) -> dict[str, np.ndarray]:
    """The original behind the interface of :func:`metrics.bss_eval.bss_eval_v4`; NaN for a source silent throughout."""
    references, estimates = prepare(references, estimates)
    if is_silent(references) or is_silent(estimates):
        frames = len(frame_slices(references.shape[1], window, hop))
        return {name: np.full((len(references), frames), np.nan) for name in METRICS}
    sdr, isr, sir, sar, _ = load_museval().bss_eval(
        references, estimates, window=window, hop=hop, filters_len=filters_len, framewise_filters=False
    )
    return {"SDR": sdr, "SIR": sir, "SAR": sar, "ISR": isr}
