"""Checkpoints: what comes out is what went in, or a sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from runtime import checkpoint
from runtime.errors import UserError

ARRAYS = {
    "encoder.0/kernel é\n": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    "step": np.float64(0.1),
    "flag": np.array(True),
    "": np.zeros((0, 3), np.int64),
    "half": np.array([np.inf, np.nan, -0.0], np.float16),
}


def save(run: Path, step: int, kind: str = "checkpoints", **state) -> Path:
    return checkpoint.save(run / kind, {"model": ARRAYS, "ema": {}}, {"step": step, "network": "toy"} | state)


def test_arrays_and_state_come_back_bit_for_bit(tmp_path):
    random = np.random.default_rng(3)
    state = {"rng": random.bit_generator.state, "history": [{"loss": float("nan")}], "lr": 0.1, "config": {"a": None}}
    path = save(tmp_path, 123, **state)
    assert path == tmp_path / "checkpoints" / "step-00000123"
    groups, loaded = checkpoint.load(path)
    assert list(groups) == ["model", "ema"] and groups["ema"] == {}
    assert set(groups["model"]) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert groups["model"][name].dtype == array.dtype and groups["model"][name].shape == array.shape
        assert groups["model"][name].tobytes() == array.tobytes()
    assert loaded["step"] == 123 and loaded["lr"] == 0.1 and loaded["config"] == {"a": None}
    again = np.random.default_rng()
    again.bit_generator.state = loaded["rng"]
    assert again.random() == random.random()


def test_some_groups_can_be_left_out(tmp_path):
    path = save(tmp_path, 1)
    (path / "ema.safetensors").unlink()
    assert list(checkpoint.load(path, ["model"])[0]) == ["model"]
    with pytest.raises(UserError, match="has no optimizer; it holds model, ema"):
        checkpoint.load(path, ["optimizer"])


def test_what_is_wrong_is_said(tmp_path):
    path = save(tmp_path, 1)
    with pytest.raises(UserError, match="checkpoint of toy, not of spleeter"):
        checkpoint.load(path, network="spleeter")
    with pytest.raises(UserError, match="not a checkpoint"):
        checkpoint.load(tmp_path)

    arrays = path / "model.safetensors"
    whole = arrays.read_bytes()
    for damaged in (whole[:-1], whole[:5], b"", whole[:-1] + b"x"):
        arrays.write_bytes(damaged)
        with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
            checkpoint.load(path)
    arrays.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        checkpoint.load(path)
    arrays.write_bytes(whole)

    text = (path / "state.json").read_text()
    for broken, message in (
        (text[:30], "not valid JSON"),
        ("[]", "not the state of a checkpoint"),
        (text.replace('"format": 1', '"format": 99'), "newer version"),
    ):
        (path / "state.json").write_text(broken)
        with pytest.raises(UserError, match=message):
            checkpoint.load(path)


def test_latest_best_and_rotation(tmp_path):
    assert checkpoint.latest(tmp_path) is None and checkpoint.best(tmp_path) is None
    for step in (9, 10, 11, 100000000):
        save(tmp_path, step)
    (tmp_path / "checkpoints" / "step-00000012").mkdir()  # no state: none
    (tmp_path / "checkpoints" / ".tmp-0").mkdir()
    assert checkpoint.latest(tmp_path).name == "step-100000000"
    checkpoint.rotate(tmp_path / "checkpoints", 2)
    assert [path.name for path in checkpoint.steps(tmp_path / "checkpoints")] == ["step-00000011", "step-100000000"]
    checkpoint.rotate(tmp_path / "checkpoints", 5)
    assert len(checkpoint.steps(tmp_path / "checkpoints")) == 2
    save(tmp_path, 7, "best")
    assert checkpoint.best(tmp_path).name == "step-00000007"
    assert not list((tmp_path / "best").glob(".tmp-*"))


def test_saving_a_step_again_replaces_it_and_clears_leftovers(tmp_path):
    path = save(tmp_path, 5, note="one")
    (path.parent / ".tmp-old").mkdir()
    assert save(tmp_path, 5, note="two") == path
    assert checkpoint.load(path)[1]["note"] == "two"
    assert os.listdir(path.parent) == ["step-00000005"]


def test_newest_prefers_the_run_saved_last_and_its_best(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint of toy below"):
        checkpoint.newest(tmp_path, "toy")
    save(tmp_path / "spleeter" / "2stems" / "aaaaaaaa", 900, saved_at=1.0)
    run = tmp_path / "spleeter" / "4stems" / "bbbbbbbb"
    save(run, 20, "best", saved_at=2.0)
    save(run, 30, saved_at=3.0)
    save(tmp_path / "other" / "cccccccc", 1, saved_at=4.0, network="other")
    assert checkpoint.newest(tmp_path, "toy") == run / "best" / "step-00000020"
    assert checkpoint.newest(tmp_path, "toy", prefer="last") == run / "checkpoints" / "step-00000030"
    assert checkpoint.newest(tmp_path).parents[1] == tmp_path / "other" / "cccccccc"


def test_weights_hash_sees_names_types_shapes_and_values_but_no_order(tmp_path):
    value = checkpoint.weights_hash(ARRAYS)
    assert len(value) == 12
    assert checkpoint.weights_hash(dict(reversed(ARRAYS.items()))) == value
    assert checkpoint.weights_hash({k: np.array(v, order="F") for k, v in ARRAYS.items()}) == value
    zeros = np.zeros(2, np.float32)
    variants = [{"a": zeros}, {"b": zeros}, {"a": zeros.view(np.int32)}, {"a": zeros[None]}, {"a": zeros + 1}]
    assert len({checkpoint.weights_hash(variant) for variant in variants}) == len(variants)


KILLED_SAVES = """
import os, pathlib, shutil, signal, sys
import numpy as np
from runtime import checkpoint
run = pathlib.Path(sys.argv[1])

def save(step, note):
    checkpoint.save(run / "checkpoints", {"model": {"w": np.full(1000, note)}}, {"step": step, "note": note})
    checkpoint.rotate(run / "checkpoints", 1)

def killed_at(number, step, note):
    "Fork a process that is killed at its `number`-th step on the disk; True if it got through without."
    pid = os.fork()
    if pid == 0:
        left = [number]
        def dying(call):
            def wrapped(*args, **kw):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kw)
            return wrapped
        for module, name in ((os, "fsync"), (os, "replace"), (os, "rename"), (os, "unlink"), (os, "mkdir"),
                             (os, "rmdir"), (os, "open"), (checkpoint, "sha256")):
            setattr(module, name, dying(getattr(module, name)))
        save(step, note)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

save(1, 1)
kills = 0
for step, again in ((2, False), (2, True), (3, False)):  # a new step, the same step once more, a new one
    number, notes = 1, {1, 2} if step == 2 and not again else {2, 20} if again else {20, 3}
    while not killed_at(number, step, 20 if again else step):
        number, kills = number + 1, kills + 1
        groups, state = checkpoint.load(checkpoint.latest(run))
        assert state["note"] in notes and (groups["model"]["w"] == state["note"]).all(), (step, number)
    assert checkpoint.load(checkpoint.latest(run))[1]["note"] == (20 if again else step)
    assert os.listdir(run / "checkpoints") == [f"step-{step:08d}"]
print(kills)
"""


def test_killed_at_any_moment_the_latest_checkpoint_loads(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", KILLED_SAVES, str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30


def test_a_full_disk_is_said_and_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    last = save(tmp_path, 1)

    def full(*_):
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.numpy, "save_file", full)
        with pytest.raises(UserError, match=r"cannot write model\.safetensors to .*No space left.*free some space"):
            save(tmp_path, 2)
    assert checkpoint.latest(tmp_path) == last and os.listdir(last.parent) == [last.name]


def test_the_state_is_plain_json(tmp_path):
    state = json.loads((save(tmp_path, 1, numbers=np.arange(3), loss=np.float32(0.5)) / "state.json").read_text())
    assert state["numbers"] == [0, 1, 2] and state["loss"] == 0.5
    assert set(state["sha256"]) == {"model.safetensors", "ema.safetensors"}
