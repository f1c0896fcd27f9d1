"""Weights that DiffQ has packed (the ``_q`` models of Demucs): groups of eight numbers, each group in its own width.

A packed state holds no names: two lists, of the quantised parameters and of the others, in the order of the network's
parameters. Which parameter is in which list follows from its size. Format: facebookresearch/diffq 0.2.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pretrained.torch_pickle import class_name
from runtime.errors import UserError

MARK = "__quantized"
_WIDEST = 14  # the format has no place for groups of 15 bits, although the quantiser makes them
_DEFAULTS = {"min_size": 0.01, "group_size": 1, "min_bits": 2, "bits": 8.0, "exclude": (), "float16": False}

Unpack = Callable[[np.ndarray, int], np.ndarray]


def is_packed(state: Mapping[str, Any]) -> bool:
    """Whether a state of a package was quantised."""
    return bool(state.get(MARK))


def restore(state: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The float32 arrays of a quantised state.

    Args:
        state: what a package of a quantised network holds
        shapes: every parameter of the network, by reference name in the reference's order, with its shape there

    Returns:
        reference name -> array, ready for a strict load

    Raises:
        UserError: the state is of a network of another form, or damaged
    """
    meta = state.get("meta") or {}
    kind = class_name(meta.get("klass")).rpartition(".")[2]
    options = {**_DEFAULTS, **(meta.get("init_kwargs") or {})}
    decoders = {"DiffQuantizer": _decode_groups, "UniformQuantizer": _decode_uniform}
    if kind not in decoders:
        raise UserError(f"weights quantised by {kind} are not supported, only by {' and '.join(decoders)}")
    unpack = (_unpack_16 if meta.get("torch_pack") else _unpack_64) if meta.get("packed") else None

    lists = {name: list(state.get(name) or ()) for name in ("quantized", "float16", "others")}
    arrays = {}
    for name, shape in shapes.items():
        place = _place(name, shape, options)
        if not lists[place]:
            raise UserError(f"the quantised weights hold too little: nothing is left for {name}")
        entry = lists[place].pop(0)
        if place == "quantized":
            arrays[name] = decoders[kind](entry, int(np.prod(shape)), options, unpack).reshape(shape)
        elif entry.shape != tuple(shape):
            raise UserError(f"the quantised weights have {list(entry.shape)} where {name} has {list(shape)}")
        else:
            arrays[name] = entry.astype(np.float32)
    if left := sum(map(len, lists.values())):
        raise UserError(f"the quantised weights hold {left} tensors more than the network")
    return arrays


def _place(name: str, shape: Sequence[int], options: Mapping[str, Any]) -> str:
    patterns = options["exclude"] or ()
    excluded = any(fnmatch.fnmatch(name, p) or fnmatch.fnmatch(name.rpartition(".")[2], p) for p in patterns)
    if np.prod(shape) > options["min_size"] * 2**20 // 4 and not excluded:
        return "quantized"
    return "float16" if options["float16"] else "others"


def _decode_groups(entry: Any, count: int, options: Mapping[str, Any], unpack: Unpack | None) -> np.ndarray:
    """One parameter of DiffQ: levels, range, and the width of each group."""
    groups = count // options["group_size"] if options["group_size"] else 1
    size = count // groups
    levels, (low, high), widths = entry
    if unpack is not None:
        widths = unpack(widths, groups) + int(options["min_bits"])  # [groups]
        packed, levels = levels, np.zeros((groups, size), np.int16)
        if lost := int((widths > _WIDEST).sum()):
            raise UserError(f"{lost} groups of weights are 15 bits wide: the file holds no numbers for them")
        for width, words in enumerate(packed, 1):
            chosen = widths == width
            if chosen.any() != (words is not None):
                raise UserError(f"the widths of the groups and the packed levels of {width} bits contradict each other")
            if words is not None:
                levels[chosen] = unpack(words, int(chosen.sum()) * size).reshape(-1, size)
    return _scaled(levels.reshape(groups, size), low, high, np.asarray(widths).reshape(groups, 1)).reshape(-1)


def _decode_uniform(entry: Any, count: int, options: Mapping[str, Any], unpack: Unpack | None) -> np.ndarray:
    """One parameter of the same width everywhere."""
    levels, (low, high) = entry
    levels = unpack(levels, count) if unpack is not None else levels
    return _scaled(levels.reshape(-1), low, high, np.float32(options["bits"]))


def _scaled(levels: np.ndarray, low: float, high: float, widths: Any) -> np.ndarray:
    """Levels to float32 numbers, rounded as the original rounds: unit, product, range, offset."""
    one = np.float32(1)
    unit = one / (np.exp2(np.asarray(widths, np.float32)) - one)
    return levels.astype(np.float32) * unit * np.float32(high - low) + np.float32(low)


def _unpack_64(words: np.ndarray, count: int) -> np.ndarray:
    """int64 ``[lines, bits, 32]`` to int16 ``[count]``: bit k of word j holds element 32 k + j of the line's 2048."""
    bits = _bits(words.reshape(-1, *words.shape[-2:]), 64)  # [lines, bits, 32, 64]
    return _joined(np.moveaxis(bits, 1, 0).swapaxes(-1, -2), count)  # [bits, lines, 64, 32]


def _unpack_16(words: np.ndarray, count: int) -> np.ndarray:
    """int16 ``[bits, groups]`` to int16 ``[count]``: bit k of word g holds element k · groups + g."""
    return _joined(_bits(words, 16).swapaxes(-1, -2), count)  # [bits, 16, groups]


def _bits(words: np.ndarray, size: int) -> np.ndarray:
    """The bits of each word along a new last axis, lowest first."""
    flat = np.ascontiguousarray(words).astype(f"<i{size // 8}").view(np.uint8).reshape(*words.shape, size // 8)
    return np.unpackbits(flat, axis=-1, bitorder="little")


def _joined(bits: np.ndarray, count: int) -> np.ndarray:
    """``[bits, …]`` zeros and ones to the first ``count`` numbers."""
    planes = bits.reshape(len(bits), -1)
    if planes.shape[1] < count:
        raise UserError(f"{planes.shape[1]} packed numbers where {count} are needed")
    numbers = np.zeros(count, np.int16)
    for position, plane in enumerate(planes):
        numbers |= plane[:count].astype(np.int16) << position
    return numbers
