"""Files in the form of torch.save that were written without torch."""

import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from pretrained import torch_pickle
from pretrained.torch_save import save

TYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
RNG = np.random.default_rng(0)
CONTENT = {
    "name": "späti",
    "info": {"numbers": [0, -1, 255, 2**31, -(2**40), 10**30, 0.1, -1e300], "none": None, "both": (True, False)},
    "empty": [[], {}, (), ""],
    3: (1,),
    "state_dict": OrderedDict(
        [
            *((kind, (RNG.standard_normal((3, 5)) * 9).astype(kind)) for kind in TYPES),
            ("turned", RNG.standard_normal((4, 6)).astype(np.float32).T),
            ("strange", np.arange(4, dtype=">f4")),
            ("number", np.array(2.5, np.float32)),
            ("nothing", np.zeros((0, 3), np.float32)),
        ]
    ),
}


def same(one, other):
    if isinstance(one, np.ndarray):
        assert other.dtype == one.dtype.newbyteorder("=") and other.shape == one.shape
        np.testing.assert_array_equal(other, one)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
    else:
        assert one == other


def test_our_reader_reads_it(tmp_path):
    save(CONTENT, tmp_path / "some.weights.pt")
    same(CONTENT, torch_pickle.load(tmp_path / "some.weights.pt"))


def test_torch_reads_it(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    save(CONTENT, tmp_path / "some.pt")

    def arrays(value):
        return {key: each.numpy() for key, each in value.items()}

    for settings in ({"weights_only": True}, {"weights_only": False}, {"weights_only": True, "mmap": True}):
        found = torch.load(tmp_path / "some.pt", **settings)
        assert type(found["state_dict"]) is OrderedDict
        same(CONTENT, {**found, "state_dict": arrays(found["state_dict"])})


def test_numbers_are_aligned_and_files_repeatable(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save(CONTENT, tmp_path / name / "some.pt")
    data = (tmp_path / "one" / "some.pt").read_bytes()
    assert data == (tmp_path / "two" / "some.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "one" / "some.pt") as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            name, extra = (int.from_bytes(data[entry.header_offset + at :][:2], "little") for at in (26, 28))
            start = entry.header_offset + 30 + name + extra
            assert start % 64 == 0 and data[start:][: entry.file_size] == archive.read(entry)


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, np.zeros(2, np.complex64), np.array(["text"])])
def test_other_things_are_refused(tmp_path, value):
    with pytest.raises(TypeError, match="file of weights"):
        save(value, tmp_path / "some.pt")
    assert not list(tmp_path.iterdir())
