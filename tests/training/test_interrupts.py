"""What a signal does before the training loop, and within it."""

import os
import signal

import pytest

from run_scripts import run_spleeter
from tests.training.runs import settings
from training import prepare
from training.interrupts import StopRequests


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_before_the_loop_the_command_ends_at_once_with_the_status_for_requeue(songs, monkeypatch, capsys, number):
    monkeypatch.setattr(prepare, "prepare", lambda *_: os.kill(os.getpid(), number))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PADDLESTEMS_REQUEUE_STATUS", "99")
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught:
        run_spleeter.main(["-c", "spleeter/tiny", "-m", "fast_train", "--device", "cpu", *settings(songs)])
    assert caught.value.code == 99 and signal.getsignal(number) == before
    said = capsys.readouterr().out
    assert f"stopped by {number.name}" in said and "status 99" in said and "the same command" in said


def test_ctrl_c_before_the_loop_is_the_usual_one():
    with pytest.raises(KeyboardInterrupt), StopRequests():
        os.kill(os.getpid(), signal.SIGINT)


def test_the_loop_gets_notes_and_a_second_ctrl_c_breaks_off():
    with StopRequests() as requests:
        with requests.deferred():
            os.kill(os.getpid(), signal.SIGUSR1)
            assert requests.requeue and not requests.interrupt
            os.kill(os.getpid(), signal.SIGINT)
            assert requests.interrupt
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
