"""Variables of the environment that matter to Paddle and to this program, and what contradicts what among them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from runtime.black_list import VARIABLE as BLACK_LIST
from runtime.finding import ERROR, WARNING, Finding
from runtime.sdaa_kernels import kernels

_SHOWN = re.compile(
    r"(PADDLE|FLAGS_|SDAA|CUSTOM_DEVICE_|CUDA_|NCCL_|XCCL|TCCL|GLOG_|OMP_|MKL_|KMP_|HIGH_PERFORMANCE_)\w*|MODEL_PATH"
)
_NEVER = {"elementwise_add": "a second backward pass crashes", "fill_constant": "data parallelism writes card memory"}

# variable, the values that are meant, status where a card is to be used, what is wrong with them, remedy
_VALUES = (
    (
        "FLAGS_use_stride_kernel",
        r"1|true|True|TRUE|yes|on",
        ERROR,
        "stride mode looks up kernels that the SDAA back end does not have, and does not fall back",
        "unset FLAGS_use_stride_kernel (it is set to 0 when sdaa is chosen)",
    ),
    (
        "PADDLE_XCCL_BACKEND",
        r"(?!sdaa$).*",
        ERROR,
        "the processes of SDAA cards talk through the back end sdaa",
        "unset PADDLE_XCCL_BACKEND (it is set when sdaa is chosen)",
    ),
    (
        "FLAGS_enable_api_kernel_fallback",
        r"0|false|False",
        WARNING,
        "the first operator that the card does not have ends the program instead of running on the host",
        "unset FLAGS_enable_api_kernel_fallback",
    ),
    (
        "HIGH_PERFORMANCE_GEMM",
        r"1",
        WARNING,
        "float32 matrix products are computed from inputs rounded to float16",
        "unset HIGH_PERFORMANCE_GEMM unless that is wanted",
    ),
)
_ANYWHERE = (  # likewise, whatever computes
    ("GLOG_vmodule", r".+", ERROR, "Paddle corrupts its heap at exit with it", "unset it and use GLOG_v"),
    (
        "GLOG_v",
        r"[6-9]|\d\d+",
        WARNING,
        "at this level new versions of Paddle rename tensors while they log them, and optimisers begin anew each step",
        "use at most 5, or unset it",
    ),
    (
        "PADDLESTEMS_ONEDNN",
        r"0",
        WARNING,
        "convolutions on the CPU are several times slower without oneDNN",
        "unset it",
    ),
    (
        "PADDLE_TRAINER_ID",
        r".+",
        WARNING,
        "left behind by a launcher: commands in this shell may take themselves for one of several processes",
        "unset PADDLE_TRAINER_ID PADDLE_TRAINERS_NUM PADDLE_TRAINER_ENDPOINTS PADDLE_CURRENT_ENDPOINT",
    ),
)


def variables(environment: Mapping[str, str], card: bool) -> Iterator[Finding]:
    """Findings about ``environment``; ``card`` says whether there is an SDAA plug-in that it would act upon."""
    shown = [f"{name}={value}" for name, value in sorted(environment.items()) if _SHOWN.fullmatch(name)]
    yield Finding("variables", "; ".join(shown) or "none of those that matter is set")
    for rules, harmless in ((_VALUES, not card), (_ANYWHERE, False)):
        for name, pattern, status, wrong, remedy in rules:
            value = environment.get(name, "")
            if value and re.fullmatch(pattern, value):
                yield Finding(name, f"{value}: {wrong}", WARNING if harmless else status, remedy)
    yield from _visible_cards(environment)
    yield from _plugin_folder(environment)
    yield from _threads(environment)
    if environment.get(BLACK_LIST):
        yield from _black_list(environment[BLACK_LIST], ERROR if card else WARNING)


def _black_list(value: str, serious: str) -> Iterator[Finding]:
    """What Paddle would make of the list; ``serious`` is the status of what breaks a program."""
    names = [name.strip() for name in value.split(",")]
    if value != ",".join(names):
        wrong = "Paddle takes the spaces for parts of the names, so that they match nothing"
        yield Finding(
            BLACK_LIST, f"{value!r}: {wrong}", serious, f"export {BLACK_LIST}={','.join(filter(None, names))}"
        )
    legacy = {kernel.black_list_name for kernel in kernels().values()}
    for name in filter(None, names):
        if name in _NEVER:
            yield Finding(BLACK_LIST, f"{name} must stay on the card: {_NEVER[name]}", serious, "take it off the list")
        elif name not in legacy:
            called = kernels()[name].black_list_name if name in kernels() else None
            wrong = f"Paddle calls {name} {called} here" if called else f"the card has no kernel {name} to be left out"
            remedy = f"write {called}" if called else "take it off the list: the host computes it anyway"
            yield Finding(BLACK_LIST, f"{wrong}: the entry does nothing", WARNING, remedy)
    if {"conv2d", "conv2d_grad"} & set(names):
        wrong = "every convolution of the U-Nets is computed by the host; no network here needs that on SDAA"
        yield Finding(BLACK_LIST, f"{value}: {wrong}", WARNING, f"unset {BLACK_LIST}")


def _visible_cards(environment: Mapping[str, str]) -> Iterator[Finding]:
    for name in ("SDAA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        value = environment.get(name)
        if value is None or value == "all":
            continue
        if not value.strip() or value.strip() == "-1":
            yield Finding(name, "hides all cards", WARNING, f"unset {name}, or list the cards: {name}=0,1")
        elif name.startswith("SDAA") and not re.fullmatch(r"\d+(,\d+)*", value):
            yield Finding(name, f"{value!r} is no list of numbers", ERROR, f"write it as in {name}=0,1,2,3")


def _plugin_folder(environment: Mapping[str, str]) -> Iterator[Finding]:
    value = environment.get("CUSTOM_DEVICE_ROOT")
    if not value:
        return
    remedy = "unset CUSTOM_DEVICE_ROOT, or point it at the folder that holds libpaddle-….so"
    if not Path(value).is_dir():
        yield Finding("CUSTOM_DEVICE_ROOT", f"{value}: there is no such folder", ERROR, remedy)
    elif not any(Path(value).glob("*sdaa*.so")):
        yield Finding("CUSTOM_DEVICE_ROOT", f"{value}: no plug-in for SDAA in it", WARNING, remedy)


def _threads(environment: Mapping[str, str]) -> Iterator[Finding]:
    value, cores = environment.get("OMP_NUM_THREADS"), len(os.sched_getaffinity(0))
    if value and (not value.isdigit() or int(value) == 0):
        yield Finding("OMP_NUM_THREADS", f"{value} is no number of threads", WARNING, "unset it or write a number")
    elif value and int(value) > cores:
        wrong = f"{value} threads on {cores} cores stand in each other's way"
        yield Finding("OMP_NUM_THREADS", wrong, WARNING, f"unset it, or choose at most {cores} over all processes")
