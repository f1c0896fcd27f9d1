"""The doctor's findings, on descriptions of machines and on this one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import checkup, doctor, doctor_environment, doctor_machine, doctor_paddle
from runtime.black_list import spelled
from runtime.finding import ERROR, OK, WARNING, Finding

ROOT = Path(__file__).parents[2]


def findings(environment, card=True):
    """Subject -> findings that are not fine."""
    found: dict[str, list[Finding]] = {}
    for finding in doctor_environment.variables(environment, card):
        if finding.status != OK:
            found.setdefault(finding.subject, []).append(finding)
    return found


def test_an_environment_without_settings_is_fine():
    assert findings({"PATH": "/bin", "HOME": "/"}) == {}


@pytest.mark.parametrize(
    ("name", "value", "status", "words"),
    [
        ("CUSTOM_DEVICE_BLACK_LIST", "rnn, rnn_grad", ERROR, "export CUSTOM_DEVICE_BLACK_LIST=rnn,rnn_grad"),
        ("CUSTOM_DEVICE_BLACK_LIST", "conv2d,conv2d_grad", WARNING, "every convolution of the U-Nets"),
        ("CUSTOM_DEVICE_BLACK_LIST", "matmul", WARNING, "write matmul_v2"),
        ("CUSTOM_DEVICE_BLACK_LIST", "group_norm", WARNING, "the host computes it anyway"),
        ("CUSTOM_DEVICE_BLACK_LIST", "elementwise_add", ERROR, "must stay on the card"),
        ("FLAGS_use_stride_kernel", "1", ERROR, "unset FLAGS_use_stride_kernel"),
        ("PADDLE_XCCL_BACKEND", "npu", ERROR, "unset PADDLE_XCCL_BACKEND"),
        ("FLAGS_enable_api_kernel_fallback", "0", WARNING, "ends the program"),
        ("HIGH_PERFORMANCE_GEMM", "1", WARNING, "rounded to float16"),
        ("GLOG_vmodule", "x=3", ERROR, "heap"),
        ("GLOG_v", "6", WARNING, "at most 5"),
        ("SDAA_VISIBLE_DEVICES", "0;1", ERROR, "SDAA_VISIBLE_DEVICES=0,1,2,3"),
        ("SDAA_VISIBLE_DEVICES", "", WARNING, "hides all cards"),
        ("CUDA_VISIBLE_DEVICES", "-1", WARNING, "hides all cards"),
        ("CUSTOM_DEVICE_ROOT", "nowhere", ERROR, "no such folder"),
        ("CUSTOM_DEVICE_ROOT", str(ROOT), WARNING, "no plug-in for SDAA"),
        ("OMP_NUM_THREADS", "many", WARNING, "no number"),
        ("OMP_NUM_THREADS", "100000", WARNING, "stand in each other's way"),
        ("PADDLE_TRAINER_ID", "0", WARNING, "left behind by a launcher"),
    ],
)
def test_what_contradicts_itself_is_found_with_its_remedy(name, value, status, words):
    found = findings({name: value})
    assert list(found) == [name] and len(found[name]) == 1
    assert found[name][0].status == status and found[name][0].remedy
    assert words in f"{found[name][0].text}; {found[name][0].remedy}"


def test_what_only_a_card_would_mind_is_no_error_without_one():
    for name, value in (("FLAGS_use_stride_kernel", "1"), ("CUSTOM_DEVICE_BLACK_LIST", "rnn, rnn_grad")):
        assert findings({name: value}, card=False)[name][0].status == WARNING


@pytest.mark.parametrize("harmless", [{"FLAGS_use_stride_kernel": "0"}, {"PADDLE_XCCL_BACKEND": "sdaa"}])
def test_what_the_program_sets_itself_is_fine(harmless):
    assert findings(harmless | {"CUSTOM_DEVICE_BLACK_LIST": spelled(["rnn"]), "SDAA_VISIBLE_DEVICES": "0,2"}) == {}


def test_black_lists_are_spelled_as_paddle_wants_them():
    assert spelled(["rnn"]) == "rnn,rnn_grad"
    assert spelled(["rnn"], gradients=False) == "rnn"
    assert spelled(["matmul", "mean", "matmul_grad"]) == "matmul_v2,matmul_v2_grad,reduce_mean,reduce_mean_grad"
    assert spelled(["group_norm"]) == ""  # not registered: it runs on the host unnamed
    assert spelled([""]) == ""


@pytest.mark.parametrize(
    ("version", "status"),
    [("2.6.2", ERROR), ("3.0.0", OK), ("3.2.1", OK), ("3.3.1", OK), ("3.4.0", WARNING), (None, ERROR)],
)
def test_paddle_versions(monkeypatch, version, status):
    monkeypatch.setattr(doctor_paddle, "paddle_version", lambda: version)
    found = {finding.subject: finding for finding in doctor_paddle.software()}["paddle"]
    assert found.status == status and bool(found.remedy) == (status != OK)


@pytest.mark.parametrize(
    ("library", "version", "status", "words"),
    [
        ("libpaddle-custom-sdaa.so", "3.0.0", OK, "pairs with paddle 3.0.0"),
        ("libpaddle-custom-sdaa.so", "3.3.1", WARNING, "documents it for paddle 3.0"),
        ("libpaddle-sdaa-emulator.so", "3.3.1", OK, "EMULATOR"),
    ],
)
def test_plugins_and_their_pairs(monkeypatch, tmp_path, library, version, status, words):
    (tmp_path / library).touch()
    monkeypatch.setenv("CUSTOM_DEVICE_ROOT", str(tmp_path))
    monkeypatch.setattr(doctor_paddle, "paddle_version", lambda: version)
    found = {finding.subject: finding for finding in doctor_paddle.software()}["plug-in"]
    assert found.status == status and words in found.text


def test_packages_that_are_missing_or_old_are_named(tmp_path):
    (tmp_path / "list.txt").write_text("# a comment\nnumpy>=1.0\nno-such-package>=2\nscipy>=999\n")
    (found,) = doctor_machine.packages(tmp_path / "list.txt")
    assert found.status == ERROR and "no-such-package, scipy (" in found.text and "numpy" not in found.text


def test_codecs_of_this_environment_are_complete():
    assert [finding.status for finding in doctor_machine.codecs()] == [OK, OK]


def test_an_error_is_the_exit_status_and_every_remedy_is_printed(monkeypatch, capsys):
    for status, expected in ((WARNING, 0), (ERROR, 1)):
        monkeypatch.setattr(checkup, "everything", lambda status=status: [Finding("a", "bad", status, "do b")])
        assert doctor.main([]) == expected
        assert "remedy: do b" in capsys.readouterr().out


def test_this_machine_for_programs():
    """Whatever is wrong here, the report is whole and says which device `auto` would choose."""
    command = [sys.executable, "-m", "runtime.doctor", "--json"]
    environment = os.environ | {"CUSTOM_DEVICE_ROOT": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == int(any(finding["status"] == ERROR for finding in found)), done.stderr
    subjects = {finding["subject"]: finding for finding in found}
    assert {"python", "paddle", "plug-in", "device", "memory", "shared memory", "disk", "PyAV"} <= set(subjects)
    assert "auto chooses" in subjects["device"]["text"]
    assert all(finding["remedy"] for finding in found if finding["status"] != OK)


def test_it_answers_without_any_package():
    """``-S`` hides Paddle and all other packages."""
    command = [sys.executable, "-S", "-m", "runtime.doctor"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stderr
    assert "not installed" in done.stdout and "pip install -r requirements.txt" in done.stdout
