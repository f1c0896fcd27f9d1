"""Python, Paddle, its plug-in, drivers and cards: what there is, and what does not go together."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime import device
from runtime.finding import ERROR, WARNING, Finding, version_numbers

OLDEST, NEWEST = (3, 0, 0), (3, 3, 1)  # the Paddle versions that this program is tested with
VENDOR = (3, 0)  # the Paddle version that the vendor documents its plug-in for

_ROOT = Path(__file__).resolve().parents[1]
_INSTALL = "pip install -r requirements.txt"
_PLUGINS = ("paddle-sdaa", "paddle-custom-sdaa")  # packages that bring one
_PATIENCE = 120  # s, for a process that imports Paddle on a busy machine


def has_plugin() -> bool:
    """Whether Paddle would load a plug-in for SDAA."""
    return device.plugin() is not None


def software() -> Iterator[Finding]:
    """Python, Paddle, the plug-in, and whether they fit each other."""
    version = platform.python_version_tuple()
    fits = (3, 10) <= (int(version[0]), int(version[1])) <= (3, 12)
    yield Finding(
        "python",
        f"{platform.python_version()} ({sys.executable})",
        *(() if fits else (WARNING, "use Python 3.10, 3.11 or 3.12")),
    )
    yield _paddle(paddle_version())
    yield _plugin()


def paddle_version() -> str | None:
    """Version of the Paddle that Python would import, read without importing it; None if there is none."""
    package = importlib.util.find_spec("paddle")
    if package is None or package.origin is None:
        return None
    facts = Path(package.origin).parent / "version" / "__init__.py"
    found = re.search(r"full_version\s*=\s*'([^']+)'", facts.read_text("utf-8")) if facts.is_file() else None
    return found[1] if found else "of unknown version"


def _paddle(version: str | None) -> Finding:
    oldest, newest = (".".join(map(str, each)) for each in (OLDEST, NEWEST))
    supported = f"supported: {oldest} (the one that the vendor documents its SDAA plug-in for) to {newest}"
    if version is None:
        return Finding("paddle", "not installed", ERROR, _INSTALL)
    if version_numbers(version) < OLDEST:
        wrong = "data parallelism on plug-in devices does not work, functions are missing, some gradients are wrong"
        return Finding("paddle", f"{version}; {supported}; before, {wrong}", ERROR, _INSTALL)
    if version_numbers(version) > NEWEST:
        return Finding("paddle", f"{version}; {supported}", WARNING, f"not tested with it; {_INSTALL} if it fails")
    return Finding("paddle", f"{version}; {supported}")


def _plugin() -> Finding:
    file, version = device.plugin(), paddle_version()
    cards = sorted(path.name for path in Path("/dev").glob("tcaicard[0-9]*"))
    if file is None and cards:
        remedy = "install the vendor's paddle-sdaa for this paddle, or point CUSTOM_DEVICE_ROOT at the plug-in"
        return Finding("plug-in", f"none, but there are cards: {', '.join(cards)}", ERROR, remedy)
    if file is None:
        return Finding("plug-in", "none for SDAA; an emulated card: python -m sdaa_emulator -- COMMAND…")
    if "emulator" in file.name:
        return Finding("plug-in", f"{file}: the EMULATOR of this repository, no real card (code paths, not speed)")
    packages = [f"{name} {found}" for name in _PLUGINS if (found := _installed(name))]
    text = f"{file} ({', '.join(packages) or 'of no installed package'})"
    if version and version_numbers(version)[:2] != VENDOR:
        wanted = ".".join(map(str, VENDOR))
        wrong = f"{text}: the vendor documents it for paddle {wanted}, this one is {version}"
        return Finding(
            "plug-in", wrong, WARNING, f"if it does not load or crashes: pip install paddlepaddle=={wanted}.0"
        )
    return Finding("plug-in", f"{text}; pairs with paddle {version}")


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# ---------------------------------------------------------------------------------------------------- what computes


def devices() -> Iterator[Finding]:
    """Drivers, cards, and what `auto` would choose."""
    yield from _nodes()
    for tool, arguments in (
        ("teco-smi", []),
        ("nvidia-smi", ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]),
    ):
        if path := shutil.which(tool):
            yield _driver(tool, [path, *arguments])
    if paddle_version() is not None:
        yield from _choice(*_probe())


def _nodes() -> Iterator[Finding]:
    nodes = [*Path("/dev").glob("tcaicard[0-9]*"), *Path("/dev").glob("nvidia[0-9]*")]
    if not nodes:
        yield Finding("cards", "no /dev/tcaicard* and no /dev/nvidia* here")
        return
    yield Finding("cards", ", ".join(sorted(map(str, nodes))))
    if closed := [str(node) for node in nodes if not os.access(node, os.R_OK | os.W_OK)]:
        remedy = f"join the group that owns them ({nodes[0].group()}), or pass them to the container"
        yield Finding("cards", f"this user may not open {', '.join(closed)}", ERROR, remedy)


def _driver(tool: str, command: list[str]) -> Finding:
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(tool, f"does not answer: {error}", WARNING, "check the driver and that it is loaded")
    if asked.returncode:
        said = " ".join((asked.stderr or asked.stdout).split())[:200]
        return Finding(tool, f"ends with status {asked.returncode}: {said}", WARNING, "check that the driver is loaded")
    lines = [line.strip() for line in asked.stdout.splitlines() if re.search(r"\d", line)]
    return Finding(tool, "; ".join(lines[:4]))


def _probe() -> tuple[dict[str, Any], str]:
    """What Paddle says in a process of its own, or an empty report and how that process ended."""
    command = [sys.executable, "-m", "runtime.doctor_probe"]
    try:
        asked = subprocess.run(
            command, cwd=_ROOT, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return {}, f"nothing for {_PATIENCE} s"
    if asked.returncode == 0:
        return json.loads(asked.stdout.splitlines()[-1]), ""
    said = [line for line in asked.stderr.splitlines() if line.strip()][-1:] or ["without a word"]
    how = f"killed by signal {-asked.returncode}" if asked.returncode < 0 else f"status {asked.returncode}"
    return {}, f"{how}, {said[0][-300:]}"


def _choice(report: dict[str, Any], failure: str) -> Iterator[Finding]:
    if not report:
        remedy = f"python -c 'import paddle; paddle.utils.run_check()'; {_INSTALL} if that fails, too"
        yield Finding("paddle", f"importing it failed: {failure}", ERROR, remedy)
        return
    chosen = f"auto chooses {report['device']} ({report['reason']})"
    settings = ", ".join(f"{name}={value}" for name, value in report["set"].items())
    kept = ", ".join(f"{name}={value}" for name, value in report["kept"].items())
    chosen += f"; with {settings}" * bool(settings) + f"; kept as you set it: {kept}" * bool(kept)
    if "error" in report:
        yield Finding("device", f"{chosen}: {report['error']}", ERROR, "see the other findings, or choose --device cpu")
        return
    emulated = "emulator" in report["plugin"] and report["device"].startswith("sdaa")
    chosen += "; this card is EMULATED" * emulated
    if not report["computes"]:
        yield Finding("device", f"{chosen}: it computes 2 × 2 wrongly", ERROR, "check the driver and the plug-in")
        return
    yield Finding("device", chosen)
    yield Finding("devices", f"paddle sees {', '.join(report['devices'])}")
    if report["cuda"] is None and shutil.which("nvidia-smi"):
        remedy = "pip install paddlepaddle-gpu for your CUDA version instead of paddlepaddle"
        yield Finding("cuda", "there is an NVIDIA driver, but this paddle is built for the CPU", WARNING, remedy)
    if report["onednn"] is None:
        wrong = "not in paddle's libs: convolutions on the CPU are several times slower in eager mode"
        yield Finding("oneDNN", wrong, WARNING, "use the stock paddlepaddle wheel for x86-64 Linux")
    else:
        yield Finding("oneDNN", report["onednn"])
