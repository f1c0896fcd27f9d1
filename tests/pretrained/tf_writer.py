"""Writes TensorFlow V2 checkpoints for tests: the same files as ``tf.train.Saver``, from the format's description."""

import struct
from pathlib import Path

import numpy as np

from pretrained.tf_table import MAGIC, masked_crc32c

_DTYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "bool": 10, "float16": 19}
STRING = 7


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes) -> bytes:
    """One protocol-buffer field: a varint or a length-delimited value."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def header(shards: int, big_endian: bool = False) -> bytes:
    """A BundleHeader."""
    return field(1, shards) + (field(2, 1) if big_endian else b"") + field(3, field(1, 1))


def entry(dtype: int, shape: tuple[int, ...], shard: int, offset: int, data: bytes) -> bytes:
    """A BundleEntryProto; zero fields are left out, as protocol buffers do."""
    dimensions = b"".join(field(2, field(1, size) if size else b"") for size in shape)
    message = field(1, dtype) + field(2, dimensions)
    for number, value in ((3, shard), (4, offset), (5, len(data))):
        message += field(number, value) if value else b""
    return message + varint(6 << 3 | 5) + struct.pack("<I", masked_crc32c(data))


def block(pairs: list[tuple[bytes, bytes]], restart_every: int = 16) -> bytes:
    """A table block with shared key prefixes and restart points."""
    out, restarts, last = bytearray(), [], b""
    for i, (key, value) in enumerate(pairs):
        shared = 0
        if i % restart_every == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(pairs: dict[bytes, bytes], per_block: int = 20, kind: int = 0) -> bytes:
    """A whole table file; ``kind`` is the compression byte to claim."""
    out, handles = bytearray(), []

    def add(contents: bytes) -> bytes:
        handle = varint(len(out)) + varint(len(contents))
        contents += bytes([kind])
        out.extend(contents + struct.pack("<I", masked_crc32c(contents)))
        return handle

    ordered = sorted(pairs.items())
    for start in range(0, len(ordered), per_block):
        part = ordered[start : start + per_block]
        handles.append((part[-1][0], add(block(part))))
    meta, index = add(block([])), add(block(handles, restart_every=1))
    return bytes(out) + (meta + index).ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def write(
    folder: Path,
    arrays: dict[str, np.ndarray],
    prefix: str = "model",
    shards: int = 1,
    big_endian: bool = False,
    strings: dict[str, bytes] | None = None,
) -> Path:
    """Writes index, data shards (tensors dealt round robin) and the ``checkpoint`` pointer; returns the prefix path."""
    folder.mkdir(parents=True, exist_ok=True)
    data = [bytearray() for _ in range(shards)]
    pairs = {b"": header(shards, big_endian)}

    def add(name: str, dtype: int, shape: tuple[int, ...], raw: bytes) -> None:
        shard = (len(pairs) - 1) % shards
        pairs[name.encode()] = entry(dtype, shape, shard, len(data[shard]), raw)
        data[shard].extend(raw)

    for name, array in arrays.items():
        raw = array.astype(array.dtype.newbyteorder(">" if big_endian else "<")).tobytes()
        add(name, _DTYPES[array.dtype.name], array.shape, raw)
    for name, text in (strings or {}).items():
        add(name, STRING, (), text)
    (folder / f"{prefix}.index").write_bytes(table(pairs))
    for number, contents in enumerate(data):
        (folder / f"{prefix}.data-{number:05d}-of-{shards:05d}").write_bytes(contents)
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{prefix}"\nall_model_checkpoint_paths: "{prefix}"\n')
    return folder / prefix
