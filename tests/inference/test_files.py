"""Files in, stems out: names, formats, levels, and what an interruption leaves."""

import re
import resource
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dsp import audio
from inference import Cancelled, Separator, naming
from inference.files import separate_file
from runtime.errors import UserError


@pytest.fixture
def song(tmp_path, noise):
    """A 16-bit stereo song of 1.5 s at 8 kHz."""
    path = tmp_path / "in" / "song.wav"
    path.parent.mkdir()
    soundfile.write(path, noise(2, 12001).T, 8000, subtype="PCM_16")
    return path


def read(path, dtype="float64"):
    return soundfile.read(path, dtype=dtype, always_2d=True)[0].T


def selection(separator, **options):
    return naming.select(separator.sources, **options)


@pytest.mark.parametrize("format", naming.FORMATS)
def test_every_format_keeps_length_rate_and_channels(small_model, song, tmp_path, format):
    report = separate_file(Separator.from_model(small_model), song, tmp_path / "out", format)
    assert list(report.outputs) == ["vocals", "accompaniment"]
    for name, path in report.outputs.items():
        assert path == str(tmp_path / "out" / "song" / f"{name}{audio.suffix(format)}")
        x, rate = audio.read(path)
        assert (x.shape, rate) == ((2, 12001), 8000)
    assert (report.samples, report.sample_rate, report.channels) == (12001, 8000, 2)
    assert report.gain_db == 0


def test_formats_are_those_of_the_writer():
    assert tuple(audio.FORMATS) == naming.FORMATS


@pytest.mark.parametrize(("format", "bits"), [("wav16", 16), ("flac", 16), ("wav24", 24), ("flac24", 24)])
@pytest.mark.parametrize("choice", [{}, {"two_stems": "accompaniment"}, {"stems": ["vocals"]}])
def test_integer_files_sum_to_the_mixture_exactly(small_model, song, tmp_path, format, bits, choice):
    separator = Separator.from_model(small_model)
    chosen = selection(separator, residual=True, **choice)
    report = separate_file(separator, song, tmp_path / "out", format, selection=chosen)
    assert list(report.outputs)[-1] == "residual"
    total = sum(read(path) for path in report.outputs.values())
    np.testing.assert_array_equal(total, read(song))


def test_float_files_sum_to_the_mixture(small_model, song, tmp_path):
    separator = Separator.from_model(small_model)
    report = separate_file(separator, song, tmp_path, "float32", selection=selection(separator, residual=True))
    np.testing.assert_allclose(sum(read(path) for path in report.outputs.values()), read(song), atol=1e-6)
    expected = separator.separate(read(song, "float32"), 8000)
    for name, stem in expected.items():
        np.testing.assert_array_equal(read(report.outputs[name], "float32"), stem)


def test_clipping_is_avoided_by_one_gain_for_all(keep_all, tmp_path):
    """The first stem is the low-passed mixture, whose overshoots leave full scale."""
    square = np.sign(np.sin(2 * np.pi * 50 * np.arange(16000) / 8000))[None].astype(np.float32) * 0.95
    soundfile.write(tmp_path / "square.wav", square.T, 8000, subtype="FLOAT")
    separator = Separator.from_model(keep_all)
    exact = separator.separate(square, 8000, residual=True)
    assert np.abs(exact["vocals"]).max() > 1
    for format in ("wav16", "wav24"):
        report = separate_file(
            separator, tmp_path / "square.wav", tmp_path, format, selection=selection(separator, residual=True)
        )
        gain = 10 ** (report.gain_db / 20)
        assert 0.5 < gain < 1
        assert gain == pytest.approx(1 / report.peaks["vocals"], rel=1e-3)
        assert not any(report.clipped.values())
        for name, path in report.outputs.items():
            np.testing.assert_allclose(read(path), exact[name] * gain, atol=5e-5)
        np.testing.assert_allclose(sum(map(read, report.outputs.values())), square * gain, atol=2e-5)
    assert separate_file(separator, tmp_path / "square.wav", tmp_path, "float32").gain_db == 0


def test_full_scale_is_not_clipping(keep_all, tmp_path):
    """-1 and 1 - 2^-15 are sound 16-bit values: nothing may change because of them."""
    x = np.zeros((1, 8000), np.float32)
    soundfile.write(tmp_path / "x.wav", x.T, 8000, subtype="PCM_16")
    report = separate_file(Separator.from_model(keep_all), tmp_path / "x.wav", tmp_path)
    assert (report.gain_db, report.peaks) == (0, {"vocals": 0, "accompaniment": 0})


def test_offset_and_duration(small_model, song, tmp_path):
    separator = Separator.from_model(small_model)
    report = separate_file(separator, song, tmp_path, "float32", offset=0.25, duration=0.5)
    part = separator.separate(read(song, "float32")[:, 2000:6000], 8000)
    np.testing.assert_array_equal(read(report.outputs["vocals"], "float32"), part["vocals"])
    assert separate_file(separator, song, tmp_path, offset=1.0, duration=9).samples == 4001
    for wrong in ({"offset": 2.0}, *({key: value} for key in ("offset", "duration") for value in (-1, nan, inf))):
        with pytest.raises(UserError, match="--offset"):
            separate_file(separator, song, tmp_path, **wrong)


def test_an_excerpt_behind_a_length_that_only_decoding_tells(small_model, noise, tmp_path):
    with audio.AudioWriter(tmp_path / "song.mp3", 8000, 2, "mp3") as writer:
        writer.write(noise(2, 8000))
    with pytest.raises(UserError, match="nothing is left after --offset 2"):
        separate_file(Separator.from_model(small_model), tmp_path / "song.mp3", tmp_path / "out", offset=2)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_empty_song(small_model, tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 2)), 8000)
    separator = Separator.from_model(small_model)
    for format in ("wav16", "float32"):
        report = separate_file(separator, tmp_path / "empty.wav", tmp_path / "out", format)
        assert report.real_time_factor is None
        assert all(read(path).shape == (2, 0) for path in report.outputs.values())


@pytest.mark.parametrize("options", [{"format": "wav16"}, {"format": "float32"}])
@pytest.mark.parametrize("mwf", [False, True])
def test_interruption_leaves_nothing(small_model, song, tmp_path, options, mwf):
    count = iter(range(100))
    separator = Separator.from_model(small_model, mwf=mwf)
    with pytest.raises(Cancelled):
        separate_file(separator, song, tmp_path / "out", cancel=lambda: next(count) == 2, **options)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_damaged_input_leaves_nothing(small_model, song, tmp_path):
    song.write_bytes(song.read_bytes()[:20000])
    with pytest.raises(UserError, match="truncated"):
        separate_file(Separator.from_model(small_model), song, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_format_cannot_hold_is_said_before_the_work(small_model, noise, tmp_path):
    soundfile.write(tmp_path / "six.wav", noise(6, 8000).T, 8000)
    separator = Separator.from_model(small_model)
    separator.run = None  # would fail if it were used
    with pytest.raises(UserError, match="channels"):
        separate_file(separator, tmp_path / "six.wav", tmp_path, "mp3")


@pytest.mark.parametrize(("name", "sentence"), [("song/", "cannot write to"), ("song/vocals.wav/x/", "is a folder")])
def test_what_is_in_the_way_is_said_before_the_work(small_model, song, tmp_path, name, sentence):
    way = tmp_path / "out" / name
    way.parent.mkdir(parents=True)
    way.mkdir() if "vocals" in name else way.touch()
    separator = Separator.from_model(small_model)
    separator.run = None  # would fail if it were used
    with pytest.raises(UserError, match=sentence):
        separate_file(separator, song, tmp_path / "out")


def test_a_full_disk_is_a_sentence_and_leaves_nothing(small_model, song, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    separator = Separator.from_model(small_model)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"song.wav could not be written to .* free some space"):
            separate_file(separator, song, tmp_path / "out", "float32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


# ------------------------------------------------------------------------------------------------ names and choices

SOURCES = ("vocals", "drums", "bass", "other")


def test_selection():
    assert naming.select(SOURCES).outputs == {name: (i,) for i, name in enumerate(SOURCES)}
    assert naming.select(SOURCES, ["bass", "vocal"]).outputs == {"bass": (2,), "vocals": (0,)}
    two = naming.select(SOURCES, two_stems="drums", residual=True)
    assert two.outputs == {"drums": (1,), "no_drums": (0, 2, 3)}
    assert two.names == ("drums", "no_drums", "residual")
    assert naming.select(("vocals", "accompaniment"), ["instrumental"]).outputs == {"accompaniment": (1,)}
    with pytest.raises(UserError, match="drums, bass, other but no 'drumms': did you mean drums"):
        naming.select(SOURCES, ["drumms"])
    with pytest.raises(UserError, match="exclude"):
        naming.select(SOURCES, ["bass"], "bass")


def test_names(tmp_path):
    song = tmp_path / "album" / "song.one.mp3"

    def names(template):
        return naming.targets(song, tmp_path / "out", ("a", "b"), "wav", template)

    assert names("{track}/{stem}.{ext}")["a"] == tmp_path / "out" / "song.one" / "a.wav"
    assert names("{foldername}-{filename}_{instrument}.{codec}")["b"] == tmp_path / "out" / "album-song.one_b.wav"
    assert names("{stem}.{trackext}.{ext}")["a"] == tmp_path / "out" / "a.mp3.wav"
    for template, sentence in [
        ("{track}.{ext}", "several stems"),
        ("{stam}.{ext}", "did you mean stem"),
        ("{stem.__class__}", "unknown field"),
        ("{0}{stem}", "unknown field"),
        ("{stem", "not understood"),
        ("../{stem}.{ext}", "leads out"),
        ("{stem}/../../x/{stem}.{ext}", "leads out"),
        ("/tmp/{stem}.{ext}", "leads out"),
    ]:
        with pytest.raises(UserError, match=sentence):
            names(template)


@pytest.mark.parametrize(
    ("songs", "way_out"),
    [
        (("a/x.mp3", "b/x.mp3"), "{foldername}/{track}/{stem}.{ext}"),
        (("a/x.mp3", "a/x.wav"), "{track}.{trackext}/{stem}.{ext}"),
        (("a/x.mp3", "a/x.wav", "b/x.wav"), "{foldername}/{track}.{trackext}/{stem}.{ext}"),
        (("a/1/x.mp3", "b/1/x.mp3"), "{folder}/{track}.{trackext}/{stem}.{ext}"),
    ],
)
def test_the_way_out_of_a_collision_is_one(tmp_path, monkeypatch, songs, way_out):
    def jobs(template):
        return {path: naming.targets(path, tmp_path, ("a", "b"), "wav", template) for path in map(Path, songs)}

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"use --filename '{way_out}'")):
        naming.refuse_collisions(jobs(naming.DEFAULT_TEMPLATE))
    naming.refuse_collisions(jobs(way_out))


def test_song_folders_of_a_data_set_are_told_how_to_be_separated(tmp_path):
    songs = [Path("my data/test", song, name) for song in ("one", "two") for name in ("mixture.wav", "vocal.wav")]
    with pytest.raises(UserError) as caught:
        naming.refuse_collisions({path: {"bass": tmp_path / path.stem} for path in songs})
    assert "'my data/test'/*/mixture.wav, and use --filename '{foldername}/{stem}.{ext}'" in str(caught.value)


def test_folders_in_names_stay_below_the_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, expected in [("a/b", "a/b"), ("a/../c", "c"), (".", "."), ("/far/away", "far/away")]:
        (name,) = naming.targets(Path(folder, "x.mp3"), Path("out"), ("s",), "wav", "{folder}/{stem}.{ext}").values()
        assert name == Path("out", expected, "s.wav")


def test_names_too_long_for_a_file_are_refused():
    song = Path("歌" * 80 + ".mp3")  # 240 bytes
    assert naming.targets(song, Path("out"), ("vocals",), "wav", naming.DEFAULT_TEMPLATE)
    with pytest.raises(UserError, match="too long for a file name"):
        naming.targets(song, Path("out"), ("accompaniment",), "wav", "{track}_{stem}.{ext}")


def test_inputs_are_never_overwritten(tmp_path):
    song = tmp_path / "vocals.wav"
    song.touch()
    with pytest.raises(UserError, match="overwritten"):
        naming.targets(song, tmp_path, ("vocals", "bass"), "wav", "{stem}.{ext}")
    link = tmp_path / "link.wav"
    link.symlink_to(song)
    with pytest.raises(UserError, match="overwritten"):
        naming.targets(link, tmp_path, ("vocals", "bass"), "wav", "{stem}.{ext}")
    one, other = tmp_path / "a" / "x.mp3", tmp_path / "b" / "x.mp3"
    jobs = {path: naming.targets(path, tmp_path, ("bass",), "wav", "{track}/{stem}.{ext}") for path in (one, other)}
    with pytest.raises(UserError, match="both be written"):
        naming.refuse_collisions(jobs)
    with pytest.raises(UserError, match="overwritten by a stem of"):
        naming.refuse_collisions({song: {"bass": tmp_path / "y"}, one: {"bass": link}})
