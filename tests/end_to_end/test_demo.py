"""What `make demo` refuses before it begins, and how it ends when a step fails."""

import os
import signal
import threading

import pytest

from data.scan import build_index
from data.synthetic import write_songs
from run_scripts.run_demo import Demo, main
from runtime.errors import UserError


def test_a_song_that_cannot_be_separated_is_refused_before_anything_is_written(tmp_path):
    noise = tmp_path / "noise.mp3"
    noise.write_text("no audio")
    for song in (tmp_path / "missing.wav", noise, tmp_path):
        with pytest.raises(UserError, match=song.name):
            main(["--folder", str(tmp_path / "demo"), "--song", str(song)])
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(("code", "status"), [("exit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_a_step_that_fails_stops_the_demo_with_its_status(tmp_path, capfd, code, status):
    with pytest.raises(UserError, match=f"ended with status {status}") as caught:
        Demo(tmp_path).command("-c", code)
    assert caught.value.status == status and "$ python -c" in capfd.readouterr().out


@pytest.mark.parametrize("status", [130, 0])
def test_ctrl_c_leaves_the_step_the_time_to_save_and_ends_the_demo(tmp_path, capfd, status):
    step = f"import sys, time; time.sleep(1); print('saved'); sys.exit({status})"
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(UserError) as caught:
        Demo(tmp_path).command("-c", step)
    assert caught.value.status == 130 and "saved" in capfd.readouterr().out


def test_other_songs_are_trained_in_another_folder(tmp_path):
    demo, folders = Demo(tmp_path), []
    for seed in (0, 0, 1):
        write_songs(tmp_path / "dataset", songs=2, seconds=1.0, seed=seed, sample_rate=8000)
        build_index(tmp_path / "dataset")
        folders.append(demo.model_dir())
    assert folders[0] == folders[1] != folders[2]
