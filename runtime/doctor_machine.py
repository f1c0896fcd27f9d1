"""Processor, memory, disk, packages and codecs of this machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from runtime.compiler import cxx_compiler
from runtime.disk import cache_folder, readable
from runtime.finding import ERROR, WARNING, Finding, version_numbers

_ROOT = Path(__file__).resolve().parents[1]
_GIB = 1 << 30
_INSTALL = "pip install -r requirements-base.txt"


def machine() -> Iterator[Finding]:
    """All findings of this module."""
    yield from _processor(Path("/proc/cpuinfo").read_text("utf-8", errors="replace"))
    yield _memory()
    yield _shared_memory(Path("/dev/shm"))
    yield from _disks()
    yield from packages(_ROOT / "requirements-base.txt")
    yield from codecs()
    yield _compiler()


def _processor(cpuinfo: str) -> Iterator[Finding]:
    name = re.search(r"model name\s*:\s*(.+)", cpuinfo)
    flags = set((re.search(r"(?:flags|Features)\s*:\s*(.+)", cpuinfo) or [" "] * 2)[1].split())
    cores, quota = len(os.sched_getaffinity(0)), _processor_quota()
    features = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
    text = f"{name[1] if name else platform.machine()}, {cores} cores, {' '.join(features) or 'no AVX2'}"
    text += "; bfloat16" if {"avx512_bf16", "amx_bf16"} & flags else "; no bfloat16 (--precision bf16 is refused)"
    if quota and quota < cores:
        remedy = f"export OMP_NUM_THREADS={max(1, int(quota))}"
        yield Finding("processor", f"{text}; the container may use {quota:.1f} of the cores", WARNING, remedy)
    elif platform.machine() == "x86_64" and "avx2" not in flags:
        yield Finding("processor", text, WARNING, "training on a processor without AVX2 is very slow: use another")
    else:
        yield Finding("processor", text)


def _processor_quota() -> float | None:
    """Cores that the control group grants; None if it does not limit them."""
    for folder in _control_groups("cpu"):
        limit, _, period = _first_line(folder / "cpu.max").partition(" ")
        if limit.isdigit() and period.isdigit():
            return int(limit) / int(period)
        limit, period = _first_line(folder / "cpu.cfs_quota_us"), _first_line(folder / "cpu.cfs_period_us")
        if limit.isdigit() and period.isdigit():
            return int(limit) / int(period)
    return None


def _memory() -> Finding:
    facts = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text("ascii")))
    total, free = int(facts["MemTotal"]) << 10, int(facts["MemAvailable"]) << 10
    text = f"{readable(free)} of {readable(total)} available"
    for folder in _control_groups("memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, now = _first_line(folder / limit), _first_line(folder / used)
            if most.isdigit() and int(most) < total:
                free = min(free, int(most) - (int(now) if now.isdigit() else 0))
                text += f"; the control group allows {readable(int(most))}, {readable(free)} are left"
    return _judged("memory", text, free, 4 * _GIB, _GIB, "close other programs, or raise the limit of the container")


def _control_groups(controller: str) -> Iterator[Path]:
    """Folders whose limits hold for this process, the innermost first (versions 1 and 2 of control groups)."""
    for line in _lines(Path("/proc/self/cgroup")):
        _, _, names_and_place = line.partition(":")
        names, _, place = names_and_place.partition(":")
        if names and controller not in names.split(","):
            continue
        root = Path("/sys/fs/cgroup", controller if names else "")
        inner = root / place.strip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root) and folder.is_dir())


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _first_line(path: Path) -> str:
    return (_lines(path) or [""])[0].strip()


def _shared_memory(place: Path) -> Finding:
    remedy = "mount a tmpfs there; for a container: docker run --shm-size=8g (or --ipc=host)"
    if not place.is_dir():
        return Finding("shared memory", f"there is no {place}: several processes cannot meet", ERROR, remedy)
    usage = shutil.disk_usage(place)
    text = f"{place}: {readable(usage.free)} of {readable(usage.total)} free"
    return _judged("shared memory", text, usage.free, _GIB, 32 << 20, remedy)


def _disks() -> Iterator[Finding]:
    for subject, folder in (("disk", Path.cwd()), ("cache folder", cache_folder())):
        place = folder
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if not os.access(place, os.W_OK):
            yield Finding(subject, f"{folder} cannot be written", ERROR, "change the permissions or use another folder")
        else:
            remedy = "free some space; the songs of MUSDB18 and their cached spectrograms take about 30 GB"
            yield _judged(subject, f"{folder}: {readable(free)} free", free, 10 * _GIB, _GIB, remedy)


def _judged(subject: str, text: str, amount: float, enough: float, least: float, remedy: str) -> Finding:
    if amount >= enough:
        return Finding(subject, text)
    return Finding(subject, f"{text}: that is little", WARNING if amount >= least else ERROR, remedy)


def packages(requirements: Path) -> Iterator[Finding]:
    """Whether what ``requirements`` lists is installed, new enough."""
    missing, count = [], 0
    for line in _lines(requirements):
        found = re.match(r"([\w.-]+)\s*(?:>=\s*([\d.]+))?", line.strip())
        if found is None:
            continue
        count += 1
        try:
            version = importlib.metadata.version(found[1])
        except importlib.metadata.PackageNotFoundError:
            missing.append(found[1])
            continue
        if found[2] and version_numbers(version) < version_numbers(found[2]):
            missing.append(f"{found[1]} ({version} is older than {found[2]})")
    if missing:
        yield Finding("packages", f"not there: {', '.join(missing)}", ERROR, _INSTALL)
    else:
        yield Finding("packages", f"all {count} of {requirements.name}")


def codecs() -> Iterator[Finding]:
    """Which audio formats can be read and written."""
    try:
        import soundfile
    except (ImportError, OSError) as error:
        remedy = f"{_INSTALL}; where there is no wheel, install the system's libsndfile"
        yield Finding("libsndfile", f"cannot be loaded ({error}): no audio file can be read", ERROR, remedy)
    else:
        formats = soundfile.available_formats()
        lacking = [name for name in ("WAV", "FLAC", "OGG", "MP3") if name not in formats]
        text = f"{soundfile.__libsndfile_version__}: wav flac ogg mp3 are read and written"
        if lacking:
            remedy = "pip install --upgrade soundfile (its wheel brings libsndfile 1.1 or newer)"
            yield Finding("libsndfile", f"{soundfile.__libsndfile_version__} lacks {lacking}", WARNING, remedy)
        else:
            yield Finding("libsndfile", text)
    try:
        import av
    except (ImportError, OSError) as error:
        yield Finding("PyAV", f"cannot be loaded ({error}): no m4a, wma, webm, mp4", WARNING, _INSTALL)
        return
    reads = {name: _has_codec(av, name, "r") for name in ("aac", "mp3", "vorbis", "opus", "wmav2", "alac")}
    writes_aac = _has_codec(av, "aac", "w")
    lacking = [name for name, there in reads.items() if not there] + ["aac for writing"] * (not writes_aac)
    if lacking:
        yield Finding("PyAV", f"{av.__version__} lacks {', '.join(lacking)}", WARNING, "pip install --upgrade av")
    else:
        yield Finding("PyAV", f"{av.__version__}: {' '.join(reads)} are read, aac (m4a) is written")


def _has_codec(av: object, name: str, mode: str) -> bool:
    try:
        av.Codec(name, mode)
    except ValueError:  # what PyAV raises for an unknown one
        return False
    return True


def _compiler() -> Finding:
    if found := cxx_compiler():
        return Finding("C++ compiler", f"{found}: the SDAA emulator can be built")
    return Finding("C++ compiler", "none: the SDAA emulator cannot be built", WARNING, "install g++")
