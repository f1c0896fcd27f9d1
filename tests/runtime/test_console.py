"""The guard of the command lines, progress and tables."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import console

ROOT = Path(__file__).parents[2]


def door(body: str, env: dict[str, str] | None = None, **settings) -> subprocess.CompletedProcess:
    """Run ``main`` with this body under the guard, as a command line would be."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    code = (
        "import os, sys, errno, signal\nfrom runtime import console\n"
        f"from runtime.errors import UserError\ndef main(argv):\n{lines}\nconsole.run(main)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | (env or {})
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, **settings)


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ("return 0", 0, ""),
        ("return None", 0, ""),
        ("return 3", 3, ""),
        ("raise UserError('no such song')", 1, "error: no such song\n"),
        ("raise UserError('no such flag', status=2)", 2, "error: no such flag\n"),
        ("raise KeyboardInterrupt", 130, "error: interrupted\n"),
        ("sys.exit(4)", 4, ""),
        ("sys.exit('that is all')", 1, "error: that is all\n"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143, ""),
    ],
)
def test_endings_give_a_status_and_at_most_a_sentence(body, status, sentence):
    done = door(body)
    assert (done.returncode, done.stderr, done.stdout) == (status, sentence, "")


@pytest.mark.parametrize("name", ["ENOSPC", "EACCES", "EROFS"])
def test_complaints_of_the_disk_are_sentences_that_name_the_file(name):
    done = door(f"raise OSError(errno.{name}, 'x', 'song.wav')")
    assert done.returncode == 1
    assert done.stderr.startswith("error: song.wav: ") and done.stderr.count("\n") == 1


def test_names_that_the_stream_cannot_show_are_escaped():
    body = "print('Frühling', os.fsdecode(b'\\xff'))\nraise UserError('没有 is missing')"
    done = door(body, env={"PYTHONIOENCODING": "ascii:strict"})
    assert (done.returncode, done.stdout) == (1, "Fr\\xfchling \\udcff\n")
    assert done.stderr == "error: \\u6ca1\\u6709 is missing\n"


def test_a_full_stdout_is_a_sentence():
    with open("/dev/full", "w") as full:
        code = "from runtime import console; console.run(lambda argv: print('much'))"
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert done.returncode == 1
    assert "no space left" in done.stderr and "Traceback" not in done.stderr


def test_a_defect_keeps_its_traceback():
    done = door("return [][1]")
    assert done.returncode == 1
    assert "IndexError" in done.stderr


def test_sigterm_unwinds_so_that_temporary_files_go(tmp_path):
    body = f"""from runtime.files import atomic_write
with atomic_write({str(tmp_path / "song.wav")!r}) as handle:
    handle.write(b'half')
    os.kill(os.getpid(), signal.SIGTERM)"""
    assert door(body).returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_went_away_is_no_defect():
    code = "from runtime import console\ndef main(argv):\n  while True: print('line')\nconsole.run(main)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 128 + signal.SIGPIPE
    process.stderr.close()


def test_progress_in_a_log_yields_everything_and_says_little(monkeypatch, capsys):
    monkeypatch.setattr(console, "LINE_EVERY", 0.0)
    assert list(console.progress([1, 2], "songs", "song")) == [1, 2]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["songs: 1/2 song", "songs: 2/2 song"]

    monkeypatch.setattr(console, "LINE_EVERY", 10.0)
    with console.progress(None, "download", "B") as bar:
        bar.update(1 << 20)
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_is_a_bar_that_lines_do_not_break(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    for _ in console.progress(iter("ab"), "songs", "song"):
        console.log("a line")
    assert "songs" in terminal.getvalue()
    assert [text for text in terminal.getvalue().splitlines() if text.strip() == "a line"]


def test_quiet_is_quiet_but_warns(capsys):
    console.set_verbosity(-1)
    try:
        console.log("chatter")
        console.warn("look")
        assert list(console.progress([1], "songs")) == [1]
    finally:
        console.set_verbosity(0)
    console.detail("a detail")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "warning: look\n")


def test_hushed_drops_chatter_but_not_what_explains_a_failure(capsys):
    with console.hushed():
        print("chatter", file=sys.stderr)
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError), console.hushed():
        print("because", file=sys.stderr)
        raise ValueError
    assert capsys.readouterr().err == "because\n"


def test_table_aligns_numbers_right_and_wide_characters_by_cells():
    text = console.table([["夜曲", 1.5, 3], ["a song", -10.25, None]], ["song", "SDR", "n"])
    assert text.splitlines() == [
        "song       SDR  n",
        "------  ------  -",
        "夜曲      1.50  3",
        "a song  -10.25  -",
    ]
    assert console.table([], ["song", "SDR"]).splitlines() == ["song  SDR", "----  ---"]
