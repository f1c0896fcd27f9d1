"""TensorFlow checkpoints: the official index, files written in the same format, and every kind of damage."""

import struct

import numpy as np
import pytest

from pretrained import tf_checkpoint
from pretrained.tf_table import FormatError, masked_crc32c, read_table
from runtime.errors import UserError
from tests.pretrained import tf_writer


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    several = {f"layer_{i}/kernel": generator.standard_normal((i % 4, 3)).astype(np.float32) for i in range(60)}
    return several | {"global_step": np.array(7, np.int64), "flags": np.array([True, False]), "half": np.float16([1.5])}


def _equal(read, written):
    assert read.keys() == written.keys()
    for name, array in written.items():
        assert read[name].dtype == array.dtype and read[name].dtype.isnative
        np.testing.assert_array_equal(read[name], array)


def _flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 0x40
    path.write_bytes(data)


def test_masked_crc_of_known_data():
    # RFC 3720 gives the CRC-32C of 32 zero bytes: 8a9136aa
    assert masked_crc32c(bytes(32)) == (((0x8A9136AA >> 15 | 0x8A9136AA << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def test_the_official_index(shared_audio, request):
    bundle = tf_checkpoint.open_bundle(shared_audio / "checkpoints" / "spleeter_2stems")
    assert (bundle.prefix.name, bundle.shards, bundle.big_endian) == ("model", 1, False)
    assert sum(entry.size for entry in bundle.entries.values()) == 78_614_080
    listing = shared_audio.parent / "spec" / "state_dicts" / "spleeter_2stems_tfvars.txt"
    expected = dict(line.split("\t") for line in listing.read_text().splitlines())
    shapes = {name: str(list(entry.shape)) for name, entry in bundle.entries.items() if name != "global_step"}
    assert shapes == expected


def test_the_official_statistics_are_zero_and_one_by_their_checksums(shared_audio):
    entries = tf_checkpoint.open_bundle(shared_audio / "checkpoints" / "spleeter_2stems" / "model").entries
    constant = {"moving_mean": 0.0, "moving_variance": 1.0}
    dead = {"batch_normalization_5/gamma": 1.0, "batch_normalization_17/beta": 0.0}
    checked = 0
    for name, entry in entries.items():
        value = dead.get(name, constant.get(name.rpartition("/")[2]))
        if value is not None:
            assert entry.crc32c == masked_crc32c(np.full(entry.shape, value, "<f4").tobytes()), name
            checked += 1
    assert checked == 2 * 24 + 2
    assert entries["global_step"].crc32c == masked_crc32c(bytes(8))


def test_weights_that_were_not_shipped_are_said_to_be_missing(shared_audio):
    with pytest.raises(UserError, match=r"model\.data-00000-of-00001 is missing"):
        tf_checkpoint.read(shared_audio / "checkpoints" / "spleeter_2stems")


@pytest.mark.parametrize("options", [{}, {"shards": 3}, {"big_endian": True}, {"strings": {"_GRAPH": b"text"}}])
def test_what_was_written_is_read(tmp_path, arrays, options):
    tf_writer.write(tmp_path, arrays, **options)
    _equal(tf_checkpoint.read(tmp_path), arrays)


def test_bfloat16_becomes_float32(tmp_path):
    prefix = tf_writer.write(tmp_path, {"x": np.float32([1.5, -2.0])})
    raw = np.uint16([0x3FC0, 0xC000]).tobytes()
    pairs = {b"": tf_writer.header(1), b"x": tf_writer.entry(tf_checkpoint.BFLOAT16, (2,), 0, 0, raw)}
    prefix.with_suffix(".index").write_bytes(tf_writer.table(pairs))
    prefix.with_suffix(".data-00000-of-00001").write_bytes(raw)
    _equal(tf_checkpoint.read(prefix), {"x": np.float32([1.5, -2.0])})


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001", ".meta"])
def test_prefix_and_each_of_its_files_mean_the_checkpoint(tmp_path, arrays, ending):
    tf_writer.write(tmp_path, arrays, prefix="model-200")
    _equal(tf_checkpoint.read(tmp_path / f"model-200{ending}"), arrays)


def test_the_pointer_file_chooses_and_may_name_another_machine(tmp_path, arrays):
    tf_writer.write(tmp_path, {"old": np.zeros(1)}, prefix="model-1")
    tf_writer.write(tmp_path, arrays, prefix="model-2")
    _equal(tf_checkpoint.read(tmp_path), arrays)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/far/away/model-1"\n')
    assert tf_checkpoint.read(tmp_path).keys() == {"old"}


def test_a_single_index_needs_no_pointer(tmp_path, arrays):
    tf_writer.write(tmp_path, arrays)
    (tmp_path / "checkpoint").unlink()
    _equal(tf_checkpoint.read(tmp_path), arrays)


def test_folders_without_a_checkpoint(tmp_path, arrays):
    with pytest.raises(UserError, match=r"has no \.index file"):
        tf_checkpoint.read(tmp_path)
    tf_writer.write(tmp_path, arrays, prefix="a")
    tf_writer.write(tmp_path, arrays, prefix="b")
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(UserError, match=r"2 \.index files"):
        tf_checkpoint.read(tmp_path)
    (tmp_path / "checkpoint").write_text("nonsense")
    with pytest.raises(UserError, match="model_checkpoint_path"):
        tf_checkpoint.read(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "c"')
    with pytest.raises(UserError, match=r"c\.index is missing"):
        tf_checkpoint.read(tmp_path)
    with pytest.raises(UserError, match="not a TensorFlow checkpoint"):
        tf_checkpoint.read(tmp_path / "nothing")


def test_damaged_data_names_the_tensor(tmp_path, arrays):
    prefix = tf_writer.write(tmp_path, arrays)
    entry = tf_checkpoint.open_bundle(prefix).entries["layer_7/kernel"]
    _flip(prefix.with_suffix(".data-00000-of-00001"), entry.offset + 5)
    with pytest.raises(UserError, match="tensor layer_7/kernel has the wrong CRC-32C"):
        tf_checkpoint.read(prefix)


def test_truncated_and_missing_data(tmp_path, arrays):
    prefix = tf_writer.write(tmp_path, arrays, shards=2)
    shard = prefix.with_suffix(".data-00001-of-00002")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"data-00001-of-00002 is truncated: tensor \S+ needs"):
        tf_checkpoint.read(prefix)
    shard.unlink()
    with pytest.raises(UserError, match="data-00001-of-00002 is missing"):
        tf_checkpoint.read(prefix)


def test_a_damaged_index_is_never_believed(tmp_path, arrays):
    prefix = tf_writer.write(tmp_path, arrays)
    index = prefix.with_suffix(".index")
    sound = index.read_bytes()
    for position in range(0, len(sound), 97):
        index.write_bytes(sound)
        _flip(index, position)
        try:
            read = tf_checkpoint.read(prefix)
        except UserError:
            continue
        _equal(read, arrays)  # padding and the meta index block carry nothing


@pytest.mark.parametrize("length", [0, 10, 47, 200])
def test_a_truncated_index(tmp_path, arrays, length):
    prefix = tf_writer.write(tmp_path, arrays)
    index = prefix.with_suffix(".index")
    index.write_bytes(index.read_bytes()[:length])
    with pytest.raises(UserError, match="magic number"):
        tf_checkpoint.read(prefix)


def test_a_compressed_index_is_refused_by_name(tmp_path):
    index = tmp_path / "model.index"
    index.write_bytes(tf_writer.table({b"": tf_writer.header(1)}, kind=1))
    with pytest.raises(UserError, match=r"compressed .*snappy"):
        tf_checkpoint.open_bundle(index)


def test_a_table_without_a_header_is_no_checkpoint(tmp_path):
    index = tmp_path / "model.index"
    index.write_bytes(tf_writer.table({b"x": b""}))
    with pytest.raises(UserError, match="has no header"):
        tf_checkpoint.open_bundle(index)


@pytest.mark.parametrize(
    ("dtype", "shape", "says"), [(21, (2,), "unsupported TensorFlow dtype 21"), (1, (3,), "8 bytes for shape")]
)
def test_tensors_that_cannot_be_read(tmp_path, dtype, shape, says):
    prefix = tf_writer.write(tmp_path, {"x": np.float32([1, 2])})
    pairs = {b"": tf_writer.header(1), b"x": tf_writer.entry(dtype, shape, 0, 0, bytes(8))}
    prefix.with_suffix(".index").write_bytes(tf_writer.table(pairs))
    with pytest.raises(UserError, match=says):
        tf_checkpoint.read(prefix)


@pytest.mark.parametrize("message", [tf_writer.field(1, b"x"), tf_writer.field(2, 5), b"\x0b", b"\x0a\x7f"])
def test_an_index_with_other_messages_inside_is_refused(tmp_path, message):
    index = tmp_path / "model.index"
    index.write_bytes(tf_writer.table({b"": tf_writer.header(1), b"x": message}))
    with pytest.raises(UserError, match="not a sound TensorFlow checkpoint index"):
        tf_checkpoint.open_bundle(index)


def test_partitioned_variables_are_refused(tmp_path):
    prefix = tf_writer.write(tmp_path, {"x": np.float32([1, 2])})
    entry = tf_writer.entry(1, (2,), 0, 0, bytes(8)) + tf_writer.field(7, b"")
    prefix.with_suffix(".index").write_bytes(tf_writer.table({b"": tf_writer.header(1), b"x": entry}))
    with pytest.raises(UserError, match="split into slices"):
        tf_checkpoint.read(prefix)


def test_a_number_without_end_is_an_error():
    block = b"\xff" * 12 + struct.pack("<II", 0, 1)
    data = block + b"\0" + struct.pack("<I", masked_crc32c(block + b"\0"))
    footer = (bytes([0, 0, 0]) + tf_writer.varint(len(block))).ljust(40, b"\0") + struct.pack("<Q", tf_writer.MAGIC)
    with pytest.raises(FormatError, match="runs past its end"):
        read_table(data + footer)
