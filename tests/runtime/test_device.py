"""The choice of the device and its environment. Plug-ins are empty files here: nothing imports paddle."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import device
from runtime.errors import UserError

MANAGED = [
    "CUSTOM_DEVICE_ROOT",
    "CUSTOM_DEVICE_BLACK_LIST",
    "CUDA_VISIBLE_DEVICES",
    "FLAGS_selected_sdaas",
    "FLAGS_use_stride_kernel",
    "GLOG_minloglevel",
    "OMP_NUM_THREADS",
    "PADDLE_XCCL_BACKEND",
    "SDAA_VISIBLE_DEVICES",
]


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """A machine without settings of the user, in a process that has not imported paddle."""
    for name in MANAGED:
        monkeypatch.setenv(name, "")  # so that it is restored whatever the test does
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "paddle", raising=False)
    monkeypatch.setattr(device, "_has_gpu_build", lambda: False)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "libpaddle-custom-sdaa.so").write_bytes(b"")
    monkeypatch.setenv("CUSTOM_DEVICE_ROOT", str(tmp_path))


def test_auto_without_cards_is_the_cpu_and_says_why():
    chosen = device.select()
    assert (chosen.kind, chosen.name, chosen.index, chosen.kept) == ("cpu", "cpu", 0, {})
    assert "no SDAA plug-in" in str(chosen) and "no CUDA build" in str(chosen)


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    for processes, threads in ((1, "8"), (3, "2"), (20, "1")):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        assert device.select("cpu", processes=processes).environment == {"OMP_NUM_THREADS": threads}
        assert os.environ["OMP_NUM_THREADS"] == threads


def test_auto_takes_sdaa_and_sets_what_it_needs(plugin):
    chosen = device.select("auto", "spleeter_2stems")
    assert chosen.name == "sdaa:0" and "plug-in is there" in chosen.reason
    assert chosen.environment == {"FLAGS_use_stride_kernel": "0", "PADDLE_XCCL_BACKEND": "sdaa"}
    assert chosen.environment.items() <= os.environ.items()
    assert "CUSTOM_DEVICE_BLACK_LIST" not in os.environ


def test_networks_have_their_black_lists(plugin, monkeypatch):
    monkeypatch.setattr(device, "_BLACK_LISTS", {"spleeter": "", "demucs": "rnn,rnn_grad"})
    chosen = device.select("sdaa", "demucs_v2")
    assert chosen.environment["CUSTOM_DEVICE_BLACK_LIST"] == os.environ["CUSTOM_DEVICE_BLACK_LIST"] == "rnn,rnn_grad"


def test_what_the_user_has_set_stays_and_is_reported(plugin, monkeypatch):
    monkeypatch.setenv("CUSTOM_DEVICE_BLACK_LIST", "conv2d,conv2d_grad")
    monkeypatch.setenv("FLAGS_use_stride_kernel", "1")
    monkeypatch.setenv("PADDLE_XCCL_BACKEND", "sdaa")
    chosen = device.select("sdaa", "spleeter_2stems")
    assert chosen.kept == {"CUSTOM_DEVICE_BLACK_LIST": "conv2d,conv2d_grad", "FLAGS_use_stride_kernel": "1"}
    assert "kept CUSTOM_DEVICE_BLACK_LIST=conv2d,conv2d_grad" in str(chosen)
    assert os.environ["CUSTOM_DEVICE_BLACK_LIST"] == "conv2d,conv2d_grad"
    assert chosen.environment == {"PADDLE_XCCL_BACKEND": "sdaa"}


def test_the_cpu_keeps_plugins_out_unless_the_user_pointed_at_one(plugin, monkeypatch):
    assert device.select("cpu").kept == {"CUSTOM_DEVICE_ROOT": os.environ["CUSTOM_DEVICE_ROOT"]}
    monkeypatch.setattr(device, "plugin", lambda: Path("site-packages/paddle_custom_device/libpaddle-sdaa.so"))
    monkeypatch.delenv("CUSTOM_DEVICE_ROOT")
    assert device.select("cpu").environment["CUSTOM_DEVICE_ROOT"] == os.environ["CUSTOM_DEVICE_ROOT"] == ""


def test_visible_cards_are_counted_without_paddle(plugin, monkeypatch):
    assert device.visible_count("cpu") is None
    assert device.visible_count("gpu") == 0
    assert device.visible_count("sdaa") is None  # the plug-in knows
    monkeypatch.setenv("SDAA_VISIBLE_DEVICES", "2,3")
    assert device.visible_count("sdaa") == 2
    assert device.card_labels("sdaa", 2) == ["2", "3"]
    monkeypatch.setenv("CUSTOM_DEVICE_ROOT", "")
    assert device.visible_count("sdaa") == 0
    monkeypatch.setattr(device, "_has_gpu_build", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert device.visible_count("gpu") == 1
    assert device.select("auto").name == "gpu:0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert device.visible_count("gpu") == 0
    assert device.select("auto").name == "cpu"


@pytest.mark.parametrize(
    ("name", "processes", "message"),
    [
        ("sdaa", 3, "3 processes need 3 cards, but 2 are visible: choose -npn 2"),
        ("sdaa:2", 1, "2 cards are visible, counted from 0"),
        ("gpu", 1, "no CUDA build of paddle; install paddlepaddle-gpu"),
        ("npu", 1, "not understood"),
        ("cpu:1", 1, "not understood"),
    ],
)
def test_what_is_not_there_is_a_sentence_with_a_remedy(plugin, monkeypatch, name, processes, message):
    monkeypatch.setenv("SDAA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(UserError, match=message):
        device.select(name, processes=processes)


def test_sdaa_without_a_plugin_is_an_error():
    with pytest.raises(UserError, match=r"no SDAA plug-in of paddle; install .* or choose --device cpu"):
        device.select("sdaa")


def test_a_worker_gets_the_card_that_the_launcher_chose(plugin, monkeypatch):
    monkeypatch.setenv("SDAA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setenv("FLAGS_selected_sdaas", "3")
    assert device.select("sdaa", processes=4).name == "sdaa:3"
    monkeypatch.setenv("PADDLE_TRAINER_ID", "3")
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "4")
    assert device.select("sdaa:1", processes=4).name == "sdaa:3"


def test_too_late_is_an_error(plugin, monkeypatch):
    monkeypatch.setitem(sys.modules, "paddle", sys)
    with pytest.raises(RuntimeError, match="before paddle is imported"):
        device.select("sdaa")
    monkeypatch.setenv("FLAGS_use_stride_kernel", "0")
    monkeypatch.setenv("PADDLE_XCCL_BACKEND", "sdaa")
    assert device.select("sdaa").name == "sdaa:0"


ROOT = Path(__file__).parents[2]


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    inherited = {key: value for key, value in os.environ.items() if key not in MANAGED}
    settings = inherited | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=settings)


def test_activate_computes_there_and_announces_itself_without_chatter():
    code = """
from runtime import device
chosen = device.select("cpu", processes=1)
device.activate(chosen)
import paddle
print(paddle.ones([2]).sum().item(), paddle.device.get_device())"""
    done = run(code)
    assert done.stdout.splitlines() == ["device: cpu (as asked for)", "2.0 cpu"]
    assert done.stderr == ""


def test_activate_of_a_broken_plugin_is_a_sentence(plugin, tmp_path):
    code = """
from runtime import console, device
console.run(lambda argv: device.activate(device.select("sdaa")))"""
    done = run(code, CUSTOM_DEVICE_ROOT=str(tmp_path))
    assert done.returncode == 1
    assert "error: --device sdaa:0 cannot be used: " in done.stderr and "Traceback" not in done.stderr


def test_sigterm_still_unwinds_after_paddle_was_imported():
    code = """
import os, signal
from runtime import console, device
def main(argv):
    device.activate(device.select("cpu"))
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        print("tidy")
console.run(main)"""
    done = run(code)
    assert done.returncode == 143 and done.stdout.endswith("tidy\n") and done.stderr == ""


TRAINING = """
import hashlib
from runtime import device
device.activate(device.select("cpu"))
import numpy as np, paddle
from paddle import nn
paddle.seed(1)
model = nn.Sequential(nn.Conv2D(2, 16, 5, 2, 2), nn.BatchNorm2D(16), nn.LeakyReLU(0.2),
                      nn.Conv2DTranspose(16, 2, 5, 2, 2, output_padding=1), nn.Linear(64, 64))
adam = paddle.optimizer.Adam(1e-3, parameters=model.parameters(), grad_clip=nn.ClipGradByGlobalNorm(1.0))
random = np.random.default_rng(0)
for _ in range(5):
    x = paddle.to_tensor(random.standard_normal((4, 2, 64, 64)).astype("float32"))
    (model(x) - x).abs().mean().backward()
    adam.step()
    adam.clear_grad()
print(hashlib.sha256(b"".join(p.numpy().tobytes() for p in model.parameters())).hexdigest())
"""


def test_training_on_the_cpu_gives_the_same_bits_in_every_process():
    results = {run(TRAINING, OMP_NUM_THREADS="2").stdout.splitlines()[-1] for _ in range(3)}
    assert len(results) == 1
