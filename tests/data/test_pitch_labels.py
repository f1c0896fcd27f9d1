"""Pitch labels: every form is read with its times, and resampling neither glides to zero nor bridges silences."""

import numpy as np
import pytest

from data.pitch_labels import Pitch, at, at_frames, frames_of, hertz, midi, read, read_pv, write_pv
from runtime.errors import UserError


def written(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_notes_and_frequencies_are_inverse_and_zero_stays_unvoiced():
    assert hertz(69) == 440 and hertz(0) == 0 and midi(0) == 0
    assert np.allclose(midi(hertz([21, 57.25, 100])), [21, 57.25, 100])


def test_pv_has_the_times_it_is_told(tmp_path):
    path = written(tmp_path, "a.pv", "0\n69\n57.0\n")
    original = read_pv(path, hop=0.02, first=0.02)
    assert np.allclose(original.times, [0.02, 0.04, 0.06])
    assert np.allclose(original.f0, [0, 440, 220])
    assert np.allclose(read(path).times, [0.01, 0.02, 0.03])  # the data set's own: line 1 is frame 1


def test_written_pv_reads_back_at_its_frames(tmp_path):
    f0 = np.array([0, 0, 220, 221.5, 0, 1046.5], np.float32)
    write_pv(tmp_path / "a.pv", f0)
    again = at_frames(read_pv(tmp_path / "a.pv", 0.01), samples=5 * 160 + 7, hop=160)
    assert len(again) == frames_of(5 * 160 + 7, 160) == 6
    assert np.allclose(again, f0, rtol=1e-5)


def test_first_frame_has_no_line(tmp_path):
    write_pv(tmp_path / "a.pv", np.full(4, 440.0))
    assert (tmp_path / "a.pv").read_text() == "69.0000\n" * 3
    assert at_frames(read_pv(tmp_path / "a.pv"), 480, 160)[0] == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "0.00,0.0\n0.01,220\n0.02,440\n"),
        ("a.csv", "time,f0,confidence\n0,nan,0.1\n0.01,220,0.9\n0.02,440,0.9\n"),
        ("a.csv", "confidence;frequency;time\nx;-110;0\nx;220;.01\nx;440;.02\n"),
        ("a.csv", "# a remark\r\n\r\n0.00 0\r\n0.01 220\r\n0.02 440\r\n"),
        ("a.csv", "\ufefftime,midi\n0,0\n0.01,57\n0.02,69\n"),
        ("a.tsv", "0.00\t0.0\n0.01\t220\n0.02\t440\n"),
    ],
)
def test_tables_of_time_and_frequency(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    pitch = read(path)
    assert np.allclose(pitch.times, [0, 0.01, 0.02])
    assert np.allclose(pitch.f0, [0, 220, 440])


def test_notes_sound_from_onset_to_offset(tmp_path):
    pitch = read(written(tmp_path, "a.tsv", "onset\toffset\tnote\n0.5\t1.0\t69\n1.2\t1.5\t57\n"))
    f0, voiced = at(pitch, np.array([0.4, 0.51, 0.98, 1.1, 1.3, 1.49, 1.6]))
    assert np.allclose(f0, [0, 440, 440, 0, 220, 220, 0], rtol=1e-6)
    assert voiced.tolist() == [False, True, True, False, True, True, False]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.pv", "", "empty"),
        ("a.pv", "69\nla\n", "not a file of one MIDI note"),
        ("a.pv", "69\ninf\n", "not a file of one MIDI note"),
        ("a.csv", "0,1\n0.1\n", "too few columns"),
        ("a.csv", "time,f0\n", "nothing below its heading"),
        ("a.csv", "song,singer\na,b\n", "names neither time"),
        ("a.csv", "0,220\n0.1,220\n0.05,220\n", "ascend"),
        ("a.csv", "# nothing\n", "holds no labels"),
        ("a.tsv", "onset\toffset\tnote\n2\t1\t60\n", "ends before it begins"),
        ("a.lab", "0,1\n", "only"),
    ],
)
def test_what_is_no_label_file_is_named(tmp_path, name, text, said):
    with pytest.raises(UserError, match=said) as error:
        read(written(tmp_path, name, text))
    assert str(tmp_path / name) in str(error.value)


def test_missing_and_binary_files_are_sentences(tmp_path):
    with pytest.raises(UserError, match="missing"):
        read(tmp_path / "none.csv")
    (tmp_path / "a.pv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="not a text file"):
        read(tmp_path / "a.pv")


def test_interpolation_is_in_cents_between_voiced_labels_only():
    pitch = Pitch(np.arange(5) * 0.02, np.array([0, 220, 440, 0, 330]))
    f0, voiced = at(pitch, np.array([0.005, 0.015, 0.03, 0.035, 0.045, 0.055, 0.075]))
    assert voiced.tolist() == [False, True, True, True, True, False, True]
    assert f0[1] == 220 and f0[4] == 440 and f0[6] == 330  # held towards silence, never a glide to it
    assert f0[2] == pytest.approx(220 * 2**0.5)
    assert f0[3] == pytest.approx(220 * 2**0.75)
    assert (f0[~voiced] == 0).all()


def test_nothing_is_voiced_outside_of_the_labels_and_in_gaps():
    pitch = Pitch(np.array([0.10, 0.11, 0.12, 0.50, 0.51]), np.full(5, 200.0))
    times = np.array([0.05, 0.096, 0.115, 0.124, 0.126, 0.3, 0.497, 0.514, 0.6])
    assert at(pitch, times)[1].tolist() == [False, True, True, True, False, False, True, True, False]


@pytest.mark.parametrize("count", [0, 1])
def test_few_labels_and_no_times(count):
    pitch = Pitch(np.arange(count) * 1.0, np.full(count, 100.0))
    assert at(pitch, np.array([0.0, 0.5]))[1].tolist() == [count == 1, False]
    assert len(at(pitch, np.zeros(0))[0]) == 0


def test_resampling_keeps_a_dense_curve_to_a_hundredth_of_a_cent():
    times = np.arange(200) * 0.02
    curve = lambda t: 220 * 2 ** (np.sin(2 * np.pi * 0.5 * t) / 12)  # noqa: E731
    new = np.arange(390) * 0.01
    cents = 1200 * np.log2(at(Pitch(times, curve(times)), new)[0] / curve(new))
    assert np.abs(cents).max() < 0.06


@pytest.mark.parametrize(
    ("times", "f0", "said"),
    [
        ([0, 1], [1.0], "two columns"),
        ([0, 0], [1, 1], "ascend"),
        ([0, 1], [-1, 1], "negative"),
        ([0, np.nan], [1, 1], "finite"),
    ],
)
def test_impossible_labels_are_refused(times, f0, said):
    with pytest.raises(ValueError, match=said):
        Pitch(np.array(times, float), np.array(f0, float))


def test_real_labels_agree_with_mir_eval(shared_audio):
    mir_eval = pytest.importorskip("mir_eval")
    pitch = read(shared_audio / "pitch/vocadito_1/vocadito_1_f0.csv")
    new = np.arange(0, 33, 0.01)
    f0, voiced = at(pitch, new)
    theirs, voicing = mir_eval.melody.resample_melody_series(
        pitch.times, mir_eval.melody.hz2cents(pitch.f0.astype(float)), pitch.voiced.astype(float), new
    )
    both = voiced & (voicing > 0)
    assert both.sum() > 0.98 * voiced.sum()  # they hold the earlier label, not the nearest, at voicing boundaries
    cents = np.abs(mir_eval.melody.hz2cents(f0[both].astype(float)) - theirs[both])
    assert np.mean(cents < 0.5) > 0.99  # except where they interpolate across a boundary
