"""Which operators a step of a network needs, and which of them an SDAA card would leave to its host."""

from __future__ import annotations

import os
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runtime import black_list
from runtime.console import table
from runtime.doctor_step import Launch, Observation, observe
from runtime.sdaa_kernels import is_native, kernels

CARD, HOST, HOST_DATA = "card", "host", "host data"  # where a kernel runs; the last is no fallback, the data are there


@dataclass(frozen=True)
class Row:
    """All launches of one kernel in one type and place."""

    kernel: str
    dtype: str
    count: int
    share: float  # of the time in kernels
    flops: int | None  # multiplications and additions; None where they are not counted
    where: str  # CARD, HOST or HOST_DATA
    note: str  # why the host, or whose kernel it is if not the back end's


@dataclass(frozen=True)
class Audit:
    """One step of a network, kernel by kernel."""

    network: str
    train: bool
    batch: int
    segment: int  # frames or samples, whichever the network eats
    device: str  # that computed
    emulated: bool
    paddle: str
    seconds: float  # in kernels, on that device
    rows: tuple[Row, ...]  # those that took longest first
    refused: dict[str, str]  # kernel -> arguments that the card's would refuse
    black_list: str  # CUSTOM_DEVICE_BLACK_LIST that this step needs for that
    black_list_given: str  # that the user had set and that was in force
    disagreements: tuple[str, ...]  # between the list of the card's kernels and what Paddle did on the (emulated) card

    @property
    def fallbacks(self) -> dict[str, int]:
        """``kernel dtype`` -> launches that the card leaves to its host."""
        return {f"{row.kernel} {row.dtype}": row.count for row in self.rows if row.where == HOST}

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"fallbacks": self.fallbacks}

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def audit(
    network: str,
    train: bool = True,
    on: str | None = None,
    batch: int = 1,
    segment: int | None = None,
    overrides: Sequence[str] = (),
) -> Audit:
    """Take one step of ``network`` (a name of the registry) and look at its kernels.

    ``on`` is a device as `runtime.device.select` takes it; None is the emulated card. ``segment`` is in frames (default
    64) for one that eats spectrograms, in samples (default one second) for others. ``overrides`` are ``key=value``
    of its configuration. Raises `UserError` if the network, the device or a compiler for the emulator is not there, or
    the step fails.
    """
    from models.registry import describe

    description = describe(network)
    segment = segment or (description.sample_rate if description.eats == "waveform" else 64)
    order = {"network": description.name, "train": train, "card": on or "sdaa", "batch": batch}
    seen = observe(order | {"segment": segment, "overrides": list(overrides)}, emulated=on is None)
    given = os.environ.get(black_list.VARIABLE, "")
    return Audit(
        network=description.name,
        train=train,
        batch=batch,
        segment=segment,
        device=seen.device,
        emulated=seen.device.startswith("sdaa") and "emulator" in seen.plugin,
        paddle=seen.paddle,
        seconds=sum(seconds for _, seconds in seen.seconds),
        rows=tuple(sorted(_rows(seen, given), key=lambda row: -row.share)),
        refused=dict(seen.refused),
        black_list=black_list.spelled(seen.refused, gradients=train),
        black_list_given=given,
        disagreements=tuple(_disagreements(seen, given)),
    )


# ------------------------------------------------------------------------------------------------------- judgement


def _rows(seen: Observation, given: str) -> Iterator[Row]:
    on_card = not seen.device.startswith(("cpu", "gpu"))
    times: dict[str, deque[float]] = defaultdict(deque)
    for kernel, seconds in seen.seconds:
        times[kernel].append(seconds)
    counts: Counter[tuple[str, str, str]] = Counter()
    spent: dict[tuple[str, str, str], float] = defaultdict(float)
    for launch in seen.launches:
        key = (launch.kernel, launch.dtype, _place(launch, seen.generic, on_card))
        counts[key] += 1
        spent[key] += times[launch.kernel].popleft() if times[launch.kernel] else 0.0
    total = sum(spent.values()) or 1.0
    for (kernel, dtype, where), count in counts.items():
        calls, flops = seen.flops.get(kernel, (0, None))
        known = flops if calls == count else None
        note = _note(kernel, dtype, where, seen, given)
        yield Row(kernel, dtype, count, spent[kernel, dtype, where] / total, known, where, note)


def _place(launch: Launch, generic: frozenset[str], on_card: bool) -> str:
    """Where an SDAA card's kernel runs: as seen there, or by the list if another device computed."""
    if not on_card:
        return CARD if is_native(launch.kernel, launch.dtype) or launch.kernel in generic else HOST
    if launch.wanted == "CPU":
        return HOST_DATA
    return HOST if launch.on_host else CARD


def _note(kernel: str, dtype: str, where: str, seen: Observation, given: str) -> str:
    if where == HOST_DATA or (where == CARD and is_native(kernel, dtype)):
        return ""
    if where == CARD:
        return "Paddle's own"
    if kernel in seen.refused:
        return f"refuses {seen.refused[kernel]}"
    if _is_listed(kernel, given):
        return "black list"
    return f"not in {dtype}" if kernel in kernels() else "no kernel"


def _is_listed(kernel: str, given: str) -> bool:
    return kernel in kernels() and kernels()[kernel].black_list_name in given.split(",")


def _disagreements(seen: Observation, given: str) -> Iterator[str]:
    """What the list of the card's kernels says otherwise than Paddle did."""
    listed = [given, black_list.spelled(seen.refused)]
    for launch in dict.fromkeys(seen.launches):
        if launch.wanted != "sdaa" or _is_listed(launch.kernel, ",".join(listed)):
            continue
        native, what = is_native(launch.kernel, launch.dtype), f"{launch.kernel} {launch.dtype}"
        if native and launch.on_host:
            yield f"{what}: on the list of the card's kernels, but computed by the host"
        elif not native and not launch.on_host and launch.kernel not in seen.generic:
            yield f"{what}: not on the list of the card's kernels, but computed by the card"


# ------------------------------------------------------------------------------------------------------------ words


def _where(row: Row) -> str:
    return f"{row.where}: {row.note}" if row.note else row.where


def _lines(found: Audit) -> Iterator[str]:
    step = "one training step" if found.train else "the network's part of a separation"
    card = "an emulated card" if found.emulated else found.device
    yield f"{found.network}: {step}, {found.batch} × {found.segment}, on {card} (paddle {found.paddle})"
    if found.emulated:
        yield "the operators are the card's; the times are those of this machine's processor, not of a card"
    elif not found.device.startswith("sdaa"):
        yield f"the operators are those of {found.device}; where an SDAA card would compute them is judged by its list"
    if found.device == "cpu":
        yield "what oneDNN computes directly, convolutions and products, are no operators of Paddle and not listed"
    yield ""
    rows = [
        [row.kernel, row.dtype, row.count, 100 * row.share, None if row.flops is None else row.flops / 1e9, _where(row)]
        for row in found.rows
    ]
    yield table(rows, ["kernel", "type", "launches", "time %", "GFLOP", "SDAA"])
    yield ""
    launches, operations = sum(row.count for row in found.rows), sum(row.flops or 0 for row in found.rows) / 1e9
    yield f"{launches} launches in {found.seconds:.2f} s, {operations:.2f} GFLOP in convolutions, products and norms"
    fallbacks = ", ".join(f"{name} ({count})" for name, count in found.fallbacks.items())
    yield f"left to the host: {fallbacks or 'nothing'}"
    if found.black_list_given:
        yield f"{black_list.VARIABLE} was in force as it is set: {found.black_list_given}"
    yield from (f"refused: {kernel}: {reason}" for kernel, reason in found.refused.items())
    yield f"{black_list.VARIABLE} that this step needs: {found.black_list or 'none'}"
    if found.emulated:
        yield from (f"list and emulator disagree: {sentence}" for sentence in found.disagreements)
        if not found.disagreements:
            yield "the list of the card's kernels and the emulator agree"
