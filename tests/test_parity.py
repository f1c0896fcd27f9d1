"""Every golden file that an adapter exists for, and the runner's own manners."""

import json

import numpy as np
import pytest

from tests.conftest import SHARED
from tests.parity import golden
from tests.parity.__main__ import adapters, main, run_case


def _known_files() -> list:
    """Golden files of known architectures; only their descriptions are read here."""
    known = adapters()
    found = []
    for path in sorted((SHARED / "parity").glob("*.npz")):
        with np.load(path) as archive:
            spec = json.loads(archive["spec"].tobytes())
        if (spec["arch"], spec["op"]) in known:
            found.append(pytest.param(path, id=path.stem))
    return found


@pytest.mark.parametrize("path", _known_files())
def test_outputs_equal_the_reference(path):
    failures = [each for each in run_case(golden.load(path), adapters()) if not each.ok]
    assert not failures


def _write_case(path, reference, arch="Toy", atol=1e-6, digest=1.0, **facts):
    """A golden file whose one output is ``y``, kept at every second place."""
    stored = reference[::2]
    described = {"shape": list(reference.shape), "stride": [2], "atol": atol, "rtol": 0.0}
    moments = {"mean": float(reference.mean()), "std": float(reference.std()), "max": float(np.abs(reference).max())}
    spec = {
        "name": path.stem,
        "arch": arch,
        "op": "run",
        "salt": "",
        "state": [["w", [1], "range", [1.0, 1.0]]],
        "inputs": {"x": {"rule": "random", "shape": [2], "seed": 0, "scale": 0.0}},
        "digest": {"state": digest, "inputs": 0.0},
        "outputs": {"y": {**described, **moments, **facts}},
    }
    np.savez(path, **{"spec": np.frombuffer(json.dumps(spec).encode(), np.uint8), "out/y": stored})
    return path


@pytest.fixture
def reference():
    return np.arange(7, dtype=np.float32)


def test_a_case_passes_with_equal_output(tmp_path, reference):
    case = golden.load(_write_case(tmp_path / "toy.npz", reference))
    (result,) = run_case(case, {("Toy", "run"): lambda case: {"y": reference, "spare": reference}})
    assert result.ok and result.error == 0


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda y: y + np.float32([1e-3] + [0] * 6), ""),
        (lambda y: y + np.float32([0, 1, 0, 0, 0, 0, 0]), "mean or deviation"),  # at a place that is not stored
        (lambda y: y[:-1], "shape"),
        (lambda y: np.where(y == 2, np.nan, y), "NaN"),
    ],
)
def test_wrong_output_fails(tmp_path, reference, change, note):
    case = golden.load(_write_case(tmp_path / "toy.npz", reference))
    (result,) = run_case(case, {("Toy", "run"): lambda case: {"y": change(reference)}})
    assert not result.ok and note in result.note


def test_nan_of_the_reference_must_be_there(tmp_path):
    reference = np.float32([np.nan, 1, np.nan, 3])
    facts = {"mean": 2.0, "std": 1.0, "max": 3.0}
    case = golden.load(_write_case(tmp_path / "toy.npz", reference, **facts))
    assert run_case(case, {("Toy", "run"): lambda case: {"y": reference}})[0].ok
    assert not run_case(case, {("Toy", "run"): lambda case: {"y": np.nan_to_num(reference)}})[0].ok


def test_an_infinity_is_met_by_itself_only(tmp_path):
    reference = np.float32([np.inf, 1, -np.inf, 3])
    case = golden.load(_write_case(tmp_path / "toy.npz", reference, mean=np.nan, std=np.nan, max=np.inf))
    assert run_case(case, {("Toy", "run"): lambda case: {"y": reference}})[0].ok
    for wrong in (-reference, np.float32([9, 1, -np.inf, 3]), np.float32([np.nan, 1, -np.inf, 3])):
        assert not run_case(case, {("Toy", "run"): lambda case, wrong=wrong: {"y": wrong}})[0].ok


def _write_truncated(path):
    whole = _write_case(path, np.zeros(4, np.float32)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: _write_case(path, np.zeros(4, np.float32), arch="Unheard"), "no adapter for arch 'Unheard'"),
        (lambda path: path.write_bytes(b"not a zip"), "is not a golden case"),
        (lambda path: path.write_bytes(b""), "is not a golden case"),
        (_write_truncated, "is not a golden case"),
        (lambda path: None, "there is no golden file"),
    ],
)
def test_files_that_cannot_be_run_fail(tmp_path, capsys, make, says):
    make(tmp_path / "case.npz")
    assert main([str(tmp_path / "case.npz")]) == 1
    assert says in capsys.readouterr().out


def test_a_changed_rule_is_noticed(tmp_path, reference, capsys):
    case = golden.load(_write_case(tmp_path / "toy.npz", reference, digest=2.0))
    with pytest.raises(golden.UserError, match="state have digest"):
        run_case(case, {("Toy", "run"): lambda case: {"y": reference}})


def test_a_folder_stands_for_its_files(tmp_path, reference, capsys):
    for name in ("a", "b"):
        _write_case(tmp_path / f"{name}.npz", reference)
    assert main([str(tmp_path)]) == 1
    assert "0 of 2 files passed" in capsys.readouterr().out


def test_a_golden_file_given_by_path_passes(shared_parity, capsys):
    assert main([str(shared_parity / "spleeter_2stems_train.npz")]) == 0
    out = capsys.readouterr().out
    assert "grad_norm" in out and "1 of 1 files passed" in out
