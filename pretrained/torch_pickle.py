"""Reads files of ``torch.save`` without torch: tensors become numpy arrays, and nothing in the file is ever executed.

A pickle is a program that may call anything. This reader lets it build tensors, plain containers and numbers; classes
of the audio projects that are merely mentioned (the network's class, the options of a training) come as inert
`Mention` objects, in checkpoints of training programs those of any other package, too; everything else is refused. Both
forms of the file are read: the zip archive of PyTorch 1.6 and later, and the stream of pickles and storages before it.
"""

from __future__ import annotations

import collections
import fractions
import io
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from runtime.errors import UserError

_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_PROJECTS = ("demucs", "diffq", "dora", "julius", "omegaconf", "torchaudio", "typing")  # classes that may be mentioned
# parts of the standard library that training programs keep values of; all others in a file are a reason to refuse it
_VALUES = ("argparse", "collections", "datetime", "decimal", "enum", "fractions", "functools", "numbers", "pathlib")
_VALUES += ("types", "typing", "uuid")
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_UNSOUND = (  # what a damaged or hostile file makes of the readers of pickles and archives
    *(pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError, KeyError, IndexError, AttributeError),
    *(TypeError, OverflowError, MemoryError, RecursionError, AssertionError, struct.error),
    NotImplementedError,  # zipfile: a way of packing that it does not know
)


class Mention:
    """A class that the file names, or an object of it: never imported, never run.

    Attributes:
        name: full name of the class
        arguments: what it was to be made from, if it is an object
        state: what was to be put into it
        items, values: what it was to hold, if it is a kind of dict, list or set
    """

    def __init__(self, name: str, arguments: tuple = ()):
        self.name, self.arguments, self.state = name, arguments, None
        self.items: dict[Any, Any] = {}
        self.values: list[Any] = []

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """One more value, where the class is a kind of list."""
        self.values.append(value)

    add = append  # where it is a kind of set

    def __repr__(self) -> str:
        return f"<{self.name}>"


def class_name(value: Any) -> str:
    """The full name of a mentioned class; ``?`` if it is none."""
    return getattr(value, "full_name", "?")


def load(path: str | Path, select: Callable[[Any], Any] = lambda content: content, foreign: bool = False) -> Any:
    """The content of a file that ``torch.save`` wrote, with numpy arrays for tensors (bfloat16 widened to float32).

    Args:
        path: the file
        select: takes what is wanted out of the content, whose tensors still are `Tensor`; nothing else is read
        foreign: let the file mention classes of any package, as checkpoints of training programs do

    Raises:
        UserError: no such file, not of this form, cut short, or asking for something that weights do not need
    """
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            read = _read_archive if zipfile.is_zipfile(handle) else _read_legacy
            return _finished(select(read(handle, foreign)))
    except FileNotFoundError as failure:
        raise UserError(f"there are no weights at {path}") from failure
    except _Refused as failure:
        raise UserError(f"{path} is refused: {failure}") from failure
    except UserError as failure:
        raise UserError(f"{path}: {failure}") from failure
    except _UNSOUND as failure:
        raise UserError(f"{path} is no sound PyTorch file: {failure or type(failure).__name__}") from failure


class _Refused(pickle.UnpicklingError):
    """The pickle wants more than weights need."""


@dataclass
class _Storage:
    """A run of numbers that tensors are views of. Legacy files say where it lies after the tensors were made."""

    dtype: str
    count: int
    read: Callable[[], bytes] | None = None
    _values: np.ndarray | None = field(default=None, repr=False)

    @property
    def _raw(self) -> np.dtype:
        return np.dtype("<u2" if self.dtype == "bfloat16" else self.dtype)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.count * self._raw.itemsize

    def _fill(self, data: bytes) -> None:
        if len(data) != self.size:
            raise pickle.UnpicklingError(f"a storage has {len(data)} bytes instead of {self.size}")
        values = np.frombuffer(data, self._raw)
        if self.dtype == "bfloat16":  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        self._values = values

    def values(self) -> np.ndarray:
        """All numbers of the storage, one axis."""
        if self._values is None:
            if self.read is None:
                raise pickle.UnpicklingError("a tensor lies in a storage that the file does not hold")
            self._fill(self.read())
        return self._values


class Tensor:
    """Where a tensor of a certain ``shape`` lies in its storage; becomes an array when it is wanted."""

    def __init__(self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]):
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(size), tuple(stride)
        whole = all(isinstance(number, int) and number >= 0 for number in (offset, *self.shape, *self.stride))
        if not isinstance(storage, _Storage) or len(self.shape) != len(self.stride) or not whole:
            raise pickle.UnpicklingError("a tensor without a sound description")

    def __setstate__(self, state: Any) -> None:
        """Attributes that somebody has hung on a tensor are of no use here."""

    def array(self) -> np.ndarray:
        """A copy of the numbers in C order."""
        values = self.storage.values()
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        if 0 not in self.shape and last >= len(values):
            raise pickle.UnpicklingError("a tensor reaches beyond its storage")
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :] if 0 not in self.shape else values[:0],
            self.shape,
            [step * values.itemsize for step in self.stride],
            writeable=False,
        )
        return np.array(view, order="C")


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _tensor(storage: _Storage, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    return Tensor(storage, offset, size, stride)


def _scalar(dtype: Any, data: Any = None) -> Any:
    """A numpy number, such as a score among the metrics."""
    if not isinstance(dtype, np.dtype):
        return Mention("numpy.generic", (dtype, data))
    return np.frombuffer(data, dtype, 1)[0].item()


def _numpy_dtype(code: Any, *_: Any) -> np.dtype | Mention:
    if not isinstance(code, str) or code.lstrip("<>=|")[:1] not in ("f", "i", "u", "b"):
        return Mention("numpy.dtype", (code,))  # texts and objects, which no weights are made of
    return np.dtype(code, copy=True)  # the pickle goes on to set its byte order


def _latin1(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("an encoding other than latin1")
    return text.encode("latin1")


_BUILDERS: dict[str, Any] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.Size": tuple,
    "torch.device": lambda *parts: ":".join(map(str, parts)),
    "collections.OrderedDict": collections.OrderedDict,
    "collections.defaultdict": lambda *_: {},
    "fractions.Fraction": lambda *parts: fractions.Fraction(*parts),
    "pathlib.PosixPath": lambda *parts: "/".join(parts),
    "pathlib.Path": lambda *parts: "/".join(parts),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.dtype": _numpy_dtype,
    "_codecs.encode": _latin1,
    "builtins.set": set,
    "builtins.slice": slice,
    "builtins.complex": complex,
    "builtins.long": int,  # as protocol 2 spells it
    **{f"builtins.{kind.__name__}": kind for kind in (int, float, bool, str, list, dict, tuple)},
}


class _Unpickler(pickle._Unpickler):
    """Builds what `_BUILDERS` can build; ``storage`` finds the bytes of a storage by its key.

    Python's own unpickler: the one in C takes as much memory as the largest number of a note in a damaged file says.
    """

    def __init__(self, handle: IO[bytes], storage: Callable[[str, str, int], _Storage], foreign: bool = False):
        super().__init__(handle, encoding="utf-8")
        self._storage, self._foreign = storage, foreign

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if full in _BUILDERS:
            return _BUILDERS[full]
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _StorageType(name)
        if module == "torch":
            return Mention(full)  # torch.float32 and its like among the options of a training
        package = module.partition(".")[0]
        apart = package not in sys.stdlib_module_names and package != "__builtin__"
        if package in _PROJECTS or (self._foreign and (apart or package in _VALUES)):
            return mentioned(full)
        raise _Refused(f"it asks for {full}, which no weights need")

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], _StorageType):
            raise pickle.UnpicklingError("a storage of unknown form")
        _, kind, key, _, count = pid[:5]
        return self._storage(kind.dtype, str(key), int(count))


class _StorageType:
    """Stands for ``torch.FloatStorage`` and its like."""

    def __init__(self, name: str):
        self.dtype = _DTYPES[name]


def mentioned(name: str) -> type[Mention]:
    """A stand-in for the class of this name; one of its own, because pickles also build objects with ``NEWOBJ``."""

    class Mentioned(Mention):
        full_name = name

        def __new__(cls, *arguments: Any, **_: Any) -> Mentioned:
            made = object.__new__(cls)
            Mention.__init__(made, name, arguments)  # NEWOBJ never calls the object's own
            return made

        def __init__(self, *_: Any):
            pass

    return Mentioned


class _Archive:
    """The zip form: ``<root>/data.pkl`` and one entry a storage in ``<root>/data/``."""

    def __init__(self, handle: IO[bytes]):
        self._zip = zipfile.ZipFile(handle)
        entry = next((name for name in self._zip.namelist() if name.rpartition("/")[2] == "data.pkl"), None)
        if entry is None:
            raise UserError("it is a zip archive, but not one of PyTorch's")
        self._root, self._entry = entry.removesuffix("data.pkl"), entry
        self._known: dict[str, _Storage] = {}

    def read(self, foreign: bool) -> Any:
        names = self._zip.namelist()
        if f"{self._root}byteorder" in names and self._zip.read(f"{self._root}byteorder") != b"little":
            raise UserError("its numbers are in big-endian order, which is not supported")
        return _Unpickler(io.BytesIO(self._zip.read(self._entry)), self._storage, foreign).load()

    def _storage(self, dtype: str, key: str, count: int) -> _Storage:
        if key not in self._known:
            self._known[key] = _Storage(dtype, count, lambda: self._bytes(key, self._known[key].size))
        return self._known[key]

    def _bytes(self, key: str, size: int) -> bytes:
        entry = self._zip.getinfo(f"{self._root}data/{key}")
        if entry.file_size != size:  # before anything is unpacked
            raise pickle.UnpicklingError(f"storage {key} has {entry.file_size} bytes instead of {size}")
        return self._zip.read(entry)


def _read_archive(handle: IO[bytes], foreign: bool) -> Any:
    return _Archive(handle).read(foreign)


def _read_legacy(handle: IO[bytes], foreign: bool) -> Any:
    """The old form: three pickles about the file, the content, the keys of the storages, then the storages."""
    storages: dict[str, _Storage] = {}

    def storage(dtype: str, key: str, count: int) -> _Storage:
        return storages.setdefault(key, _Storage(dtype, count))

    def read_at(place: int, size: int) -> bytes:
        handle.seek(place)
        return handle.read(size)

    handle.seek(0)
    plain = [_Unpickler(handle, storage).load() for _ in range(2)]
    if plain != [_LEGACY_MAGIC, _LEGACY_PROTOCOL]:
        raise UserError("it is not a file of torch.save")
    machine = _Unpickler(handle, storage).load()
    if isinstance(machine, dict) and not machine.get("little_endian", True):
        raise UserError("its numbers are in big-endian order, which is not supported")
    content = _Unpickler(handle, storage, foreign).load()
    for key in _Unpickler(handle, storage).load():
        count = int.from_bytes(handle.read(8), sys.byteorder)
        found = storages.get(str(key))
        if found is None or count != found.count:
            raise pickle.UnpicklingError("a storage that no tensor lies in, or of another size than they say")
        found.read = partial(read_at, handle.tell(), found.size)
        handle.seek(found.size, io.SEEK_CUR)
    return content


def _finished(value: Any) -> Any:
    """Arrays for tensors, all through the containers."""
    if isinstance(value, Tensor):
        return value.array()
    if isinstance(value, dict):
        return {key: _finished(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finished(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_finished(item) for item in value)
    return value
