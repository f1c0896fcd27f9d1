import numpy as np
import pytest
import soundfile

from dsp import audio
from dsp.audio import FORMATS, AudioWriter, parse_bitrate
from dsp.audio_encode import mp3_bitrates
from runtime.errors import UserError

LOSSLESS = {"wav16": 2.0**-15, "wav24": 2.0**-23, "float32": 0.0, "flac": 2.0**-15, "flac24": 2.0**-23}


def tones(channels, samples, rate=44100):
    """A sine of its own for each channel; the fourth is deep, as what goes to a subwoofer."""
    frequencies = [60 if channel == 3 else 300 + 200 * channel for channel in range(channels)]
    return np.stack([0.3 * np.sin(2 * np.pi * f * np.arange(samples) / rate) for f in frequencies]).astype(np.float32)


def write(path, x, format, rate=44100, block=700, **options):
    with AudioWriter(path, rate, x.shape[0], format, **options) as writer:
        for start in range(0, x.shape[1], block):
            writer.write(x[:, start : start + block])
    return writer


@pytest.mark.parametrize("format", LOSSLESS)
@pytest.mark.parametrize("samples", [0, 1, 1023, 5003])
@pytest.mark.parametrize(("channels", "rate"), [(1, 8000), (2, 44100), (6, 192000), (8, 11025)])
def test_lossless_formats_are_rounded_to_nearest(tmp_path, format, samples, channels, rate):
    path, x = tmp_path / "a", np.random.RandomState(0).uniform(-0.99, 0.99, (channels, samples)).astype(np.float32)
    writer = write(path, x, format, rate)
    back, got = audio.read(path)
    assert (got, back.shape) == (rate, x.shape)
    assert np.abs(back - x).max(initial=0) <= 0.5 * LOSSLESS[format]
    assert (writer.frames, writer.clipped) == (samples, 0)


@pytest.mark.parametrize("format", ["wav16", "flac", "wav24", "flac24"])
def test_integer_formats_give_back_what_was_read(tmp_path, format):
    bits = FORMATS[format].bits
    full = 1 << (bits - 1)
    x = (np.random.RandomState(1).randint(-full, full, (2, 3000)) / full).astype(np.float32)
    x[:, :2] = [[-1, 1 - 1 / full]] * 2
    assert write(tmp_path / "a", x, format).clipped == 0
    assert np.array_equal(audio.read(tmp_path / "a")[0], x)


@pytest.mark.parametrize("format", ["wav16", "wav24", "flac"])
def test_only_what_exceeds_the_range_is_saturated_and_counted(tmp_path, format):
    x = np.array([[0.5, 1.0, 1.5, -1.0, -1.001, -7.0]], np.float32)
    writer = write(tmp_path / "a", x, format)
    step = LOSSLESS[format]
    assert writer.clipped == 4
    assert np.allclose(audio.read(tmp_path / "a")[0], [[0.5, 1 - step, 1 - step, -1, -1, -1]], atol=1e-9)


def test_floats_are_written_as_they_are(tmp_path):
    x = np.array([[0.1, -3.5, 1e-9]], np.float32)
    assert write(tmp_path / "a", x, "float32").clipped == 0
    assert np.array_equal(audio.read(tmp_path / "a")[0], x)


@pytest.mark.parametrize("format", ["mp3", "ogg", "m4a"])
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_formats_keep_length_place_and_level(tmp_path, format, rate, channels):
    x = tones(channels, 20011, rate)
    path = tmp_path / f"a{audio.suffix(format)}"
    write(path, x, format, rate)
    back, got = audio.read(path)
    assert (got, back.shape) == (rate, x.shape)
    assert np.abs(back - x)[:, 2000:-2000].max() < 0.1
    gain = (back * x)[:, 2000:-2000].sum() / (x * x)[:, 2000:-2000].sum()
    assert abs(gain - 1) < 0.02
    assert audio.probe(path, count=True).frames == 20011


@pytest.mark.parametrize("format", ["mp3", "ogg", "m4a"])
@pytest.mark.parametrize("samples", [1, 15, 575, 1153])
def test_lossy_formats_keep_short_lengths(tmp_path, format, samples):
    path = tmp_path / f"a{audio.suffix(format)}"
    write(path, tones(2, samples), format)
    assert audio.read(path)[0].shape == (2, samples)


@pytest.mark.parametrize(("format", "channels"), [("ogg", 3), ("ogg", 5), ("ogg", 6), ("m4a", 6), ("flac", 6)])
def test_channels_keep_their_order(tmp_path, format, channels):
    path, x = tmp_path / f"a{audio.suffix(format)}", tones(channels, 30000)
    write(path, x, format)
    back = audio.read(path)[0]
    likeness = np.corrcoef(np.concatenate([x, back])[:, 5000:-5000])[:channels, channels:]
    assert np.argmax(likeness, axis=1).tolist() == list(range(channels))


def test_other_programs_find_the_channels_of_ogg_in_their_order(tmp_path):
    import av

    write(tmp_path / "a.ogg", tones(6, 30000), "ogg")
    with av.open(str(tmp_path / "a.ogg")) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    back = np.concatenate(frames, axis=1)[:, 5000:25000]
    likeness = np.corrcoef(np.concatenate([tones(6, 30000)[:, 5000:25000], back]))[:6, 6:]
    assert np.argmax(likeness, axis=1).tolist() == list(range(6))


def mp3_bitrate(path):
    """Of the second frame, kbit/s, from its header; the first one is the tag."""
    raw = path.read_bytes()
    tables = {3: [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320]}
    lower = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]
    place = 0
    for _ in range(2):
        version = raw[place + 1] >> 3 & 3
        rate = [44100, 48000, 32000][raw[place + 2] >> 2 & 3] // {3: 1, 2: 2, 0: 4}[version]
        bitrate = tables.get(version, lower)[raw[place + 2] >> 4]
        place += (144 if version == 3 else 72) * bitrate * 1000 // rate + (raw[place + 2] >> 1 & 1)
    return bitrate


@pytest.mark.parametrize(("rate", "wanted", "kbits"), [(44100, "320k", 320), (44100, "128k", 128), (44100, 64000, 64)])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_has_the_bitrate_that_was_asked_for(tmp_path, rate, wanted, kbits, channels):
    write(tmp_path / "a.mp3", tones(channels, 20000, rate), "mp3", rate, bitrate=wanted)
    assert mp3_bitrate(tmp_path / "a.mp3") == kbits


@pytest.mark.parametrize(("rate", "kbits"), [(48000, 320), (22050, 160), (8000, 64)])
def test_mp3_takes_the_highest_bitrate_unasked(tmp_path, rate, kbits):
    write(tmp_path / "a.mp3", tones(2, 20000, rate), "mp3", rate)
    assert mp3_bitrate(tmp_path / "a.mp3") == kbits


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 24000, 32000, 44100, 48000])
def test_every_mp3_bitrate_keeps_length_and_level(tmp_path, rate):
    x = tones(1, rate // 2, rate)
    for bitrate in mp3_bitrates(rate):
        write(tmp_path / "a.mp3", x, "mp3", rate, bitrate=bitrate)
        back = audio.read(tmp_path / "a.mp3")[0]
        assert back.shape == x.shape, bitrate
        assert abs((back * x)[:, 1000:-1000].sum() / (x * x)[:, 1000:-1000].sum() - 1) < 0.01, bitrate


@pytest.mark.parametrize("wanted", [96000, 192000, 320000])
def test_ogg_has_the_nominal_bitrate_that_was_asked_for(tmp_path, wanted):
    write(tmp_path / "a.ogg", tones(2, 3000), "ogg", bitrate=wanted)
    raw = (tmp_path / "a.ogg").read_bytes()
    nominal = raw.index(b"\x01vorbis") + 20
    assert abs(int.from_bytes(raw[nominal : nominal + 4], "little") - wanted) < 0.05 * wanted


@pytest.mark.parametrize(("text", "value"), [("320k", 320000), ("96000", 96000), (128000, 128000), (" 64K", 64000)])
def test_bitrates_are_read(text, value):
    assert parse_bitrate(text) == value


@pytest.mark.parametrize("text", ["", "k", "fast", "-1k", "0", "1.5k"])
def test_what_is_no_bitrate_is_refused(text):
    with pytest.raises(UserError, match="320k"):
        parse_bitrate(text)


@pytest.mark.parametrize(
    ("format", "rate", "channels", "options", "words"),
    [
        ("mp3", 96000, 2, {}, "96000 Hz; use flac"),
        ("mp3", 44100, 6, {}, "2 channels at most, not 6; use flac"),
        ("m4a", 192000, 2, {}, "use flac"),
        ("ogg", 44100, 8, {}, "use flac"),
        ("flac", 44100, 9, {}, "use wav16"),
        ("flac", 700000, 2, {}, "use wav16"),
        ("mp3", 44100, 2, {"bitrate": "300k"}, "320k"),
        ("mp3", 44100, 2, {"bitrate": "32k"}, "64k"),
        ("aiff", 44100, 2, {}, "choose one of wav16"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_with_a_way_out(tmp_path, format, rate, channels, options, words):
    with pytest.raises(UserError, match=words):
        AudioWriter(tmp_path / "a", rate, channels, format, **options)


@pytest.mark.parametrize("format", ["mp3", "m4a"])
def test_formats_without_empty_files_say_so(tmp_path, format):
    with pytest.raises(UserError, match="0 samples; use wav16 or flac"):
        write(tmp_path / "a", np.zeros((2, 0), np.float32), format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_an_exception_leaves_no_file_and_the_old_one_as_it_was(tmp_path, format):
    path = tmp_path / f"a{audio.suffix(format)}"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), AudioWriter(path, 44100, 2, format) as writer:
        writer.write(tones(2, 5000))
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_appears_before_the_end(tmp_path):
    path = tmp_path / "sub" / "a.wav"
    with AudioWriter(path, 44100, 2) as writer:
        writer.write(tones(2, 5000))
        assert not path.exists()
        assert all(other.name.startswith(".") for other in path.parent.iterdir())
    assert soundfile.info(path).frames == 5000


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_sound_are_refused(tmp_path, value):
    with pytest.raises(UserError, match="NaN"):
        write(tmp_path / "a.wav", np.array([[0.0, value]], np.float32), "float32")
    assert list(tmp_path.iterdir()) == []


def test_blocks_of_the_wrong_shape_are_refused(tmp_path):
    with pytest.raises(ValueError, match="shape"), AudioWriter(tmp_path / "a.wav", 44100, 2) as writer:
        writer.write(tones(1, 10))


def test_the_same_input_gives_the_same_bytes(tmp_path):
    for format in FORMATS:
        x = tones(2, 3000)
        write(tmp_path / "a", x, format)
        write(tmp_path / "b", x, format, block=411 if FORMATS[format].bits else 700)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes(), format
