"""Pairs of originals and lossy copies as people make them: every option, a killed run, real music."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.codec_pairs import pairs_of
from data.codec_segments import CodecFiles
from dsp import audio
from dsp.lag import measure_lag
from run_scripts.apollo_generate import main
from runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
RATE = 44100


@pytest.fixture
def songs(tmp_path):
    folder = tmp_path / "songs"
    folder.mkdir()
    for k in range(6):
        x = 0.1 * np.random.default_rng(k).standard_normal((RATE * 2, 1 + k % 2))
        soundfile.write(folder / f"song {k}.wav", x.clip(-1, 1), RATE)
    return folder


def hashes(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def command(*arguments):
    """The mode in a process of its own."""
    code = "import sys; from run_scripts.apollo_generate import main; sys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_every_option_of_the_original(tmp_path, songs, capsys):
    words = ["-i", songs, "-o", tmp_path / "out", "-t", 2, "-gt", "-th", 1, "--save_logs", "--bitrate", "64k", "96k"]
    words += ["--enable_quality", "--quality_possibility", 0.5, "--quality_min", 2, "--quality_max", 4]
    words += ["--enable_lowpass", "--lowpass_possibility", 0.5, "--lowpass_min_freq", 5000, "--lowpass_max_freq", 6000]
    assert main([str(word) for word in words]) == 0
    said = capsys.readouterr().out
    assert "6 pairs written" in said and "codec_format: mp3" in said
    log = (tmp_path / "out" / "train_datasets.txt").read_text()
    assert "bit rates: 64k, 96k" in log and "quality: 2 to 4 for 50 % of the files" in log
    assert log.count("lag 0") == 6
    for drawn in re.findall(r"mp3 (.*);", log):
        assert re.fullmatch(r"(64k|96k|quality [234])(, low-pass 5\d\d\d Hz)?", drawn)
    assert len(pairs_of([tmp_path / "out"], tmp_path / "cache", 2).pairs) == 6


def test_pairs_for_validation_are_of_type_1(tmp_path, songs):
    assert main(["-i", str(songs), "-o", str(tmp_path / "out"), "-t", "2", "-gv", "-th", "1", "--save-logs"]) == 0
    assert (tmp_path / "out" / "song 0" / "codec.mp3").is_file()
    assert (tmp_path / "out" / "valid_datasets.txt").is_file()


def test_a_killed_run_is_finished_with_the_same_files(tmp_path, songs):
    words = ["-i", songs, "-gt", "-th", 1, "--save_logs", "--codec", "aac"]
    whole = command(*words, "-o", tmp_path / "a" / "out")
    killed = command(*words, "-o", tmp_path / "b" / "out")
    while not list((tmp_path / "b").rglob("codec.wav")):
        time.sleep(0.01)
        assert killed.poll() is None or list((tmp_path / "b").rglob("codec.wav"))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = hashes(tmp_path / "b" / "out")
    again = command(*words, "-o", tmp_path / "b" / "out")
    for process in (whole, again):
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
    one, two = hashes(tmp_path / "a" / "out"), hashes(tmp_path / "b" / "out")
    assert one.keys() == two.keys() and len(one) == 14 and len(before) < 14
    assert {name for name in one if one[name] != two[name]} == {"train_datasets.txt"}  # it names the folder


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-gt", "-gv"], "not allowed with"),
        ([], "one of the arguments"),
        (["-gt", "--bitrates", "loud"], "is not a bit rate"),
        (["-gt", "--quality_min", "5", "--quality_max", "3"], "0 .best. to 9"),
        (["-gt", "--enable_lowpass", "--lowpass_max_freq", "30000"], "22049 Hz"),
        (["-gt", "--enable_quality", "--codec", "opus"], "only mp3 has"),
        (["-gt", "--sample_rate", "12345"], "no sample rate of 12345"),
        (["-gt", "--lowpass_possibility", "2"], "not between 0 and 1"),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path, songs, words, complaint):
    with pytest.raises(UserError, match=complaint):
        main(["-i", str(songs), "-o", str(tmp_path / "out"), *words])
    assert not (tmp_path / "out").exists()


def test_bit_rates_that_a_codec_has_not_are_replaced_by_the_next(tmp_path, songs, capsys):
    assert main(["-i", str(songs), "-o", str(tmp_path / "out"), "-gt", "-th", "1", "--bitrates", "24k"]) == 0
    assert "mp3 has no 24k at 44100 Hz and 2 channels: 32k takes its place" in "".join(capsys.readouterr())


def test_help_is_there_without_paddle():
    process = command("--help")
    assert "--lowpass_max_freq" in process.communicate(timeout=60)[0] and process.returncode == 0
    code = "import sys, run_scripts.apollo_generate, data.codec_segments; print('paddle' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"


@pytest.mark.parametrize("codec", ["mp3", "aac", "ogg", "opus"])
def test_real_music_has_no_lag(tmp_path, shared_audio, codec):
    source = shared_audio / "codec" / "apollo" / "96k_sample1" / "ori_wav.wav"
    folder = tmp_path / "songs"
    folder.mkdir()
    x, rate = audio.read(source)
    (folder / "same.wav").symlink_to(source)
    soundfile.write(folder / "slow.wav", audio.resample(x[:1], rate, 32000).T, 32000)
    soundfile.write(folder / "fast.flac", audio.resample(x, rate, 96000).T, 96000, subtype="PCM_24")
    words = ["-i", folder, "-o", tmp_path / "out", "-gt", "-th", 1, "--codec", codec, "--bitrates", "64k", "--decoded"]
    assert main([str(word) for word in words]) == 0
    report = pairs_of([tmp_path / "out"], tmp_path / "cache", 1, "wav", "wav")
    assert report.findings == [] and len(report.pairs) == 3
    for file in CodecFiles(report.pairs):
        assert file.original.shape == file.codec.shape == x.shape
        assert measure_lag(file.original, file.codec).samples == 0
        assert measure_lag(x, file.original).samples == 0
    assert np.array_equal(next(file.original for file in CodecFiles(report.pairs) if file.name == "same"), x)
