import os

import numpy as np
import pytest

from dsp.audio import AudioWriter, audio_files
from runtime.errors import UserError


def sound(path):
    with AudioWriter(path, 8000, 1) as writer:
        writer.write(np.zeros((1, 10), np.float32))
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("b.wav", "a.WAV", "sub/c.wav", ".hidden.wav", ".git/d.wav", "sub/.tmp-e.wav"):
        sound(tmp_path / name)
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "cover.jpg").write_bytes(b"\xff\xd8\xff")
    return tmp_path


def test_folders_give_their_visible_audio_files_sorted(folder):
    names = [path.relative_to(folder).as_posix() for path in audio_files([folder])]
    assert names == ["a.WAV", "b.wav", "sub/c.wav"]


def test_named_files_keep_their_order_and_come_once(folder):
    files = audio_files([folder / "b.wav", folder / ".hidden.wav", folder, str(folder / "b.wav")])
    assert [path.name for path in files] == ["b.wav", ".hidden.wav", "a.WAV", "c.wav"]


@pytest.mark.parametrize(("name", "words"), [("none.wav", "no such file"), ("notes.txt", "not audio")])
def test_named_files_must_be_audio(folder, name, words):
    with pytest.raises(UserError, match=f"{name}.*{words}"):
        audio_files([folder / name])


def test_problems_are_collected_and_the_rest_goes_on(folder):
    (folder / "empty").mkdir()
    problems = []
    files = audio_files([folder / "none.wav", folder / "b.wav", folder / "empty"], problems)
    assert [path.name for path in files] == ["b.wav"]
    assert ["none.wav" in str(problems[0]), "empty" in str(problems[1])] == [True, True]


def test_broken_files_inside_a_folder_are_left_to_who_reads_them(folder):
    (folder / "z.mp3").write_bytes(b"")
    assert audio_files([folder])[-2].name == "z.mp3"


def test_links_are_followed_and_no_folder_is_entered_twice(folder):
    elsewhere = folder / "sub" / "elsewhere"
    sound(elsewhere / "d.wav")
    (folder / "one").mkdir()
    for link, target in [("one/again", elsewhere), ("one/loop", folder), ("one/b2.wav", folder / "b.wav")]:
        (folder / link).symlink_to(target)
    names = [path.relative_to(folder).as_posix() for path in audio_files([folder])]
    assert names == ["a.WAV", "b.wav", "one/b2.wav", "one/again/d.wav", "sub/c.wav"]


def test_earlier_results_are_left_out_unless_they_are_named(folder):
    def names(path, leave_out):
        return [found.name for found in audio_files([path], leave_out=leave_out)]

    assert names(folder, folder / "sub") == names(folder, folder / "x" / ".." / "sub") == ["a.WAV", "b.wav"]
    assert names(folder / "sub", folder / "sub") == ["c.wav"]
    assert names(folder, folder / "none") == names(folder, folder) == ["a.WAV", "b.wav", "c.wav"]


def test_a_name_that_cannot_be_is_reported(folder):
    with pytest.raises(UserError, match=r"cannot read .*: file name too long"):
        audio_files([folder / ("x" * 300)])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission_are_reported(folder):
    (folder / "b.wav").chmod(0)
    with pytest.raises(UserError, match="permission denied"):
        audio_files([folder / "b.wav"])
