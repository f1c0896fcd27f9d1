"""Reads TensorFlow checkpoints (format V2: ``NAME.index`` and ``NAME.data-…``) without TensorFlow.

The index is a table (:mod:`pretrained.tf_table`) from tensor names to small protocol buffers that say where the raw
bytes lie and what their CRC-32C is; layout as in ``tensor_bundle.proto`` of TensorFlow. Every CRC is checked.
"""

import math
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pretrained.tf_table import FormatError, masked_crc32c, read_table, varint
from runtime.errors import UserError

STRING = 7
BFLOAT16 = 14
_DTYPES = {
    1: "f4", 2: "f8", 3: "i4", 4: "u1", 5: "i2", 6: "i1", 8: "c8", 9: "i8", 10: "?",
    BFLOAT16: "u2", 17: "u2", 18: "c16", 19: "f2", 22: "u4", 23: "u8",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One tensor of a checkpoint: ``dtype`` is TensorFlow's number, ``crc32c`` the masked checksum of its bytes."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc32c: int
    sliced: bool


@dataclass(frozen=True)
class Bundle:
    """The index of a checkpoint: where each tensor lies. ``prefix`` is the path without ``.index``."""

    prefix: Path
    shards: int
    big_endian: bool
    entries: dict[str, Entry]

    def shard_path(self, number: int) -> Path:
        """The data file of one shard."""
        return self.prefix.with_name(f"{self.prefix.name}.data-{number:05d}-of-{self.shards:05d}")

    def tensor(self, name: str) -> np.ndarray:
        """One tensor in native byte order (bfloat16 as float32), its checksum verified.

        Raises:
            UserError: missing or truncated data file, wrong checksum, or a kind of tensor that cannot be read
        """
        entry, path = self.entries[name], self.shard_path(self.entries[name].shard)
        if entry.dtype not in _DTYPES or entry.sliced:
            what = "is split into slices" if entry.sliced else f"has the unsupported TensorFlow dtype {entry.dtype}"
            raise UserError(f"{self.prefix}.index: tensor {name} {what}")
        dtype = np.dtype(_DTYPES[entry.dtype]).newbyteorder(">" if self.big_endian else "<")
        if entry.size != math.prod(entry.shape) * dtype.itemsize:
            raise UserError(f"{self.prefix}.index: tensor {name} has {entry.size} bytes for shape {list(entry.shape)}")
        data = _read_range(path, entry.offset, entry.size, name)
        if masked_crc32c(data) != entry.crc32c:
            raise UserError(f"{path} is damaged: tensor {name} has the wrong CRC-32C; fetch the checkpoint again")
        array = np.frombuffer(data, dtype).reshape(entry.shape)
        if entry.dtype == BFLOAT16:
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(dtype.newbyteorder("="))


def _read_range(path: Path, offset: int, size: int, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            if offset + size <= os.fstat(file.fileno()).st_size:
                file.seek(offset)
                return file.read(size)
    except FileNotFoundError as failure:
        raise UserError(f"{path} is missing: it holds tensor {name}; place it beside the index") from failure
    raise UserError(f"{path} is truncated: tensor {name} needs {offset + size} bytes; fetch the checkpoint again")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and raw values of a protocol buffer."""
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = varint(message, position)
        elif wire == 2:
            length, position = varint(message, position)
            value, position = message[position : position + length], position + length
        elif wire in (1, 5):
            width = 8 if wire == 1 else 4
            if position + width > len(message):
                raise FormatError("a message is cut short")
            value, position = struct.unpack_from("<Q" if wire == 1 else "<I", message, position)[0], position + width
        else:
            raise FormatError(f"a message uses the unknown wire type {wire}")
        if position > len(message):
            raise FormatError("a message is cut short")
        yield number, value


def _number(fields: dict[int, int | bytes], number: int, default: int = 0) -> int:
    value = fields.get(number, default)
    if not isinstance(value, int):
        raise FormatError(f"field {number} of a message is no number")
    return value


def _message(fields: dict[int, int | bytes], number: int) -> bytes:
    value = fields.get(number, b"")
    if not isinstance(value, bytes):
        raise FormatError(f"field {number} of a message is no message")
    return value


def _shape(message: bytes) -> tuple[int, ...]:
    dimensions = [_message({number: value}, number) for number, value in _fields(message) if number == 2]
    return tuple(_number(dict(_fields(dimension)), 1) for dimension in dimensions)


def _entry(message: bytes) -> Entry:
    fields = dict(_fields(message))
    return Entry(
        dtype=_number(fields, 1),
        shape=_shape(_message(fields, 2)),
        shard=_number(fields, 3),
        offset=_number(fields, 4),
        size=_number(fields, 5),
        crc32c=_number(fields, 6),
        sliced=7 in fields,
    )


def is_checkpoint(path: Path) -> bool:
    """Whether ``path`` looks like one: a folder with a pointer or an index, a prefix, or a file of a checkpoint."""
    if path.is_dir():
        return (path / "checkpoint").is_file() or any(path.glob("*.index"))
    return Path(f"{_without_ending(path)}.index").is_file()


def _without_ending(path: Path) -> Path:
    return path.with_name(re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name))


def find_prefix(path: Path) -> Path:
    """The checkpoint that ``path`` means: a folder, a prefix, or any file of the checkpoint.

    In a folder the text file ``checkpoint`` names the latest one; without it there must be exactly one index.

    Raises:
        UserError: no checkpoint there
    """
    if path.is_dir():
        return _latest(path)
    prefix = _without_ending(path)
    if not Path(f"{prefix}.index").is_file():
        raise UserError(f"{path} is not a TensorFlow checkpoint: there is no {prefix}.index")
    return prefix


def _latest(folder: Path) -> Path:
    pointer = folder / "checkpoint"
    if pointer.is_file():
        named = re.search(r'^model_checkpoint_path:\s*"(.+)"', pointer.read_text(errors="replace"), re.MULTILINE)
        if not named:
            raise UserError(f"{pointer} names no model_checkpoint_path: it is not a TensorFlow checkpoint file")
        # an absolute path is that of the machine that trained; its files travel with the folder
        prefix = folder / Path(named[1]).name
        if not Path(f"{prefix}.index").is_file():
            raise UserError(f"{pointer} names {prefix.name}, but {prefix}.index is missing")
        return prefix
    indices = sorted(folder.glob("*.index"))
    if len(indices) != 1:
        found = f"{len(indices)} .index files and no file 'checkpoint' to choose" if indices else "no .index file"
        raise UserError(f"{folder} is not a TensorFlow checkpoint folder: it has {found}")
    return indices[0].with_suffix("")


def open_bundle(path: str | Path) -> Bundle:
    """Reads the index of a checkpoint; the data files are not touched.

    Args:
        path: folder, prefix, or one of its files

    Raises:
        UserError: no checkpoint there, or a damaged index
    """
    prefix = find_prefix(Path(path))
    index = Path(f"{prefix}.index")
    try:
        pairs = read_table(index.read_bytes())
        header = dict(_fields(pairs.pop(b"")))
        shards, big_endian = _number(header, 1, 1), _number(header, 2) == 1
        entries = {name.decode(): _entry(value) for name, value in pairs.items()}
    except KeyError as failure:
        raise UserError(f"{index} is not a TensorFlow checkpoint index: it has no header") from failure
    except (FormatError, UnicodeDecodeError) as failure:
        raise UserError(f"{index} is not a sound TensorFlow checkpoint index: {failure}") from failure
    return Bundle(prefix, shards, big_endian, entries)


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Every numeric tensor of a checkpoint by name, each checked against its CRC-32C.

    Strings, which only describe TensorFlow's object graph, are left out.

    Args:
        path: folder, prefix, or one of its files

    Raises:
        UserError: no checkpoint there, missing, truncated or damaged files (names the tensor)
    """
    bundle = open_bundle(path)
    return {name: bundle.tensor(name) for name, entry in bundle.entries.items() if entry.dtype != STRING}
