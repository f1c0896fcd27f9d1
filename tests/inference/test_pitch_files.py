"""What pitch tracks become: tables, notes, MIDI and pictures."""

import json
import struct

import numpy as np
import pytest

import models
from data import pitch_labels
from data.pitch_labels import Pitch
from inference import pitch_files, pitch_notes, pitch_plot, pitch_songs
from inference.pitch import PitchTrack
from inference.pitch_notes import Note
from runtime.errors import UserError


def track(f0, hop=160):
    f0 = np.asarray(f0, np.float64)
    return PitchTrack(np.arange(len(f0)) * hop / 16000, f0, np.linspace(0, 1, len(f0), dtype=np.float32))


# --------------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("hop", [160, 320, 441, 1])
@pytest.mark.parametrize("count", [0, 1, 700])
def test_tables_come_back(tmp_path, hop, count):
    wanted = track(np.where(np.arange(count) % 7, 220.0 + np.arange(count) / 3, 0), hop)
    for name in ("a.csv", "a.npy", "a.json"):
        pitch_files.write_track(tmp_path / name, wanted, {"hop": hop})
    rows = [line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines()]
    for name, found in (
        ("csv", np.array(rows, float).reshape(-1, 3)),
        ("npy", np.load(tmp_path / "a.npy")),
        ("json", _columns(tmp_path / "a.json")),
    ):
        assert found.shape == (count, 3), name
        np.testing.assert_allclose(found[:, 0], np.arange(count) * hop / 16000, atol=1e-12)
        np.testing.assert_allclose(found[:, 1], wanted.f0, atol=6e-5)
        np.testing.assert_allclose(found[:, 2], wanted.confidence, atol=6e-5)
    assert json.loads((tmp_path / "a.json").read_text())["hop"] == hop


def _columns(path):
    facts = json.loads(path.read_text())
    return np.array([facts["times"], facts["f0"], facts["confidence"]]).T


def test_csv_is_a_label_that_the_data_tools_read(tmp_path):
    pitch_files.write_track(tmp_path / "a.csv", track([0, 220, 221.5, 0]))
    assert (tmp_path / "a.csv").read_text() == "0,0,0.0000\n0.01,220,0.3333\n0.02,221.5,0.6667\n0.03,0,1.0000\n"
    found = pitch_labels.read(tmp_path / "a.csv")
    assert found.f0.tolist() == [0, 220, 221.5, 0]


def test_unknown_formats():
    with pytest.raises(UserError, match="did you mean csv"):
        pitch_files.format_of("song.csw")


# ---------------------------------------------------------------------------------------------------------------- notes


def sung(*parts, step=0.01):
    """A pitch of (seconds, MIDI number, 0 for a rest)."""
    numbers = np.concatenate([np.full(round(seconds / step), float(number)) for seconds, number in parts])
    return Pitch(np.arange(len(numbers)) * step, pitch_labels.hertz(numbers))


def test_notes_of_a_melody():
    found = pitch_notes.notes(sung((0.2, 0), (0.5, 60), (0.3, 62.2), (0.1, 0), (0.4, 62), (0.5, 0)))
    assert [note.number for note in found] == [60, 62, 62]
    np.testing.assert_allclose([note.onset for note in found], [0.2, 0.7, 1.1], atol=1e-9)
    np.testing.assert_allclose([note.offset for note in found], [0.7, 1.0, 1.5], atol=1e-9)


def test_vibrato_is_one_note_and_a_glide_has_no_notes_on_its_way():
    times = np.arange(200) * 0.01
    vibrato = 64 + 0.9 * np.sin(2 * np.pi * 6 * times)
    assert [n.number for n in pitch_notes.notes(Pitch(times, pitch_labels.hertz(vibrato)))] == [64]
    glide = np.interp(times, [0, 0.9, 1.0, 2], [60, 60, 65, 65])
    found = pitch_notes.notes(Pitch(times, pitch_labels.hertz(glide)))
    assert [note.number for note in found] == [60, 65]
    assert found[0].offset == found[1].onset == pytest.approx(0.95, abs=0.04)


def test_short_rests_are_none_and_short_notes_neither():
    found = pitch_notes.notes(sung((0.3, 60), (0.02, 0), (0.3, 60), (0.2, 0), (0.03, 70), (0.2, 0)))
    assert found == [Note(0.0, pytest.approx(0.62), 60)]
    assert pitch_notes.notes(sung((0.5, 0))) == []
    assert pitch_notes.notes(Pitch([], [])) == []
    assert pitch_notes.notes(Pitch([0.0], [220.0])) == []


def read_midi(content):
    """Notes (onset s, offset s, number) of a file with one track and one tempo: an own reading of the standard."""
    assert content[:4] == b"MThd"
    length, form, tracks, division = struct.unpack(">IHHH", content[4:14])
    assert (length, form, tracks) == (6, 0, 1)
    assert content[14:18] == b"MTrk"
    body = content[22:]
    assert len(body) == struct.unpack(">I", content[18:22])[0]
    place, now, tempo, open_ones, found = 0, 0, None, {}, []
    while True:
        delta = 0
        while True:
            byte = body[place]
            place += 1
            delta = delta << 7 | byte & 0x7F
            if not byte & 0x80:
                break
        now += delta
        status = body[place]
        if status == 0xFF:
            kind, size = body[place + 1], body[place + 2]
            if kind == 0x2F:
                assert place + 3 == len(body)
                return found
            assert kind == 0x51
            tempo = int.from_bytes(body[place + 3 : place + 3 + size], "big")
            place += 3 + size
            continue
        number, second = body[place + 1], now / division * tempo / 1e6
        if status == 0x90:
            assert number not in open_ones
            assert body[place + 2] > 0
            open_ones[number] = second
        else:
            assert status == 0x80
            found.append((open_ones.pop(number), second, number))
        place += 3


def test_midi_says_the_notes(tmp_path):
    notes = [Note(0.5, 1.0, 60), Note(1.0, 1.25, 60), Note(1.25, 200.0, 72)]
    pitch_notes.write_midi(tmp_path / "a.mid", notes)
    found = read_midi((tmp_path / "a.mid").read_bytes())
    assert [number for *_, number in found] == [60, 60, 72]
    np.testing.assert_allclose([times[:2] for times in found], [(n.onset, n.offset) for n in notes], atol=0.001)
    pitch_notes.write_midi(tmp_path / "empty.mid", [])
    assert read_midi((tmp_path / "empty.mid").read_bytes()) == []


# ------------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("sizes", [[7] * 3000, [20000], [1, 8191, 1, 4096]])
def test_pictures_of_long_songs_stay_small(sizes):
    picture, frames = pitch_plot.MelPicture(), np.arange(sum(sizes), dtype=np.float64)
    start = 0
    for size in sizes:
        picture.add(np.stack([frames[start : start + size]] * 2))
        start += size
        assert picture.image().shape[1] < 2 * 4096
    image, each = picture.image(), picture.each
    assert picture.frames == len(frames)
    assert 0 <= len(frames) - image.shape[1] * each < each
    expected = frames[: image.shape[1] * each].reshape(-1, each).mean(axis=1)
    np.testing.assert_allclose(image, [expected] * 2)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_pictures_are_written(tmp_path, suffix):
    config = dict(models.describe("rmvpe").config)
    picture = pitch_plot.MelPicture()
    picture.add(np.random.default_rng(0).standard_normal((128, 300)))
    pitch_plot.draw(tmp_path / f"a{suffix}", track(np.full(300, 440.0)), picture, config)
    assert (tmp_path / f"a{suffix}").stat().st_size > 5000
    pitch_plot.draw(tmp_path / f"b{suffix}", track([]), pitch_plot.MelPicture(), config)
    with pytest.raises(UserError, match="a picture is written as"):
        pitch_plot.check_name("a.txt")


def test_frequencies_lie_on_the_bands_that_hear_them():
    from dsp.mel import mel_filters

    filters = mel_filters(16000, 1024, 128, 30, 8000)
    config = dict(models.describe("rmvpe").config)
    for frequency in (2000.0, 4000.0):
        band = pitch_plot._band(frequency, config)
        assert abs(filters[:, round(frequency / 15.625)].argmax() - band) <= 0.5


# ---------------------------------------------------------------------------------------------------------------- names


def test_names(tmp_path):
    songs = [tmp_path / "a.wav", tmp_path / "b.mp3"]
    jobs = pitch_songs.jobs(songs, tmp_path / "out", False, "npy", plot=True, midi=True)
    assert [job.track.name for job in jobs] == ["a.npy", "b.npy"]
    assert jobs[0].plot == tmp_path / "out" / "a.png"
    assert jobs[1].midi == tmp_path / "out" / "b.mid"
    (job,) = pitch_songs.jobs(songs[:1], tmp_path / "x.json", True, plot=str(tmp_path / "y.pdf"))
    assert job.files == {"track": tmp_path / "x.json", "plot": tmp_path / "y.pdf"}


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"output": "x.txt"}, "written as"),
        ({"output": "x.csv", "format": "json"}, "contradicts"),
        ({"output": "x.csv", "plot": "x.csv"}, "a picture is written as"),
        ({"output": "x.csv", "midi": "x.csv"}, "same name"),
        ({"songs": ("a.wav", "b/a.wav"), "alone": False, "output": "out"}, "both be written"),
        ({"songs": ("a.wav", "b.wav"), "alone": False, "output": "out", "plot": "one.png"}, "leave the name out"),
    ],
)
def test_names_that_cannot_be(tmp_path, wishes, said):
    songs = [tmp_path / name for name in wishes.pop("songs", ("a.wav",))]
    wishes = {"alone": True, **wishes, "output": tmp_path / wishes["output"]}
    wishes = {key: str(tmp_path / value) if key in ("plot", "midi") else value for key, value in wishes.items()}
    with pytest.raises(UserError, match=said):
        pitch_songs.jobs(songs, **wishes)
