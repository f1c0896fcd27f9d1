"""The exported program: equal to eager mode, cached, and never in the way."""

import gc
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from inference import engine
from runtime import console
from runtime.errors import UserError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLESTEMS_CACHE", str(tmp_path / "programs"))
    return tmp_path / "programs"


@pytest.fixture(scope="module")
def exported(tmp_path_factory, small_model):
    """The program of the network, exported once for those that ask what is done with one."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PADDLESTEMS_CACHE", str(folder))
        engine.build(small_model, "program")
    (program,) = folder.iterdir()
    return program


@pytest.fixture
def filled(cache, exported):
    """A cache that has it."""
    shutil.copytree(exported, cache / exported.name)
    return cache


@pytest.fixture
def copied(exported, monkeypatch):
    """An export takes a copy of it."""
    monkeypatch.setattr(engine, "export", lambda _, folder: shutil.copytree(exported, folder, dirs_exist_ok=True))


@pytest.fixture
def magnitudes():
    return np.abs(np.random.default_rng(0).standard_normal((2, 2, 128, 192))).astype(np.float32)


def test_program_equals_eager(cache, small_model, magnitudes):
    program, eager = engine.build(small_model, "program"), engine.build(small_model, "eager")
    assert (program.name, eager.name) == ("program", "eager")
    np.testing.assert_allclose(program(magnitudes), eager(magnitudes), rtol=0, atol=1e-5)
    one = program(magnitudes[:1, :, :64])
    assert one.shape == (1, 2, 2, 64, 192)
    np.testing.assert_allclose(one, eager(magnitudes[:1, :, :64]), rtol=0, atol=1e-5)


def test_a_program_has_one_thread_which_ends_with_it(filled, small_model, magnitudes):
    before = set(threading.enumerate())
    program = engine.build(small_model, "program")
    for _ in range(2):
        program(magnitudes)
    (thread,) = set(threading.enumerate()) - before
    del program
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()


def test_export_leaves_the_model_alone(cache, small_model, magnitudes):
    import paddle

    small_model.train()
    try:
        engine.build(small_model, "program")
        assert small_model.training
        engine.build(small_model, "eager")(magnitudes)
        assert small_model.training
        assert not small_model(paddle.to_tensor(magnitudes)).stop_gradient
    finally:
        small_model.eval()


def test_export_leaves_no_translated_methods_behind(cache, small_model):
    layers = small_model.sublayers(include_self=True)
    before = [layer.forward for layer in layers]
    engine.build(small_model, "program")
    assert [layer.forward for layer in layers] == before
    assert len(list(cache.iterdir())) == 1


def test_program_is_exported_once(cache, small_model, magnitudes, monkeypatch):
    first = engine.build(small_model, "program")(magnitudes)
    monkeypatch.setattr(engine, "export", lambda *_: pytest.fail("exported again"))
    np.testing.assert_array_equal(engine.build(small_model, "program")(magnitudes), first)
    assert len(list(cache.iterdir())) == 1


def test_key_follows_weights_and_options(small_model, small_options):
    import models

    key = engine.program_key(small_model)
    assert key == engine.program_key(models.create("spleeter_2stems", **small_options))
    assert key != engine.program_key(models.create("spleeter_2stems", **small_options, conv_activation="ELU"))
    assert key != engine.program_key(models.create("spleeter_2stems", **{**small_options, "seed": 1}))


@pytest.mark.parametrize("damage", ["truncate", "garble", "remove"])
def test_damaged_program_is_made_anew(filled, small_model, magnitudes, damage):
    expected = engine.build(small_model, "program")(magnitudes)
    path = next(filled.iterdir()) / "network.json"
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "truncate" else b"x" * len(data))
    said = []
    np.testing.assert_array_equal(engine.build(small_model, "program", say=said.append)(magnitudes), expected)
    assert path.read_bytes()[:100] == data[:100] and path.stat().st_size > 0.9 * len(data)
    assert "damaged" in said[0]


def test_unwritable_cache_costs_an_export_only(tmp_path, small_model, magnitudes, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PADDLESTEMS_CACHE", str(tmp_path / "file" / "programs"))
    said = []
    program = engine.build(small_model, "auto", say=said.append)
    assert program.name == "program"
    assert "not kept" in said[0]
    np.testing.assert_allclose(program(magnitudes), engine.build(small_model, "eager")(magnitudes), rtol=0, atol=1e-5)


def test_only_the_last_programs_are_kept(cache, copied, small_model, monkeypatch):
    monkeypatch.setattr(engine, "_KEPT", 2)
    for weights_hash in ("one", "two", "three"):
        engine.build(small_model, "program", weights_hash=weights_hash)
    assert len(list(cache.iterdir())) == 2


def test_auto_falls_back_to_eager_and_says_why(cache, small_model, monkeypatch):
    def fail(*_):
        raise RuntimeError("first line\nno such operator")

    monkeypatch.setattr(engine, "export", fail)
    said = []
    assert engine.build(small_model, "auto", say=said.append).name == "eager"
    assert "no such operator" in said[0]
    with pytest.raises(UserError, match="no such operator"):
        engine.build(small_model, "program")
    assert not list(cache.iterdir())


def test_refuses_what_cannot_be(small_model, monkeypatch):
    for wish, sentence in [
        ({"engine": "fast"}, "none of auto, program, eager"),
        ({"precision": "fp8"}, "none of float32, bf16"),
        ({"engine": "program", "device": "gpu"}, "CPU only"),
        ({"engine": "eager", "precision": "bf16"}, "exported program"),
    ]:
        with pytest.raises(UserError, match=sentence):
            engine.build(small_model, **wish)
    monkeypatch.setattr(engine, "cpu_has_bf16", lambda: False)
    with pytest.raises(UserError, match="no bfloat16"):
        engine.build(small_model, precision="bf16")


@pytest.mark.skipif(not engine.cpu_has_bf16(), reason="this CPU has no bfloat16 instructions")
def test_bf16_is_near(filled, small_model, magnitudes):
    near = engine.build(small_model, precision="bf16")
    assert near.name == "program bf16"
    exact = engine.build(small_model, "eager")(magnitudes)
    error = np.abs(near(magnitudes) - exact).max()
    assert 0 < error < 0.05 * exact.max()


def test_a_program_that_computes_something_else_is_not_used(cache, small_model, magnitudes, monkeypatch):
    monkeypatch.setattr(engine, "_run", lambda predictor, batch: np.zeros((1, 2, 2, 64, 192), np.float32))
    said = []
    assert engine.build(small_model, "auto", say=said.append).name == "eager"
    assert "deviates" in said[0]
    assert not list(cache.iterdir())


def test_processes_may_export_at_the_same_time(cache, small_options):
    code = (
        "import sys, models; from inference import engine; "
        f"model = models.create('spleeter_2stems', **{small_options!r}); "
        "sys.stdin.readline(); assert engine.build(model, 'program').name == 'program'"
    )
    command = [sys.executable, "-c", code]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True) for _ in range(2)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.wait(timeout=120)
    assert [process.returncode for process in processes] == [0, 0]
    assert len(list(cache.iterdir())) == 1


def test_what_bf16_cannot_do_is_no_damage(filled, small_model, monkeypatch):
    engine.build(small_model, "program")
    monkeypatch.setattr(engine, "cpu_has_bf16", lambda: True)
    original = engine._predictor

    def predictor(folder, precision):
        if precision == "bf16":
            raise ValueError("no such kernel")
        return original(folder, precision)

    monkeypatch.setattr(engine, "_predictor", predictor)
    said = []
    with pytest.raises(UserError, match="no such kernel; use --precision float32"):
        engine.build(small_model, precision="bf16", say=said.append)
    assert not said


def test_a_program_that_cannot_be_kept_is_quiet_when_asked_to_be(copied, tmp_path, small_model, monkeypatch, capfd):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PADDLESTEMS_CACHE", str(tmp_path / "file"))
    for verbosity, words in ((0, "is not kept"), (-1, "")):
        console.set_verbosity(verbosity)
        try:
            assert engine.build(small_model, "program").name == "program"
        finally:
            console.set_verbosity(0)
        out = capfd.readouterr().out
        assert words in out
        assert bool(words) == bool(out)
