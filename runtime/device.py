"""Which device computes, decided before paddle is imported, and the environment that paddle needs for it.

Nobody else names a device. A variable that the user has set is kept and reported, never overwritten.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from runtime import black_list
from runtime.console import hushed, log
from runtime.errors import UserError
from runtime.worker import in_worker

KINDS = ("sdaa", "gpu", "cpu")  # in the order in which `auto` tries them

# Kernels that the SDAA back end registers but that refuse the arguments of a network, with commas between them;
# networks by the beginning of their name, others need none. `python -m runtime.doctor audit NETWORK` finds them.
_BLACK_LISTS = {"spleeter": ""}

_VISIBLE = {"sdaa": "SDAA_VISIBLE_DEVICES", "gpu": "CUDA_VISIBLE_DEVICES"}  # the user's choice among the cards
_COLLECTIVES = {"sdaa": "xccl", "gpu": "nccl", "cpu": "gloo"}  # back ends of paddle.distributed
_NODES = {"sdaa": "tcaicard", "gpu": "nvidia"}  # how the device nodes of the cards are called

_REMEDIES = {
    "sdaa": "install the vendor's paddle-sdaa or point CUSTOM_DEVICE_ROOT at the plug-in, or choose --device cpu",
    "gpu": "install paddlepaddle-gpu on a machine with an NVIDIA card, or choose --device cpu",
}


@dataclass(frozen=True)
class Device:
    """The outcome of `select`."""

    kind: str  # sdaa, gpu or cpu
    index: int  # which card of the visible ones; 0 for the CPU
    reason: str  # why this one
    environment: dict[str, str] = field(default_factory=dict)  # what was set for it
    kept: dict[str, str] = field(default_factory=dict)  # what the user had set otherwise, and stays

    @property
    def name(self) -> str:
        """As paddle spells it: ``sdaa:0``, ``gpu:1``, ``cpu``."""
        return "cpu" if self.kind == "cpu" else f"{self.kind}:{self.index}"

    @property
    def collectives(self) -> str:
        """The back end of paddle.distributed between its processes."""
        return _COLLECTIVES[self.kind]

    def __str__(self) -> str:
        return "; ".join([f"{self.name} ({self.reason})", *(f"kept {key}={value}" for key, value in self.kept.items())])


def select(device: str = "auto", network: str | None = None, processes: int = 1) -> Device:
    """Decide for ``auto``, ``cpu``, ``gpu`` or ``sdaa`` (with an index if wanted: ``sdaa:1``) and set the environment.

    ``network`` is a name of the registry (for its black list), ``processes`` how many will share the machine. Imports
    nothing of paddle. Raises `UserError` if the device is not there or has fewer cards than processes, `RuntimeError`
    if paddle was imported already and would have needed another environment.
    """
    found = re.fullmatch(r"(auto|sdaa|gpu|cpu)(?::(\d+))?", device)
    if not found or (found[2] and found[1] in ("auto", "cpu")):
        raise UserError(f"--device {device} is not understood: auto, cpu, gpu, sdaa or a card such as sdaa:1", status=2)
    kind, reason = _automatic() if found[1] == "auto" else (found[1], "as asked for")
    if (absence := _absence(kind)) is not None:
        raise UserError(f"--device {device}: {absence}; {_REMEDIES[kind]}")
    index = int(found[2]) if found[2] and not in_worker() else _launched_index(kind)
    count = visible_count(kind)
    if count is None and kind == "sdaa" and max(index, processes - 1) > 0 and not in_worker():
        count = _count_by_paddle(kind)
    if count is not None:
        if index >= count:
            raise UserError(f"--device {device}: {count} cards are visible, counted from 0")
        if processes > count:
            raise UserError(
                f"{processes} processes need {processes} cards, but {count} are visible: choose -npn {count}"
            )
    environment, kept = _apply(_environment(kind, network, processes))
    os.environ.setdefault("GLOG_minloglevel", "2")  # errors only: paddle's warnings are about its own inside
    return Device(kind, index, reason, environment, kept)


def visible_count(kind: str) -> int | None:
    """Number of cards of this kind that may be used, 0 if there are none, ``None`` if only paddle could tell.

    For ``cpu`` it is always ``None``: any number of processes can share it.
    """
    if kind == "cpu":
        return None
    if not (_has_gpu_build() if kind == "gpu" else plugin()):
        return 0
    listed = os.environ.get(_VISIBLE[kind], "all")
    if listed != "all":
        return len([card for card in listed.split(",") if card.strip() and card.strip() != "-1"])
    cards = [path for path in Path("/dev").glob(f"{_NODES[kind]}*") if path.name.removeprefix(_NODES[kind]).isdigit()]
    return len(cards) or (0 if kind == "gpu" else None)  # a plug-in without such nodes knows its cards itself


def card_labels(kind: str, processes: int) -> list[str]:
    """The first cards by the names that the user's list of visible ones gives them, one a process."""
    listed = os.environ.get(_VISIBLE[kind], "all")
    labels = [str(number) for number in range(processes)] if listed == "all" else listed.split(",")
    return [label.strip() for label in labels[:processes]]


def is_host(name: str) -> bool:
    """Whether the device of this name (as paddle spells it) is the machine's own processor.

    There networks can run as exported programs, and large batches gain nothing.
    """
    return name == "cpu"


def _count_by_paddle(kind: str) -> int:
    """Ask paddle in a process of its own, because importing it here would settle the environment."""
    code = f"from paddle.device import get_available_custom_device as cards; print(str(cards()).count('{kind}'))"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = asked.stdout.split()[-1:]
    return int(last[0]) if last and last[0].isdigit() else 0


def activate(device: Device) -> None:
    """Import paddle, make ``device`` its default, and say so on the console; `UserError` if paddle cannot use it."""
    try:
        with _signals_later(), hushed():  # it warns of every OMP_NUM_THREADS but 1 and of tools that it does not need
            import paddle

            _restore_signals(paddle)
        paddle.set_device(device.name)
        paddle.zeros([1])
    except ModuleNotFoundError as error:
        raise UserError(f"paddle cannot be imported ({error}): pip install -r requirements.txt") from error
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[-300:]
        raise UserError(f"--device {device.name} cannot be used: {reason}") from error
    log(f"device: {device}")


@contextmanager
def _signals_later() -> Iterator[None]:
    """Signals that come in the block take effect after it: meanwhile paddle's handlers are in the place of ours."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _restore_signals(paddle: ModuleType) -> None:
    """Paddle's own handlers dump the stack and abort where an interrupted command should tidy up."""
    paddle.disable_signal_handler()
    if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.getsignal(number) or signal.SIG_DFL)
            # Paddle takes a call of the system that a signal cut short for a broken connection
            signal.siginterrupt(number, False)


# ------------------------------------------------------------------------------------------------- what is there


def _automatic() -> tuple[str, str]:
    absences = []
    for kind in KINDS:
        absence = _absence(kind)
        if absence is None:
            return kind, f"auto: {'; '.join(absences) or 'an SDAA plug-in is there'}"
        absences.append(absence)
    raise AssertionError("there is always a CPU")


def _absence(kind: str) -> str | None:
    """Why there is no such device, or ``None`` if there is one."""
    if kind == "sdaa" and plugin() is None:
        return "no SDAA plug-in of paddle"
    if kind == "gpu" and not _has_gpu_build():
        return "no CUDA build of paddle"
    if visible_count(kind) == 0:
        return f"no visible {kind} card"
    return None


def plugin() -> Path | None:
    """The library that teaches paddle the device type sdaa."""
    root = os.environ.get("CUSTOM_DEVICE_ROOT")
    if root is None:
        package = importlib.util.find_spec("paddle")  # finds the folder without importing anything
        folder = Path(package.origin).parents[1] / "paddle_custom_device" if package and package.origin else None
    else:
        folder = Path(root) if root else None
    if folder is None or not folder.is_dir():
        return None
    return next((path for path in sorted(folder.glob("*.so")) if "sdaa" in path.name.lower()), None)


def _has_gpu_build() -> bool:
    try:
        importlib.metadata.distribution("paddlepaddle-gpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _launched_index(kind: str) -> int:
    """The card that the launcher gave to this process."""
    first = os.environ.get(f"FLAGS_selected_{kind}s", "").split(",")[0]
    return int(first) if first.isdigit() else 0


# ------------------------------------------------------------------------------------------------- the environment


def _environment(kind: str, network: str | None, processes: int) -> dict[str, str]:
    """What this kind of device wants of the environment; an empty black list means that there should be none."""
    if kind == "sdaa":
        return {
            "FLAGS_use_stride_kernel": "0",  # the back end lacks what stride mode looks up without fallback
            "PADDLE_XCCL_BACKEND": "sdaa",
            "CUSTOM_DEVICE_BLACK_LIST": _black_list(network or ""),
        }
    if kind == "gpu":
        return {}
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    wanted = {"OMP_NUM_THREADS": str(threads)}  # unset, paddle computes with one
    if plugin() is not None:
        wanted["CUSTOM_DEVICE_ROOT"] = ""  # a plug-in would make itself the default device
    return wanted


def _black_list(network: str) -> str:
    """What the host must compute for ``network``: refused kernels and their gradients, as Paddle's list spells them."""
    refused = next((names for prefix, names in _BLACK_LISTS.items() if network.startswith(prefix)), "")
    return black_list.spelled(refused.split(","))


def _apply(wanted: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Set what the user has not set; return what was wanted and holds, and what was kept against it."""
    kept = {key: os.environ[key] for key, value in wanted.items() if os.environ.get(key, value) != value}
    missing = {
        key: value
        for key, value in wanted.items()
        if key not in os.environ and (value or key != "CUSTOM_DEVICE_BLACK_LIST")
    }
    if missing and "paddle" in sys.modules:
        raise RuntimeError(f"call select() before paddle is imported: it has to set {', '.join(missing)}")
    os.environ.update(missing)
    return {key: os.environ[key] for key in wanted if key in os.environ and key not in kept}, kept
