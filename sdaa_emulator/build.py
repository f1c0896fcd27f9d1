"""Compiles the emulator with the headers of the installed Paddle."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime import sdaa_kernels
from runtime.compiler import cxx_compiler
from runtime.console import log
from runtime.errors import UserError
from runtime.files import atomic_folder, cache_folder
from runtime.lock import in_turn
from sdaa_emulator import table

SOURCES = Path(__file__).with_name("src")
LIBRARY = "libpaddle-sdaa-emulator.so"

_KERNELS = SOURCES / "kernels.cc"  # compiled once for each part of the table
_PARTS = 4  # of the table of kernels, compiled side by side
_FLAGS = ["-std=c++17", "-O1", "-fPIC", "-w", "-DPADDLE_WITH_CUSTOM_DEVICE"]


def build() -> Path:
    """The folder that holds the plug-in, for ``CUSTOM_DEVICE_ROOT``; compiled if it is not there yet.

    It is kept in ``PADDLESTEMS_CACHE/sdaa_emulator`` (default ``~/.cache/paddlestems``), one for each version of Paddle
    and each state of the sources. Raises `UserError` where there is no Paddle or no C++ compiler, or it fails.
    """
    paddle = _paddle()
    folder = cache_folder() / "sdaa_emulator" / f"{importlib.metadata.version('paddlepaddle')}-{_sources_hash()}"
    if not (folder / LIBRARY).is_file():
        compiler = cxx_compiler()
        if compiler is None:
            raise UserError("the SDAA emulator needs a C++ compiler: install g++, or say which with CXX")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with in_turn(folder.with_name(f".{folder.name}.lock")):  # whoever comes second finds it built
            if not (folder / LIBRARY).is_file():
                log(f"building the SDAA emulator in {folder}")
                with atomic_folder(folder) as work:
                    _compile(compiler, paddle, work)
    return folder


def _compile(compiler: str, paddle: Path, folder: Path) -> None:
    include = paddle / "include"
    generated = folder / "generated"
    generated.mkdir()
    tables = table.write_table(include, generated, _PARTS)
    flags = [*_FLAGS, *(f"-I{path}" for path in (SOURCES, generated, include, include / "third_party"))]
    parts = [(_KERNELS, ["-O0", f"-DPART={n}", f'-DTABLE="{each.name}"'], each.stem) for n, each in enumerate(tables)]
    others = [path for path in (*SOURCES.glob("*.cc"), generated / "kernel_parts.cc") if path != _KERNELS]
    jobs = [*parts, *((path, [], path.stem) for path in others)]

    def compiled(job: tuple[Path, list[str], str]) -> str:
        source, extra, name = job
        target = str(generated / f"{name}.o")
        _call([compiler, *flags, *extra, "-c", str(source), "-o", target])
        return target

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        objects = list(pool.map(compiled, jobs))
    libraries = ["-L", str(paddle / "libs"), "-l:libphi_core.so", "-l:libcommon.so", "-lrt"]
    _call([compiler, "-shared", "-o", str(folder / LIBRARY), *objects, *libraries])
    shutil.rmtree(generated)


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()[-3:]
        raise UserError(f"the SDAA emulator cannot be built: {command[0]}: {' | '.join(errors[:3])}")


def _paddle() -> Path:
    found = importlib.util.find_spec("paddle")
    if found is None or not found.origin:
        raise UserError("the SDAA emulator needs paddlepaddle: pip install -r requirements.txt")
    return Path(found.origin).parent


def _sources_hash() -> str:
    sources = [*sorted(SOURCES.iterdir()), Path(table.__file__), Path(__file__), sdaa_kernels.FILE]
    total = hashlib.sha256(sysconfig.get_platform().encode())
    for path in sources:
        total.update(path.read_bytes())
    return total.hexdigest()[:12]
