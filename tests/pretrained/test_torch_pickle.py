"""Files of ``torch.save``: read without torch, and never executed."""

import pickle
from fractions import Fraction

import numpy as np
import pytest

from pretrained import torch_pickle
from runtime.errors import UserError
from tests.pretrained.torch_writer import Call, Global, Made, Storage, save

CONTENT = {
    "weight": np.arange(24, dtype=np.float32).reshape(4, 6),
    "half": np.linspace(-2, 2, 9).astype(np.float16),
    "count": np.array([7], np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "nested": [1, ("two", None), {"three": 3.5}],
}


@pytest.mark.parametrize("legacy", [False, True])
def test_both_forms_of_the_file_are_read(tmp_path, legacy):
    save({**CONTENT, "klass": Global("demucs.demucs", "Demucs")}, tmp_path / "x.th", legacy)
    found = torch_pickle.load(tmp_path / "x.th")
    assert torch_pickle.class_name(found.pop("klass")) == "demucs.demucs.Demucs"
    assert found.keys() == CONTENT.keys()
    for name, value in CONTENT.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype
            assert np.array_equal(found[name], value)
        else:
            assert found[name] == value


@pytest.mark.parametrize(
    "wish",
    [
        Call(Global("os", "system"), "true"),
        Call(Global("builtins", "eval"), "1"),
        Call(Global("numpy", "load"), "x"),
        Call(Global("torch.hub", "load"), "x"),
        Global("runtime.files", "download"),
    ],
)
def test_what_weights_do_not_need_is_refused(tmp_path, wish):
    save({"state": wish}, tmp_path / "x.th")
    with pytest.raises(UserError, match=r"x\.th is refused: it asks for"):
        torch_pickle.load(tmp_path / "x.th")


def test_objects_of_the_audio_projects_stay_inert(tmp_path):
    save({"options": Call(Global("omegaconf.dictconfig", "DictConfig"), {"a": 1})}, tmp_path / "x.th")
    found = torch_pickle.load(tmp_path / "x.th")["options"]
    assert isinstance(found, torch_pickle.Mention)
    assert (found.name, found.arguments) == ("omegaconf.dictconfig.DictConfig", ({"a": 1},))


CALLBACK = Made(Global("some.project", "Callback"), {"score": 0.5}, {"epoch": 3})


def test_checkpoints_of_trainings_mention_classes_of_any_package(tmp_path):
    save({"weight": CONTENT["weight"], "callback": CALLBACK, "since": Global("datetime", "timedelta")}, tmp_path / "x")
    with pytest.raises(UserError, match=r"x is refused: it asks for some\.project\.Callback"):
        torch_pickle.load(tmp_path / "x")
    found = torch_pickle.load(tmp_path / "x", foreign=True)
    assert np.array_equal(found["weight"], CONTENT["weight"])
    callback = found["callback"]
    assert isinstance(callback, torch_pickle.Mention)
    assert (callback.name, callback.state, callback.items) == ("some.project.Callback", {"score": 0.5}, {"epoch": 3})
    assert torch_pickle.class_name(found["since"]) == "datetime.timedelta"


@pytest.mark.parametrize("name", [("os", "system"), ("builtins", "eval"), ("subprocess", "run"), ("importlib", "x")])
def test_what_only_an_attack_asks_for_is_refused_everywhere(tmp_path, name):
    save({"state": Call(Global(*name), "true")}, tmp_path / "x")
    with pytest.raises(UserError, match=r"x is refused: it asks for"):
        torch_pickle.load(tmp_path / "x", foreign=True)


@pytest.mark.parametrize("legacy", [False, True])
def test_only_what_is_wanted_is_read(tmp_path, legacy):
    def shapes(content):
        return {name: value.shape for name, value in content.items() if isinstance(value, torch_pickle.Tensor)}

    save(CONTENT, tmp_path / "x", legacy)
    assert torch_pickle.load(tmp_path / "x", shapes) == {"weight": (4, 6), "half": (9,), "count": (1,), "empty": (0, 3)}
    half = torch_pickle.load(tmp_path / "x", lambda content: content["half"])
    assert np.array_equal(half, CONTENT["half"])


def test_a_tensor_cannot_reach_beyond_its_storage(tmp_path):
    storage = Storage("0", CONTENT["weight"])
    wish = Call(Global("torch._utils", "_rebuild_tensor_v2"), storage, 21, (4,), (1,), False, None)
    save({"weight": CONTENT["weight"], "x": wish}, tmp_path / "x.th")
    with pytest.raises(UserError, match="a tensor reaches beyond its storage"):
        torch_pickle.load(tmp_path / "x.th")


@pytest.mark.parametrize("legacy", [False, True])
def test_files_cut_short_are_named(tmp_path, legacy):
    save(CONTENT, tmp_path / "whole.th", legacy)
    whole = (tmp_path / "whole.th").read_bytes()
    for share in (0.02, 0.3, 0.9):
        (tmp_path / "cut.th").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match=r"cut\.th"):
            torch_pickle.load(tmp_path / "cut.th")


def test_a_damaged_file_takes_no_memory(tmp_path):
    save(CONTENT, tmp_path / "x.th", legacy=True)
    whole = (tmp_path / "x.th").read_bytes()
    place = whole.index(b"weight") + len(b"weight")
    assert whole[place : place + 1] == pickle.BINPUT  # a note of what was read, for later
    note = pickle.LONG_BINPUT + b"\xff\xff\xff\xff"
    (tmp_path / "x.th").write_bytes(whole[:place] + note + whole[place + 2 :])
    assert np.array_equal(torch_pickle.load(tmp_path / "x.th")["weight"], CONTENT["weight"])


def test_other_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no weights at .*nothing\.th"):
        torch_pickle.load(tmp_path / "nothing.th")
    (tmp_path / "x.th").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError, match=r"x\.th"):
        torch_pickle.load(tmp_path / "x.th")


def test_files_that_torch_writes(tmp_path):
    torch = pytest.importorskip("torch")
    x = torch.arange(24).float().reshape(4, 6)
    content = {
        **{"plain": x, "turned": x.t(), "part": x[1:, 2:5], "half": x.half(), "wide": x.bfloat16()},
        **{"parameter": torch.nn.Parameter(x), "scalar": torch.tensor(3.5), "numpy": np.float64(2.5)},
        **{"segment": Fraction(39, 5), "state": torch.nn.Linear(3, 2).state_dict()},
    }
    for modern in (True, False):
        torch.save(content, tmp_path / "x.th", _use_new_zipfile_serialization=modern)
        found = torch_pickle.load(tmp_path / "x.th")
        assert found["segment"] == Fraction(39, 5)
        assert found["numpy"] == 2.5
        tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
        for name, tensor in [*tensors.items(), *content["state"].items()]:
            expected = tensor.detach().float().numpy()
            value = found[name] if name in tensors else found["state"][name]
            assert np.array_equal(value.astype(np.float32), expected), name
