"""Data sets of every known form become the documented layout: right times, no leaks, and nothing lost unsaid."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.pitch_labels import at_frames, midi, read_pv
from data.pitch_segments import PitchFiles
from data.pitch_sources import Source, divide, find
from data.voice import make_song, singer
from run_scripts.rmvpe_prepare import main
from runtime.errors import UserError

RATE = 16000
SONGS = {f"{who}_{song}_0{clip}": k for k, (who, song, clip) in enumerate(
    [("amy", 1, 1), ("amy", 1, 2), ("bug", 1, 1), ("bug", 2, 1), ("ken_x", 1, 1), ("leon", 1, 1)]
)}  # fmt: skip


@pytest.fixture(scope="module")
def songs():
    return {name: make_song(3, seed=1, number=k, voice=singer(1, k)) for name, k in SONGS.items()}


def mir1k(folder, songs, first=0.02, hop=0.02):
    """A folder like MIR-1K: labels in the middle of 40 ms every 20 ms, the first and the last window left out."""
    (folder / "Wavfile").mkdir(parents=True)
    (folder / "PitchLabel").mkdir()
    for name, song in songs.items():
        soundfile.write(folder / "Wavfile" / f"{name}.wav", song.audio.T, RATE)
        lines = int(song.audio.shape[1] / RATE / hop) - 1
        places = np.round((first + hop * np.arange(lines)) * RATE).astype(int)
        f0 = song.f0[np.minimum(places, len(song.f0) - 1)]
        text = "".join(f"{note:.6f}\n" if note else "0\n" for note in midi(f0))
        (folder / "PitchLabel" / f"{name}.pv").write_text(text)
    for other in ("LyricsWav", "UndividedWavfile"):
        (folder / other).mkdir()
        soundfile.write(folder / other / "amy_1_01.wav", np.zeros(8000), RATE)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory, songs):
    return mir1k(tmp_path_factory.mktemp("data") / "MIR-1K", songs)


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def report(out):
    (data,) = json.loads((out / "prepare.json").read_text())["data"].values()
    return data


def run(*arguments, status=0):
    assert main([str(part) for part in (*arguments, "-j", 1)]) == status


def cents_off(out, songs, hop=160):
    """How far the written labels are from what was sung, over all voiced frames."""
    off = []
    for path in out.glob("*/*.pv"):
        song = songs[path.stem]
        f0 = at_frames(read_pv(path, hop / RATE), song.audio.shape[1], hop)
        known = song.f0[np.minimum(np.arange(len(f0)) * hop, len(song.f0) - 1)]
        both = (f0 > 0) & (known > 0)
        assert np.mean((f0 > 0) == (known > 0)) > 0.97
        off.append(1200 * np.log2(f0[both] / known[both]))
    return np.abs(np.concatenate(off))


def test_mir1k_becomes_the_layout(tmp_path, capsys, original, songs):
    before, out = digests(original), tmp_path / "Hybrid"
    run("-i", original, "-o", out)
    assert digests(original) == before
    said, facts = capsys.readouterr().out, report(out)
    assert "the first label is at 20 ms" in said and "6 songs written, 0 were there" in said
    assert facts["label_hop"] == 0.02 and facts["first_label"]["first"] == 0.02 and facts["unusable"] == {}
    singers = {split: set(row["singers"]) for split, row in facts["splits"].items()}
    assert singers["train"] and singers["test"] and not singers["train"] & singers["test"]
    assert singers["train"] | singers["test"] == {"amy", "bug", "ken_x", "leon"}
    for path in out.glob("*/*.wav"):
        audio, rate = soundfile.read(path, dtype="int16")
        assert rate == RATE and np.array_equal(audio.T, songs[path.stem].audio)
    assert np.quantile(cents_off(out, songs), 0.95) < 5
    assert len(PitchFiles(out / "train")) + len(PitchFiles(out / "test")) == 6


@pytest.mark.parametrize("first", [0.0, 0.04])
def test_other_times_of_the_first_label_are_found(tmp_path, songs, first):
    run("-i", mir1k(tmp_path / "in", songs, first), "-o", tmp_path / "out", "--hop_length", 320, "-q")
    assert report(tmp_path / "out")["first_label"]["first"] == first
    assert np.quantile(cents_off(tmp_path / "out", songs, 320), 0.95) < 5


def test_labels_of_another_hop(tmp_path, songs):
    run("-i", mir1k(tmp_path / "in", songs, 0.01, 0.01), "-o", tmp_path / "out")
    assert report(tmp_path / "out")["label_hop"] == 0.01
    assert report(tmp_path / "out")["first_label"]["first"] == 0.01
    assert np.quantile(cents_off(tmp_path / "out", songs), 0.95) < 5


def test_hop_that_is_no_whole_number_of_milliseconds_is_asked_for(tmp_path, songs):
    folder = mir1k(tmp_path / "in", songs, 0.0, 256 / 22050)
    with pytest.raises(UserError, match="--label-hop"):
        run("-i", folder, "-o", tmp_path / "out")
    run("-i", folder, "-o", tmp_path / "out", "--label_hop", 256 / 22050)
    assert abs(report(tmp_path / "out")["first_label"]["first"]) < 1e-6
    assert np.quantile(cents_off(tmp_path / "out", songs), 0.95) < 5


def test_labels_with_wrong_times_are_said_but_kept(tmp_path, capsys, songs):
    (tmp_path / "in").mkdir()
    for name, song in songs.items():
        soundfile.write(tmp_path / "in" / f"{name}.wav", song.audio[1], RATE)
        rows = (f"{k / 100},{song.f0[k * 160 + 480]}\n" for k in range(290))
        (tmp_path / "in" / f"{name}.csv").write_text("time,f0\n" + "".join(rows))
    run("-i", tmp_path / "in", "-o", tmp_path / "out")
    said = capsys.readouterr().out
    assert (
        re.search(r"labels are early by (29\.[89]|30\.[0-2]) ± 0\.\d ms", said) and "their own times are kept" in said
    )
    f0 = at_frames(read_pv(next((tmp_path / "out").glob("*/amy_1_01.pv"))), 48000, 160)
    assert np.allclose(f0[1:290], songs["amy_1_01"].f0[640 : 640 + 289 * 160 : 160], rtol=1e-5)


def test_time_that_is_said_is_used(tmp_path, capsys, original):
    run("-i", original, "-o", tmp_path, "--label_time", 0.1, "--label_hop", 0.02, "--test_singers", "leon")
    assert "at 100 ms, as was said" in capsys.readouterr().out
    assert [path.stem for path in (tmp_path / "test").glob("*.wav")] == ["leon_1_01"]
    lines = (tmp_path / "train/amy_1_01.pv").read_text().split()
    first = [float(line) for line in (original / "PitchLabel/amy_1_01.pv").read_text().split()]
    assert np.allclose([float(line) for line in lines[9::2]][: len(first)], first[: len(lines[9::2])], atol=1e-4)


def test_weak_evidence_is_said(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/a.wav", 0.3 * np.sin(2 * np.pi * 220 * np.arange(3 * RATE) / RATE), RATE)
    (tmp_path / "in/a.pv").write_text("57\n" * 149)
    run("-i", tmp_path / "in", "-o", tmp_path / "out")
    said = capsys.readouterr().out
    assert "evidence for the time of the first label is weak" in said and "20 ms" in said
    assert "nobody knows the singer" in said


def test_second_run_goes_on_where_the_first_one_stopped(tmp_path, capsys, original):
    run("-i", original, "-o", tmp_path)
    before = digests(tmp_path)
    run("-i", original, "-o", tmp_path)
    assert "0 songs written, 6 were there" in capsys.readouterr().out and digests(tmp_path) == before
    lost = next(tmp_path.glob("*/bug_1_01.wav"))
    lost.unlink()
    run("-i", original, "-o", tmp_path)
    assert "1 songs written, 5 were there" in capsys.readouterr().out and lost.exists()
    run("-i", original, "-o", tmp_path, "--hop_length", 320)
    assert "6 songs written, 0 were there" in capsys.readouterr().out
    with open(tmp_path / ".prepared.jsonl", "a") as ledger:
        ledger.write('["train/amy_1')  # a run that was killed while it wrote this
    run("-i", original, "-o", tmp_path, "--hop_length", 320)
    assert "0 songs written, 6 were there" in capsys.readouterr().out


def test_songs_that_move_or_go_leave_nothing_behind(tmp_path, capsys, original):
    copy = shutil.copytree(original, tmp_path / "in")
    run("-i", copy, "-o", tmp_path / "out", "--test_singers", "amy")
    run("-i", copy, "-o", tmp_path / "out", "--test_singers", "bug")
    assert sorted(path.stem for path in (tmp_path / "out/test").glob("*.wav")) == ["bug_1_01", "bug_2_01"]
    assert len(list((tmp_path / "out").glob("*/*.wav"))) == len(list((tmp_path / "out").glob("*/*.pv"))) == 6
    (copy / "Wavfile/leon_1_01.wav").unlink()
    capsys.readouterr()
    run("-i", copy, "-o", tmp_path / "out", "--test_singers", "bug")
    assert "1 removed" in capsys.readouterr().out
    assert not list((tmp_path / "out").glob("*/leon*"))
    assert report(tmp_path / "out")["unusable"] == {"no audio": 1}


def test_what_others_put_there_is_not_touched(tmp_path, original):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/mine.wav").write_bytes(b"mine")
    run("-i", original, "-o", tmp_path, "--test_fraction", 0)
    assert (tmp_path / "train/mine.wav").read_bytes() == b"mine"
    (tmp_path / "other/train").mkdir(parents=True)
    (tmp_path / "other/train/amy_1_01.wav").write_bytes(b"mine")
    with pytest.raises(UserError, match="was not written by this command"):
        run("-i", original, "-o", tmp_path / "other", "--test_fraction", 0)
    assert (tmp_path / "other/train/amy_1_01.wav").read_bytes() == b"mine"


def test_two_data_sets_in_one(tmp_path, songs, original):
    more = mir1k(tmp_path / "more", {"zoe_1_01": songs["amy_1_01"], "bug_1_01": songs["bug_1_01"]})
    run("-i", original, "-o", tmp_path / "out", "--test_fraction", 0)
    run("-i", more, "-o", tmp_path / "out", "--test_fraction", 0)
    data = json.loads((tmp_path / "out/prepare.json").read_text())["data"]
    assert len(list((tmp_path / "out/train").glob("*.wav"))) == 7 and len(data) == 2
    assert data[str(more)]["unusable"] == {"name taken": 1}


def test_audit_counts_what_cannot_be_used(tmp_path, capsys, songs):
    folder = mir1k(tmp_path / "in", songs)
    wav, label = folder / "Wavfile", folder / "PitchLabel"
    (label / "amy_1_01.pv").unlink()
    (wav / "amy_1_02.wav").write_bytes(b"RIFF, but no more")
    (label / "bug_1_01.pv").write_text("la\nla\n")
    (label / "bug_2_01.pv").write_text("0\n" * 149)
    (label / "ken_x_1_01.pv").write_text("60\n" * 300)
    (label / "nobody_1_01.pv").write_text("60\n")
    soundfile.write(wav / "mute_1_01.wav", np.stack([songs["leon_1_01"].audio[0], np.zeros(48000, np.int16)]).T, RATE)
    shutil.copy(label / "leon_1_01.pv", label / "mute_1_01.pv")
    soundfile.write(wav / "many_1_01.wav", np.zeros((8000, 6)), RATE)
    (label / "many_1_01.pv").write_text("60\n" * 24)
    run("-i", folder, "-o", tmp_path / "out", "--label_time", 0.02, "--test_fraction", 0)
    facts, said = report(tmp_path / "out"), capsys.readouterr().out
    assert facts["unusable"] == {
        "all unvoiced": 1,
        "length mismatch": 1,
        "no audio": 1,
        "no label": 1,
        "silent voice": 1,
        "too many channels": 1,
        "unreadable audio": 1,
        "unreadable label": 1,
    }
    assert "8 files could not be used" in said and "300 lines every 20 ms" in said
    assert [path.stem for path in (tmp_path / "out/train").glob("*.wav")] == ["leon_1_01"]
    assert len(facts["files"]) == 8 and all(row["message"] for row in facts["files"])
    assert "mute_1_01" not in (tmp_path / "out/.prepared.jsonl").read_text()


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        run("-i", tmp_path / "none", "-o", tmp_path / "out")
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="no audio"):
        run("-i", tmp_path / "in", "-o", tmp_path / "out")
    soundfile.write(tmp_path / "in/a.wav", np.zeros(8000), RATE)
    with pytest.raises(UserError, match="1 no label"):
        run("-i", tmp_path / "in", "-o", tmp_path / "out")
    with pytest.raises(UserError, match="never changed"):
        run("-i", tmp_path / "in", "-o", tmp_path / "in/out")


def test_tables_of_frequencies_and_other_rates(tmp_path, songs):
    """As in vocadito: folders of their own, `_f0` in the name, a list of singers, 44.1 kHz, odd steps."""
    (tmp_path / "in/Audio").mkdir(parents=True)
    (tmp_path / "in/Annotations/F0").mkdir(parents=True)
    (tmp_path / "in/Annotations/Notes").mkdir()
    rows = ["track_id,singer_id,average_pitch,language"]
    from dsp.resample import resample

    named = {}
    for k, song in enumerate(list(songs.values())[:4], 1):
        voice = resample(song.audio[1:].astype(np.float32) / 32768, RATE, 44100)
        soundfile.write(tmp_path / f"in/Audio/vocadito_{k}.wav", np.repeat(voice, 2, axis=0).T, 44100)
        times = np.arange(0, 2.99, 256 / 44100)
        f0 = song.f0[np.round(times * RATE).astype(int)]
        table = "".join(f"{t},{f}\n" for t, f in zip(times, f0, strict=True))
        (tmp_path / f"in/Annotations/F0/vocadito_{k}_f0.csv").write_text(table)
        (tmp_path / f"in/Annotations/Notes/vocadito_{k}_notesA1.csv").write_text("0.1,220,0.5\n")
        rows.append(f"{k},S{(k + 1) // 2},60,English")
        named[f"vocadito_{k}"] = song
    (tmp_path / "in/vocadito_metadata.csv").write_text("\n".join(rows) + "\n")
    run("-i", tmp_path / "in", "-o", tmp_path / "out", "--test_fraction", 0.5)
    facts = report(tmp_path / "out")
    assert [row["singers"] for row in facts["splits"].values()] in ([["S1"], ["S2"]], [["S2"], ["S1"]])
    assert abs(facts["first_label"]["measured"]) < 0.001 and facts["label_hop"] is None
    assert np.quantile(cents_off(tmp_path / "out", named), 0.95) < 5
    assert soundfile.info(next((tmp_path / "out").glob("*/*.wav"))).channels == 1


def test_folders_keep_their_split(tmp_path, original):
    run("-i", original, "-o", tmp_path / "a", "--test_singers", "ken_x")
    run("-i", tmp_path / "a", "-o", tmp_path / "b")  # the layout itself is understood, at its own hop
    assert sorted(digests(tmp_path / "b/test")) == sorted(digests(tmp_path / "a/test"))
    assert [name for name in digests(tmp_path / "b/test") if name.startswith("ken_x")]
    shutil.copy(tmp_path / "a/test/ken_x_1_01.wav", tmp_path / "a/train/ken_x_2_01.wav")
    shutil.copy(tmp_path / "a/test/ken_x_1_01.pv", tmp_path / "a/train/ken_x_2_01.pv")
    with pytest.raises(UserError, match="ken_x would sing in train and in test"):
        run("-i", tmp_path / "a", "-o", tmp_path / "c")


@pytest.mark.parametrize("how", ["-i", "--url"])
def test_archives(tmp_path, capsys, original, how):
    archive = tmp_path / "MIR-1K.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(original.rglob("*")):
            file.write(path, Path("MIR-1K") / path.relative_to(original))
    before = archive.read_bytes()
    run(how, archive if how == "-i" else archive.as_uri(), "-o", tmp_path / "out")
    assert "6 songs written" in capsys.readouterr().out
    assert archive.read_bytes() == before
    assert not list((tmp_path / "out").rglob("Wavfile")) and not list((tmp_path / "out").rglob("*.zip"))
    run(how, archive if how == "-i" else archive.as_uri(), "-o", tmp_path / "out")
    said = "0 songs written, 6 were there" if how == "-i" else "nothing to do"
    assert said in capsys.readouterr().out
    next((tmp_path / "out").glob("*/amy*.pv")).unlink()
    run(how, archive if how == "-i" else archive.as_uri(), "-o", tmp_path / "out")
    assert "1 songs written, 5 were there" in capsys.readouterr().out


def test_rar_needs_a_program(tmp_path, monkeypatch, original):
    archive = tmp_path / "MIR-1K.rar"
    archive.write_bytes(b"Rar!\x1a\x07\x00 and so on")
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(UserError, match="none of unrar"):
        run("-i", archive, "-o", tmp_path / "out")
    program = programs / "unrar"
    program.write_text("#!/bin/sh\necho 'checksum error' >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(UserError, match="checksum error"):
        run("-i", archive, "-o", tmp_path / "out")
    program.write_text(f'#!/bin/sh\nfor last; do :; done\n/bin/cp -r "{original}" "$last"\n')
    run("-i", archive, "-o", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*/*.wav"))) == 6


def test_no_download_is_a_sentence_that_says_how_to_go_on(tmp_path, monkeypatch):
    from data import pitch_mir1k

    monkeypatch.setattr(pitch_mir1k, "ZIP", ((tmp_path / "none.zip").as_uri(),))
    monkeypatch.setattr(pitch_mir1k, "unpacker", lambda: None)
    with pytest.raises(UserError, match="with -i"):
        run("-o", tmp_path / "out")


def test_several_processes_write_the_same(tmp_path, original):
    run("-i", original, "-o", tmp_path / "one")
    assert main(["-i", str(original), "-o", str(tmp_path / "two"), "-j", "2"]) == 0
    for split in ("train", "test"):
        assert digests(tmp_path / "one" / split) == digests(tmp_path / "two" / split)


def test_singers_are_told_by_an_expression(tmp_path):
    for who, song in (("Alto-1", "0001"), ("Alto-1", "0002"), ("Bass-1", "0001")):
        (tmp_path / who).mkdir(exist_ok=True)
        soundfile.write(tmp_path / who / f"{song}.wav", np.zeros(800), RATE)
        (tmp_path / who / f"{song}.csv").write_text("0,220\n")
    found = find(tmp_path, r"^([^/]+)/")
    assert [source.singer for source in found.sources] == ["Alto-1", "Alto-1", "Bass-1"]
    assert [source.name for source in found.sources] == ["Alto-1_0001", "0002", "Bass-1_0001"]
    for wrong in ("(", "Alto"):
        with pytest.raises(UserError, match="--singer"):
            find(tmp_path, wrong)


@pytest.mark.parametrize("seed", range(5))
def test_singers_are_divided_by_time_without_leaks(seed):
    rng = np.random.default_rng(seed)
    sources = [Source(f"s{k % 19}_{k}_1", Path("a"), Path("b"), f"s{k % 19}") for k in range(200)]
    seconds = {source.name: float(rng.uniform(4, 13)) for source in sources}
    divided = divide(sources, seconds, 0.2, seed=seed)
    test = {source.singer for source in divided if source.split == "test"}
    assert not test & {source.singer for source in divided if source.split == "train"}
    share = sum(seconds[source.name] for source in divided if source.split == "test") / sum(seconds.values())
    assert 0.1 < share < 0.3
    assert {source.split for source in divide(sources, seconds, 0)} == {"train"}
    assert {source.split for source in divide(sources, seconds, 1)} == {"test"}
    with pytest.raises(UserError, match="nobody called x"):
        divide(sources, seconds, test_singers=["x"])


@pytest.mark.parametrize(
    "wrong",
    [
        ["-i", "a", "--download"],
        ["--sha256", "0" * 64],
        ["--test_fraction", "2"],
        ["--label_hop", "20"],
        ["--hop", "1"],
    ],
)
def test_wrong_options_are_one_sentence(wrong):
    with pytest.raises(UserError) as error:
        main(wrong)
    assert error.value.status == 2


def test_help_needs_neither_paddle_nor_numpy():
    code = (
        "import sys\nfrom run_scripts.rmvpe_prepare import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'paddle', 'numpy', 'librosa'} & set(sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--hop_length" in done.stdout
