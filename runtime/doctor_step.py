"""Observes one real step of a network from outside: `training.audit` takes it, in a process of its own.

There the profiler measures it, and then Paddle logs which kernel it wanted and which it took. Paddle 3.0 does that in a
process that does nothing else. The log's format is that of Paddle 3.0 to 3.3.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from runtime import black_list
from runtime.errors import UserError

BEGIN, END = "=== the audited step begins ===", "=== the audited step ends ==="  # around the step, on its stderr

_ROOT = Path(__file__).resolve().parents[1]
_LOG_LEVELS = ("4", "6")  # if it has to be said beforehand: newer Paddle renames tensors at 6, where 3.0 says it
_SELECTED = re.compile(
    r"\] \w+ API kernel key: \[(?P<wanted>\w+), [^,\n]+, (?P<dtype>\w+)\]"
    r'|\] (?P<kernel>\w+) kernel: \{"input":\[(?P<tensors>.*?)\]\}',
    re.DOTALL,
)
_DEVICE = re.compile(r'(?:backend: |")(\w+), ')
_REFUSAL = re.compile(r"sdaa emulator: (\w+) of the card refuses ([^\n]+)")


class Launch(NamedTuple):
    """One kernel of the step."""

    kernel: str
    dtype: str
    wanted: str  # device whose kernel Paddle looked for: sdaa, GPU, CPU
    found: str  # device whose kernel it took; CUSTOM: its own for every plug-in device

    @property
    def on_host(self) -> bool:
        """Whether a card's kernel was wanted and the host's was taken."""
        return self.wanted != "CPU" and self.found == "CPU"


@dataclass(frozen=True)
class Observation:
    """What was seen of one step.

    Attributes:
        launches: its kernels in order
        seconds: likewise, kernels with the time that each of them and the copies around it took
        flops: kernel -> [calls, multiplications and additions], for those that can be counted
        generic: kernels that Paddle itself has for every plug-in device, mostly views
        refused: kernel -> arguments of this step that the card's refuses; the step was taken without these kernels
        paddle: its version
        device: where it computed, as Paddle spells it
        plugin: path of the plug-in that was loaded, empty if none was
    """

    launches: list[Launch]
    seconds: list[tuple[str, float]]
    flops: Mapping[str, Sequence[int]]
    generic: frozenset[str]
    refused: Mapping[str, str]
    paddle: str
    device: str
    plugin: str


def observe(order: Mapping[str, Any], emulated: bool) -> Observation:
    """Have `training.audit` take the step that ``order`` describes (the arguments of its `observe` but ``profile``).

    On the emulated card a kernel that refuses its arguments is put on the black list and the step taken again. A list
    of the user stays in force. Raises `UserError` if the step fails otherwise, or the emulator cannot be built.
    """
    environment, refused = _environment(emulated), {}
    while True:
        listed = _with_black_list(environment, refused, order["train"])
        measured, log = _watched(order, listed)
        refusal = _REFUSAL.search(log)
        if refusal is None:
            break
        if refusal[1] in refused:
            raise UserError(f"{refusal[1]} refuses {refusal[2]} although it is on the black list")
        refused[refusal[1]] = refusal[2]
    launches = _launches(log)
    return Observation(
        launches,
        [(kernel, seconds) for kernel, seconds in measured["launches"]],
        measured["flops"],
        frozenset(measured["generic"]) | {launch.kernel for launch in launches if launch.found == "CUSTOM"},
        refused,
        measured["paddle"],
        measured["device"],
        measured["plugin"],
    )


def _environment(emulated: bool) -> dict[str, str]:
    if not emulated:
        return dict(os.environ)
    from sdaa_emulator import environment

    try:
        variables = environment(cards=1)
    except UserError as error:
        raise UserError(f"{error}; --device cpu audits the operators of the CPU without it") from error
    # set, though empty: what the network is said to need must not hide what it does need
    return {black_list.VARIABLE: ""} | variables


def _with_black_list(environment: Mapping[str, str], refused: Mapping[str, str], train: bool) -> dict[str, str]:
    names = [environment.get(black_list.VARIABLE, ""), black_list.spelled(refused, gradients=train)]
    return dict(environment) | ({black_list.VARIABLE: ",".join(filter(None, names))} if refused else {})


def _watched(order: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """The report of the profiled step, and what Paddle logs during one more; or the refusal that ended it."""
    heard = dict(environment) | {"GLOG_v": "0", "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"}
    measured, log = _run(dict(order, profile=True), heard)
    for level in _LOG_LEVELS:
        if _SELECTED.search(log) or _REFUSAL.search(log):
            return measured, log
        _, log = _run(dict(order, profile=False), heard | {"GLOG_v": level})
    if _SELECTED.search(log):
        return measured, log
    raise UserError("this version of paddle does not log its kernels in a way that is known here: use 3.0.0 to 3.3.1")


def _run(order: dict[str, Any], environment: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """The report of the process that takes the step, and its log within the step (all of it after a refusal)."""
    with tempfile.TemporaryDirectory(prefix="paddlestems-") as folder:
        report, said = Path(folder, "report.json"), Path(folder, "log")
        command = [sys.executable, "-m", "training.audit", json.dumps(order | {"report": str(report)})]
        with open(said, "wb") as log:
            status = subprocess.run(
                command, cwd=_ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            ).returncode
        text = said.read_text("utf-8", errors="replace")
        if status == 0:
            return json.loads(report.read_text("utf-8")), text.partition(BEGIN)[2].partition(END)[0]
        if refusal := _REFUSAL.search(text):
            return {}, refusal[0]
    raise _complaint(text, status)


def _complaint(text: str, status: int) -> UserError:
    """The error sentence of a process that failed, or its last line that is none of Paddle's log."""
    lines = [line for line in text.splitlines() if line.strip() and not re.match(r"[IWEF]\d{4} ", line)]
    for line in lines:
        if line.startswith("error: "):
            return UserError(line.removeprefix("error: "))
    last = lines[-1] if lines else f"status {status}, without a word"
    return UserError(f"the audited step failed: {last}")


def _launches(log: str) -> list[Launch]:
    """The kernels of a log, where the line of the kernel wanted comes before that of the kernel taken."""
    launches, wanted = [], ("", "")
    for found in _SELECTED.finditer(log):
        if found["wanted"]:
            wanted = found["wanted"], found["dtype"]
            continue
        device, dtype = wanted
        devices = _DEVICE.findall(found["tensors"])  # a few tensors of a card's kernel may be the host's
        taken = next((each for each in devices if each != "CPU"), "CPU" if devices else device)
        launches.append(Launch(found["kernel"], dtype, device, taken))
    return launches
