"""The kernels that the SDAA back end of Paddle registers, read from its public sources; everything else is computed on
the host. See `sdaa_kernels.json` for where the list comes from.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Kernel:
    """One kernel: the types it is registered for, and how ``CUSTOM_DEVICE_BLACK_LIST`` calls it."""

    name: str
    dtypes: tuple[str, ...]
    black_list_name: str


@functools.cache
def kernels() -> dict[str, Kernel]:
    """All kernels by name."""
    rows = json.loads(FILE.read_text("utf-8"))["kernels"]
    return {
        name: Kernel(name, tuple(row["dtypes"].split()), row.get("black_list_name", name)) for name, row in rows.items()
    }


def is_native(name: str, dtype: str) -> bool:
    """Whether the card computes kernel ``name`` in ``dtype`` (``float32`` …) itself."""
    return name in kernels() and dtype in kernels()[name].dtypes
