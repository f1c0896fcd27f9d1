"""Operator audits on the emulated card: nothing that a step needs may come to be left to the host."""

import json
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import models
from runtime import console, device, doctor, doctor_audit, doctor_step
from runtime.doctor_audit import CARD, HOST, Audit, audit
from runtime.errors import UserError
from tests.end_to_end.inside import inside
from tests.sdaa.cards import needs_compiler

ROOT = Path(__file__).parents[2]

pytestmark = needs_compiler

# Networks, and what a card may leave to its host in one step of (training, separation): {"pad3d float32": 12}. Lower
# it when you can; a network that is new begins with what its first audit says.
ALLOWED: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "spleeter_2stems": ({}, {}),
    "spleeter_5stems": ({}, {}),
    "demucs": ({}, {}),
    "demucs_v2": ({}, {}),
    "tasnet": ({}, {}),
    "hdemucs": ({}, {}),
    "htdemucs": ({}, {}),
    "bsrnn_vocals": ({}, {}),
    "apollo": ({}, {}),
    "rmvpe": ({}, {}),
}
LIKE = {  # with the operators of another
    "spleeter_4stems": "spleeter_2stems",
    "spleeter_musdb": "spleeter_2stems",
    "demucs_v1": "demucs_v2",
    "torch_hdemucs": "hdemucs",
    "htdemucs_6s": "htdemucs",
    "bsrnn_other": "bsrnn_vocals",
    "bsrnn_bass": "bsrnn_vocals",
    "bsrnn_drums": "bsrnn_vocals",
    "apollo_384": "apollo",
    "rmvpe_e2e": "rmvpe",
    "rmvpe_paper_e2e0": "rmvpe",
    "rmvpe_paper_e2e": "rmvpe",
}
# The operators do not depend on the sizes; signals are so long that LSTMs take them in windows, of 200 steps.
SPLEETER = (["filters=[4,4,4,4,4,4]", "frequency_bins=64"], 64)
QUICK = {
    "spleeter_2stems": SPLEETER,
    "spleeter_5stems": SPLEETER,
    "demucs": (["channels=4", "depth=3", "norm_starts=1", "dconv_attn=2", "dconv_lstm=2", "dconv_comp=1"], 7000),
    "demucs_v2": (["channels=4", "depth=2"], 4000),
    "tasnet": (["N=8", "B=8", "H=8", "X=2", "R=2"], 2000),
    "hdemucs": (
        ["channels=4", "nfft=256", "depth=4", "norm_starts=2", "dconv_attn=2", "dconv_lstm=2", "dconv_comp=2"],
        13000,
    ),
    "htdemucs": (
        [
            "channels=4",
            "nfft=256",
            "depth=2",
            "norm_starts=1",
            "dconv_comp=2",
            "bottom_channels=16",
            "t_layers=2",
            "segment=1/20",
        ],
        2205,
    ),
    "rmvpe": (["n_blocks=1", "inter_layers=1", "en_out_channels=2"], 32),
    "bsrnn_vocals": (["fc_dim=8", "rnn_dim=8", "num_layers=1", "mlp_dim=8"], 6000),
    "apollo": (["sr=8000", "feature_dim=16", "layer=1", "discriminator.window=[32,128]"], 2000),
}


def quick(name: str, train: bool) -> Audit:
    options, segment = QUICK[name]
    whole = [option if "." in option.partition("=")[0] else f"model.{option}" for option in options]
    return audit(name, train, segment=segment, overrides=whole)


@pytest.fixture(autouse=True, scope="module")
def no_settings():
    """A user without a black list of his own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUSTOM_DEVICE_BLACK_LIST", raising=False)
        yield


@pytest.fixture(scope="module")
def audits(no_settings) -> dict[tuple[str, bool], Future[Audit]]:
    """By network, and whether it is trained; two at a time, because each is processes of its own. All are done."""
    with ThreadPoolExecutor(2) as pool:
        return {(name, train): pool.submit(quick, name, train) for name in ALLOWED for train in (True, False)}


def test_every_network_has_its_limit():
    names = {LIKE.get(name, name) for name in models.names() if not name.endswith("_16khz")}
    assert names == set(ALLOWED)


@pytest.mark.parametrize("train", [True, False], ids=["train", "infer"])
@pytest.mark.parametrize("network", ALLOWED)
def test_fallbacks_do_not_rise_and_no_black_list_is_needed(audits, network, train):
    found = audits[network, train].result()
    assert found.emulated and found.device == "sdaa:0"
    allowed = ALLOWED[network][not train]
    assert all(count <= allowed.get(kernel, 0) for kernel, count in found.fallbacks.items()), found.fallbacks
    assert not found.disagreements
    assert found.black_list == device._black_list(network) == "" and found.refused == {}
    rows = {row.kernel: row for row in found.rows}
    heavy = "matmul" if network.startswith(("bsrnn", "apollo")) else "conv2d"
    assert rows[heavy].where == CARD and rows[heavy].flops > 0
    if network.startswith("spleeter"):
        assert rows["conv2d"].count == 7 * len(models.describe(network).sources)
    if network == "apollo":
        assert rows["depthwise_conv2d"].where == CARD and rows["depthwise_conv2d"].count == 3
        # the discriminator's, at two resolutions: verdicts on both halves, and once more for the generator
        assert [rows[name].count for name in ("conv2d", "conv2d_grad") if name in rows] == ([56, 42] if train else [])
    optimiser = "adamw" if network == "apollo" else "adam"
    assert (f"{heavy}_grad" in rows) == (optimiser in rows) == train
    assert sum(row.share for row in found.rows) == pytest.approx(1)


def test_the_black_list_of_the_old_port_sends_every_convolution_to_the_host(monkeypatch):
    monkeypatch.setenv("CUSTOM_DEVICE_BLACK_LIST", "conv2d,conv2d_grad")
    found = quick("spleeter_2stems", train=True)
    rows = [row for row in found.rows if row.kernel in ("conv2d", "conv2d_grad")]
    assert sorted((row.kernel, row.count, row.where, row.note) for row in rows) == [
        ("conv2d", 14, HOST, "black list"),
        ("conv2d_grad", 14, HOST, "black list"),
    ]
    assert found.black_list == "" and found.black_list_given == "conv2d,conv2d_grad"  # it is not needed


STEP = """
import json, os, sys
order = json.loads(sys.argv[1])
begins, ends = "=== the audited step begins ===", "=== the audited step ends ==="
{step}
seen = {"launches": [], "flops": {}, "generic": [], "paddle": "3", "device": "sdaa:0", "plugin": ""}
open(order["report"], "w").write(json.dumps(seen))
"""
# a training step that Paddle takes; it need not be taken for the profile, which no test of it reads
REFUSED_IN_TRAINING = """
if not order["profile"]:
    os.environ["FLAGS_use_stride_kernel"] = "0"
    import paddle
    import paddle.nn.functional as F
    paddle.set_device("sdaa:0")
    weight = paddle.ones([4, 2, 3, 3])
    weight.stop_gradient = False
    print(begins, file=sys.stderr, flush=True)
    F.conv2d(paddle.ones([1, 4, 8, 8]), weight, groups=2).sum().backward()
    print(ends, file=sys.stderr, flush=True)
"""
# what Paddle says of a separation, with a list that is as short as can be and with any other
REFUSED_IN_SEPARATION = """
if os.environ["CUSTOM_DEVICE_BLACK_LIST"] != "conv2d":
    sys.exit("ValueError: sdaa emulator: conv2d of the card refuses grouped convolutions")
kernel = '] conv2d API kernel key: [sdaa, NCHW, float32]\\n] conv2d kernel: {"input":["CPU, "]}'
print(begins, kernel, ends, sep="\\n", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("train", "step"), [(True, REFUSED_IN_TRAINING), (False, REFUSED_IN_SEPARATION)], ids=["train", "infer"]
)
def test_a_refused_operator_is_found_and_sent_to_the_host(tmp_path, monkeypatch, train, step):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "audit.py").write_text(STEP.replace("{step}", step))
    monkeypatch.setattr(doctor_step, "_ROOT", tmp_path)
    seen = doctor_step.observe({"train": train}, emulated=True)
    assert seen.refused == {"conv2d": "grouped convolutions"}
    on_host = {launch.kernel for launch in seen.launches if launch.on_host}
    assert on_host == ({"conv2d", "conv2d_grad"} if train else {"conv2d"})


def test_operations_are_counted():
    import paddle
    import paddle.nn.functional as F

    from training.flops import counted

    x, weight = paddle.ones([2, 4, 9, 9]), paddle.ones([6, 2, 3, 3])
    scale, lstm = paddle.ones([4]), paddle.nn.LSTM(4, 3, direction="bidirect", time_major=True)
    weight.stop_gradient = scale.stop_gradient = False
    with counted() as counts:
        F.conv2d(x, weight, stride=2, groups=2)  # -> [2, 6, 4, 4], of 2 × 3 × 3 inputs each
        F.conv2d_transpose(x, paddle.ones([4, 5, 2, 2]))
        paddle.matmul(paddle.ones([3, 7, 5]), paddle.ones([3, 7, 2]), transpose_x=True)
        F.linear(paddle.ones([3, 7]), paddle.ones([7, 2]))
        lstm(paddle.ones([9, 2, 4]))
        F.group_norm(paddle.ones([2, 4, 3]), 2)
        F.layer_norm(paddle.ones([2, 4]), [4], scale)
    assert counts == {
        "conv2d": [1, 2 * (2 * 6 * 4 * 4) * (2 * 3 * 3)],
        "conv2d_grad": [1, 2 * (2 * 6 * 4 * 4) * (2 * 3 * 3)],  # the input wants none
        "conv2d_transpose": [1, 2 * (2 * 4 * 9 * 9) * (5 * 2 * 2)],
        "matmul": [2, 2 * (3 * 5 * 2) * 7 + 2 * (3 * 2) * 7],
        "rnn": [1, 2 * (9 * 2) * 2 * (12 * 4 + 12 * 3)],  # nine steps of two, both ways
        "rnn_grad": [1, 2 * (9 * 2) * 2 * (12 * 4 + 12 * 3)],
        "group_norm": [1, 5 * (2 * 4 * 3)],
        "layer_norm": [1, 7 * (2 * 4)],
        "layer_norm_grad": [1, 7 * (2 * 4)],
    }
    np.testing.assert_array_equal(F.conv2d(x, weight, groups=2).shape, [2, 6, 7, 7])  # and works as before afterwards


def test_the_command_audits_on_the_emulated_card_and_prints_a_table_or_json(audits, monkeypatch, capsys):
    asked, taken = [], audits["spleeter_2stems", False].result()
    monkeypatch.setattr(doctor_audit, "audit", lambda *order: asked.append(order) or taken)
    command = ["audit", "spleeter:2stems", "--infer", "--batch", "3", "train.amp=true"]
    assert doctor.main(command) == doctor.main([*command, "--json"]) == 0
    console.set_verbosity(0)
    assert asked == [("spleeter:2stems", False, None, 3, None, ["train.amp=true"])] * 2
    text, brace, found = capsys.readouterr().out.partition("{")
    assert "left to the host: nothing" in text and "CUSTOM_DEVICE_BLACK_LIST" in text
    found = json.loads(brace + found)
    assert found["network"] == "spleeter_2stems" and found["emulated"] and found["fallbacks"] == {}


def test_an_audit_of_the_cpu_by_the_list_of_the_cards_kernels():
    command = [sys.executable, "-m", "runtime.doctor", "audit", "spleeter:2stems", "--infer"]
    command += [*(f"model.{option}" for option in SPLEETER[0]), "--device", "cpu", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)  # and nothing else was said
    assert found["network"] == "spleeter_2stems" and not found["emulated"] and found["fallbacks"] == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["spleeter_9stems"], "error: there is no network called 'spleeter_9stems'"),
        (["spleeter_2stems", "model.layers=3"], "error: unknown key model.layers"),
        (["spleeter_2stems", "--device", "gpu"], "error: --device gpu: no CUDA build of paddle"),
        (["spleeter_2stems", "--train", "--infer"], "not allowed with"),
    ],
)
def test_what_cannot_be_audited_is_a_sentence(arguments, sentence):
    done = inside(doctor.main, ROOT, "audit", *arguments, status=None)
    assert done.returncode and sentence in done.stderr and "Traceback" not in done.stderr


def test_overrides_of_the_demucs_family():
    from training.audit_steps import subject

    audited = subject("htdemucs-6s", ["model.segment=1/4", "model.t_layers=3", "optim.loss=mse"])
    assert audited.description.segment == 11025 and audited.options == {"segment": "1/4", "t_layers": 3}
    assert audited.cfg.model == "htdemucs" and audited.cfg.optim.loss == "mse"
    assert len(audited.cfg.weights) == len(audited.cfg.dset.sources) == 6
    assert subject("demucs:v1").cfg.model == "demucs"
    with pytest.raises(UserError, match="htdemucs has no option 'layers'"):
        subject("htdemucs", ["model.layers=3"])
    with pytest.raises(UserError, match=r"unknown key optim\.rate"):
        subject("tasnet", ["optim.rate=3"])
