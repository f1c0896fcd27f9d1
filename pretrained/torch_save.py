"""Writes files in the form of ``torch.save`` without torch: a zip archive of one pickle and the numbers of each tensor.

What is written is the plain kind that ``torch.load(…, weights_only=True)`` takes: containers, numbers, texts, tensors.
Numbers begin at multiples of 64 bytes, so that the file can be mapped into memory; the same content gives the same
bytes.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from runtime.atomic import atomic_write

_STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
_ALIGNMENT = 64  # bytes
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that zip knows
_HEADER, _PADDING = 30, struct.Struct("<2sH")  # bytes of a file's header before its name; the head of an extra field


def save(content: Any, path: str | Path) -> None:
    """Write ``content`` (numpy arrays become tensors) as PyTorch 1.6 and later do, at once when all of it is written.

    Raises:
        TypeError: something that is no container, number, text, None or array of a usual type
    """
    pickled = _Pickled(content)
    root = Path(path).stem
    with atomic_write(path) as handle, zipfile.ZipFile(handle, "w") as archive:
        _put(archive, handle, f"{root}/data.pkl", bytes(pickled.program))
        _put(archive, handle, f"{root}/byteorder", b"little")
        for number, array in enumerate(pickled.arrays):
            _put(archive, handle, f"{root}/data/{number}", array.tobytes())
        _put(archive, handle, f"{root}/version", b"3\n")


def _put(archive: zipfile.ZipFile, handle: IO[bytes], name: str, data: bytes) -> None:
    """One file of the archive, uncompressed, whose bytes begin at a multiple of the alignment."""
    entry = zipfile.ZipInfo(name, _DATE)
    head = _HEADER + len(name.encode()) + _PADDING.size
    missing = -(handle.tell() + head) % _ALIGNMENT
    entry.extra = _PADDING.pack(b"FB", missing) + bytes(missing)
    archive.writestr(entry, data)


class _Pickled:
    """The pickle of some content, protocol 2, and the arrays whose numbers it does not hold.

    Attributes:
        program: the pickle
        arrays: in the order of their storages' names, 0, 1, …; little-endian and in C order
    """

    def __init__(self, content: Any):
        self.program = bytearray(pickle.PROTO + b"\x02")
        self.arrays: list[np.ndarray] = []
        self._add(content)
        self.program += pickle.STOP

    def _add(self, value: Any) -> None:
        if value is None or isinstance(value, bool):
            self.program += {None: pickle.NONE, True: pickle.NEWTRUE, False: pickle.NEWFALSE}[value]
        elif isinstance(value, int):
            self._number(value)
        elif isinstance(value, float):
            self.program += pickle.BINFLOAT + struct.pack(">d", value)
        elif isinstance(value, str):
            text = value.encode()
            self.program += pickle.BINUNICODE + struct.pack("<I", len(text)) + text
        elif isinstance(value, np.ndarray):
            self._tensor(value)
        elif isinstance(value, OrderedDict):
            self._named("collections", "OrderedDict")
            self.program += pickle.EMPTY_TUPLE + pickle.REDUCE
            self._all((part for item in value.items() for part in item), pickle.SETITEMS)
        elif isinstance(value, Mapping):
            self.program += pickle.EMPTY_DICT
            self._all((part for item in value.items() for part in item), pickle.SETITEMS)
        elif isinstance(value, list):
            self.program += pickle.EMPTY_LIST
            self._all(value, pickle.APPENDS)
        elif isinstance(value, tuple):
            self._all(value, pickle.TUPLE)
        else:
            raise TypeError(f"{type(value).__name__} cannot be written into a file of weights")

    def _all(self, values: Iterable[Any], end: bytes) -> None:
        self.program += pickle.MARK
        for value in values:
            self._add(value)
        self.program += end

    def _number(self, value: int) -> None:
        if -(2**31) <= value < 2**31:
            self.program += pickle.BININT + struct.pack("<i", value)
            return
        data = pickle.encode_long(value)
        self.program += pickle.LONG1 + bytes([len(data)]) + data

    def _named(self, module: str, name: str) -> None:
        self.program += pickle.GLOBAL + f"{module}\n{name}\n".encode()

    def _tensor(self, array: np.ndarray) -> None:
        """A call of torch's that makes a tensor of a storage: offset, shape, steps, gradient, hooks."""
        if array.dtype.name not in _STORAGES:
            raise TypeError(f"there are no tensors of {array.dtype.name} in a file of weights")
        kept = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        self._named("torch._utils", "_rebuild_tensor_v2")
        self.program += pickle.MARK + pickle.MARK
        self._add("storage")
        self._named("torch", _STORAGES[array.dtype.name])
        for fact in (str(len(self.arrays)), "cpu", kept.size):
            self._add(fact)
        self.program += pickle.TUPLE + pickle.BINPERSID
        for fact in (0, kept.shape, tuple(step // kept.itemsize for step in kept.strides), False, OrderedDict()):
            self._add(fact)
        self.program += pickle.TUPLE + pickle.REDUCE
        self.arrays.append(kept)
