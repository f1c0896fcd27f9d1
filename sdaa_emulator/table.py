"""The kernels of the card as a table for the compiler, from the list of the runtime and the headers of the wheel."""

from __future__ import annotations

import re
from pathlib import Path

from runtime.sdaa_kernels import kernels

_CPP = {
    "bool": "bool",
    "uint8": "uint8_t",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int",
    "int64": "int64_t",
    "float16": "phi::dtype::float16",
    "float32": "float",
    "float64": "double",
}

# functions that are not called like their kernel
_FUNCTIONS = {
    "adam": "AdamDenseKernel",
    "adamw": "AdamwDenseKernel",
    "conv2d": "ConvKernel",
    "conv2d_grad": "ConvGradKernel",
    "depthwise_conv2d": "DepthwiseConvKernel",
    "depthwise_conv2d_grad": "DepthwiseConvGradKernel",
    "dropout": "DropoutRawKernel",
    "dropout_grad": "DropoutGradRawKernel",
    "logical_and": "LogicalAndKernel",
    "logical_or": "LogicalOrKernel",
    "logical_xor": "LogicalXorKernel",
    "mean_grad": "ReduceMeanGradKernel",
    "momentum": "MomentumDenseKernel",
    "nll_loss": "NllLossRawKernel",
    "sum_grad": "ReduceSumGradKernel",
}

# the card has no use for these beside what Paddle itself does on a plug-in device: copies, and forms of static graphs
_LEFT_OUT = re.compile(r"memcpy.*|npu_identity|.*_raw|grad_add")


def write_table(include: Path, folder: Path, parts: int) -> list[Path]:
    """Write the table into ``folder``, in ``parts`` for as many compilers; return the files of the parts.

    A kernel that this version of Paddle does not declare is left out: Paddle does not call it either.
    """
    headers = {path: path.read_text("utf-8") for path in sorted((include / "paddle/phi/kernels").glob("*.h"))}
    names, needed, rows = [], set(), []
    for name, kernel in kernels().items():
        names.append(f'inline constexpr char name_{name}[] = "{name}";')
        found = None if _LEFT_OUT.fullmatch(name) else _declaration(name, headers)
        if found is None:
            continue
        header, function, typed = found
        needed.add(header)
        macro = "TYPED" if typed else "UNTYPED"
        rows += [
            f"{macro}({name}, {function}, {_CPP[dtype]}, {dtype.upper()})" for dtype in kernel.dtypes if dtype in _CPP
        ]
    _write(folder / "kernel_names.inc", ["#pragma once", "namespace emulator {", *names, "}"])
    _write(folder / "kernel_headers.inc", [f'#include "{header.relative_to(include)}"' for header in sorted(needed)])
    calls = [f"void register_part_{part}();" for part in range(parts)]
    body = "".join(f"register_part_{part}(); " for part in range(parts))
    _write(folder / "kernel_parts.cc", ["namespace emulator {", *calls, f"void register_kernels() {{ {body}}}", "}"])
    tables = [folder / f"kernel_table_{part}.inc" for part in range(parts)]
    for part, table in enumerate(tables):
        _write(table, rows[part::parts])
    return tables


def _declaration(name: str, headers: dict[Path, str]) -> tuple[Path, str, bool] | None:
    """Header, function and whether it is a template of the type, for the kernel ``name``."""
    function = _FUNCTIONS.get(name) or "".join(word.capitalize() for word in name.split("_")) + "Kernel"
    for header, text in headers.items():
        if found := re.search(rf"template <([^>]*)>\s*(?:\w+\s+)?void\s+({function})\(", text, re.IGNORECASE):
            return header, found[2], "typename T" in found[1]
    operator = re.sub(r"(Grad)?Kernel$", "", function)
    for header, text in headers.items():  # the simple ones are declared by macros that get the operator's name
        if header.stem.endswith("_grad_kernel") != name.endswith("_grad"):
            continue
        given = rf"{operator}|{function}|{operator.removeprefix('Logical')}"
        declared = re.search(rf"^\w*(?:KERNEL|OP)\w*\(\s*({given})\b", text, re.IGNORECASE | re.MULTILINE)
        if declared:
            spelled = re.sub(r"(Grad)?Kernel$", "", declared[1])  # HardSigmoid, not Hardsigmoid
            return header, function if name in _FUNCTIONS else function.replace(operator, spelled), True
    return None


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", "utf-8")
