"""What Paddle says of itself and its devices, in a process of its own: importing it settles a process for good."""

from __future__ import annotations

import ctypes
import json
import re
from pathlib import Path
from typing import Any

from runtime import console, device
from runtime.errors import UserError


def main(_arguments: list[str]) -> int:
    """Print one line of JSON: which device ``auto`` chooses and why, whether it works, and what there is."""
    console.set_verbosity(-1)
    chosen = device.select("auto")
    report: dict[str, Any] = {"device": chosen.name, "reason": chosen.reason, "kept": chosen.kept}
    report["set"] = chosen.environment
    try:
        device.activate(chosen)
    except UserError as error:
        report["error"] = str(error)
    else:
        report |= _paddle()
    print(json.dumps(report))
    return 0


def _paddle() -> dict[str, Any]:
    import paddle

    ones = paddle.ones([2, 2])
    return {
        "computes": float(paddle.matmul(ones, ones).sum()) == 8.0,
        "paddle": paddle.__version__,
        "devices": paddle.device.get_available_device() or ["cpu"],
        "cuda": paddle.version.cuda() if paddle.is_compiled_with_cuda() else None,
        "plugin": loaded_plugin(),
        "onednn": _onednn(Path(paddle.__file__).parent / "libs"),
    }


def loaded_plugin() -> str:
    """Path of the plug-in library for SDAA in this process; empty if there is none."""
    mapped = Path("/proc/self/maps").read_text("utf-8")
    found = re.search(r"/\S*/[^/\s]*sdaa[^/\s]*\.so$", mapped, re.MULTILINE | re.IGNORECASE)
    return found[0] if found else ""


def _onednn(folder: Path) -> str | None:
    """Version of the oneDNN library that Paddle ships and has loaded."""

    class Version(ctypes.Structure):
        _fields_ = (("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int))

    try:
        library = ctypes.CDLL(str(next(folder.glob("libdnnl.so*"), "libdnnl.so")))
    except OSError:
        return None
    library.dnnl_version.restype = ctypes.POINTER(Version)
    version = library.dnnl_version().contents
    return f"{version.major}.{version.minor}.{version.patch}"


if __name__ == "__main__":
    console.run(main)
