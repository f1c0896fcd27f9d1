import av
import numpy as np
import pytest
import soundfile

from dsp import audio
from runtime.errors import UserError

RATE, CLICK = 44100, 5000


def clicked(samples=30011, channels=2):
    """A quiet chord with a click, so that any shift shows."""
    x = [0.2 * np.sin(2 * np.pi * (440 + 110 * channel) * np.arange(samples) / RATE) for channel in range(channels)]
    x = np.stack(x).astype(np.float32)
    x[:, CLICK] += 0.7
    return x


def encode(path, x, codec, container=None, rate=RATE, streams=1):
    """Encodes with PyAV the plain way: frames with time stamps, one or more equal streams."""
    with av.open(str(path), "w", format=container) as output:
        added = [output.add_stream(codec, rate=rate) for _ in range(streams)]
        for stream in added:
            stream.layout = {1: "mono", 2: "stereo"}[x.shape[0]]
            stream.bit_rate = 192000
        for stream in added:
            for start in range(0, x.shape[1], 4096):
                planes = np.ascontiguousarray(x[:, start : start + 4096])
                frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=stream.layout.name)
                frame.sample_rate, frame.pts = rate, start
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return path


def click_of(x):
    return int(np.argmax(np.abs(np.diff(x[0].astype(np.float64), n=2)))) + 1


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.m4a", "aac"), ("a.mp4", "aac"), ("a.m4a", "alac"), ("a.mp3", "libmp3lame"), ("a.flac", "flac")],
)
@pytest.mark.parametrize("samples", [CLICK + 1, 20480, 30011])
def test_length_and_place_survive_delay_and_padding_of_the_encoder(tmp_path, name, codec, samples):
    x = clicked(samples)
    path = encode(tmp_path / name, x, codec)
    back, rate = audio.read(path)
    assert (rate, back.shape) == (RATE, x.shape)
    assert samples < 20000 or click_of(back) == CLICK
    assert audio.probe(path, count=True) == audio.AudioInfo(
        samples, RATE, 2, audio.probe(path).format, audio.probe(path).subtype, exact=True
    )


@pytest.mark.parametrize(("name", "codec", "rate"), [("a.webm", "libopus", 48000), ("a.mka", "aac", RATE)])
def test_delay_in_matroska(tmp_path, name, codec, rate):
    back, got = audio.read(encode(tmp_path / name, clicked(), codec, rate=rate))
    assert got == rate
    assert click_of(back) == CLICK
    assert 0 <= back.shape[1] - 30011 < 1024  # AAC in Matroska does not say where its padding begins


def test_wma_is_read(tmp_path):
    back, rate = audio.read(encode(tmp_path / "a.wma", clicked(), "wmav2"))
    assert (rate, back.shape[0]) == (RATE, 2)
    assert abs(back.shape[1] - 30011) < 4096


def test_streams_of_a_stem_file_keep_their_last_packet_whole(tmp_path):
    path = encode(tmp_path / "a.stem.mp4", clicked(), "aac", "mp4", streams=3)
    assert audio.streams(path) == 3
    for stream in range(3):
        back, _ = audio.read(path, stream=stream)
        assert back.shape == (2, -(-30011 // 1024) * 1024)
        assert click_of(back) == CLICK
    with pytest.raises(UserError, match=r"stream 3 .* 3 audio stream"):
        audio.read(path, stream=3)


@pytest.mark.parametrize(
    ("name", "subtype", "step"),
    [
        ("a.wav", "PCM_U8", 2.0**-7),
        ("a.wav", "PCM_16", 2.0**-15),
        ("a.wav", "PCM_24", 2.0**-23),
        ("a.wav", "PCM_32", 2.0**-24),
        ("a.wav", "FLOAT", 0),
        ("a.wav", "DOUBLE", 0),
        ("a.aiff", "PCM_24", 2.0**-23),
        ("a.flac", "PCM_24", 2.0**-23),
        ("a.w64", "PCM_16", 2.0**-15),
        ("a.caf", "PCM_16", 2.0**-15),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_number_format_reads_at_full_scale_one(tmp_path, name, subtype, step, channels):
    x = np.random.RandomState(0).uniform(-0.9, 0.9, (channels, 500)).astype(np.float32)
    container = "WAVEX" if channels > 2 and name == "a.wav" else None
    soundfile.write(tmp_path / name, x.T, 22050, subtype=subtype, format=container)
    back, rate = audio.read(tmp_path / name)
    assert back.dtype == np.float32
    assert (rate, back.shape) == (22050, x.shape)
    assert np.abs(back - x).max() <= step
    info = audio.probe(tmp_path / name)
    assert (info.frames, info.sample_rate, info.channels, info.subtype) == (500, 22050, channels, subtype)
    assert info.exact
    assert info.duration == pytest.approx(500 / 22050)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """One file of every kind that must be cut exactly; noise that no codec can smooth over."""
    folder = tmp_path_factory.mktemp("recordings")
    x = 0.1 * np.random.RandomState(0).standard_normal((2, 60007)).astype(np.float32)
    paths = [encode(folder / "a.m4a", x, "aac"), encode(folder / "b.webm", x, "libopus", rate=48000)]
    for format in ("wav16", "float32", "flac", "mp3", "ogg"):
        paths.append(folder / f"{format}{audio.suffix(format)}")
        with audio.AudioWriter(paths[-1], RATE, 2, format) as writer:
            writer.write(x)
    paths.append(folder / "mono.mp3")
    with audio.AudioWriter(paths[-1], RATE, 1, "mp3") as writer:
        writer.write(x[:1])
    soundfile.write(folder / "a.opus", x.T, 48000, format="OGG", subtype="OPUS")
    soundfile.write(folder / "adpcm.wav", x.T, RATE, subtype="IMA_ADPCM")
    return [*paths, folder / "a.opus", folder / "adpcm.wav"]


def test_excerpts_are_slices_bit_for_bit(recordings):
    for path in recordings:
        whole, _ = audio.read(path)
        for start, frames in [(0, 1), (1, 1000), (30001, 4097), (59990, 100), (123, -1), (10**6, 5), (0, 0)]:
            part, _ = audio.read(path, start, frames)
            end = whole.shape[1] if frames < 0 else start + frames
            assert np.array_equal(part, whole[:, start:end]), (path.name, start, frames)


def test_blocks_are_slices_bit_for_bit(recordings):
    for path in recordings:
        whole, _ = audio.read(path)
        blocks = list(audio.blocks(path, 7001, start=17, frames=50000))
        assert [block.shape[1] for block in blocks] == [7001] * 7 + [993], path.name
        assert np.array_equal(np.concatenate(blocks, axis=1), whole[:, 17:50017]), path.name
        assert all(block.flags.c_contiguous and block.dtype == np.float32 for block in blocks)


def test_mp3_without_a_header_for_its_length_is_read_to_the_end(tmp_path):
    # loud after quiet at a variable bit rate: any guess from the first packets is far off
    x = 1e-4 * np.random.RandomState(0).standard_normal((5 * RATE, 2))
    x[len(x) // 2 :] *= 3000
    for name, signal in (("rising.mp3", x), ("falling.mp3", x[::-1])):
        soundfile.write(tmp_path / name, signal, RATE, bitrate_mode="VARIABLE", compression_level=0.3)
        raw = (tmp_path / name).read_bytes()
        second = raw.index(raw[:2], 200)  # the first packet holds nothing but the header
        (tmp_path / name).write_bytes(raw[second:])
        back, _ = audio.read(tmp_path / name)
        assert abs(back.shape[1] - len(x)) < 3 * 1152


def test_flac_of_unknown_length_is_read(tmp_path):
    x = 0.1 * np.random.RandomState(0).standard_normal((3000, 2))
    soundfile.write(tmp_path / "a.flac", x, RATE)
    raw = bytearray((tmp_path / "a.flac").read_bytes())
    raw[21] &= 0xF0
    raw[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(raw)
    assert audio.read(tmp_path / "a.flac")[0].shape == (2, 3000)
    assert not audio.probe(tmp_path / "a.flac").exact
    assert audio.probe(tmp_path / "a.flac", count=True).frames == 3000


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_wav_that_was_written_to_a_pipe_is_read(tmp_path, size):
    soundfile.write(tmp_path / "a.wav", np.zeros((3000, 2)), RATE, subtype="PCM_16")
    raw = bytearray((tmp_path / "a.wav").read_bytes())
    place = raw.index(b"data") + 4
    raw[place : place + 4] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(raw)
    assert audio.read(tmp_path / "a.wav")[0].shape == (2, 3000)


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.w64", "a.au", "a.flac", "a.ogg", "a.mp3", "a.m4a"])
def test_truncated_files_are_refused_by_name(tmp_path, name):
    x = 0.1 * np.random.RandomState(0).standard_normal((2, RATE)).astype(np.float32)
    if name == "a.m4a":
        encode(tmp_path / name, x, "aac")
    else:
        soundfile.write(tmp_path / name, x.T, RATE)
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[: len(raw) * 2 // 3])
    with pytest.raises(UserError, match=f"{name}.*(truncated|damaged)"):
        audio.read(tmp_path / name)


def test_what_follows_the_last_page_of_an_ogg_file_is_ignored(tmp_path):
    soundfile.write(tmp_path / "a.ogg", 0.1 * np.ones((RATE, 2)), RATE)
    for junk in (b"x", bytes(100_000)):
        with open(tmp_path / "a.ogg", "ab") as handle:
            handle.write(junk)
        assert audio.read(tmp_path / "a.ogg")[0].shape == (2, RATE)


def test_nothing_but_our_sentence_is_said_of_what_is_no_mp3(tmp_path, capfd):
    (tmp_path / "words.mp3").write_text("only words " * 50)
    with pytest.raises(UserError, match="not audio"):
        audio.probe(tmp_path / "words.mp3")
    assert capfd.readouterr().err == ""


def test_a_wav_file_that_was_never_completed_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones((9000, 2)), RATE, subtype="PCM_16")
    raw = bytearray((tmp_path / "a.wav").read_bytes())
    place = raw.index(b"data") + 4
    raw[place : place + 4] = bytes(4)
    (tmp_path / "a.wav").write_bytes(raw)
    with pytest.raises(UserError, match="never completed"):
        audio.read(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("a.txt", b"some words " * 50),
        ("a.wav", b"some words " * 50),
        ("a.raw", bytes(5000)),
        ("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"),
        ("a.mp3", b"\xff" * 3000),
        ("empty.wav", b""),
    ],
)
def test_what_is_not_audio_is_refused_by_name(tmp_path, name, contents):
    (tmp_path / name).write_bytes(contents)
    for reader in (audio.probe, audio.read, audio.streams, lambda path: audio.blocks(path, 100)):
        with pytest.raises(UserError, match=name):
            reader(tmp_path / name)


def test_what_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"none\.wav: no such file"):
        audio.read(tmp_path / "none.wav")
    with pytest.raises(UserError, match="not a file"):
        audio.read(tmp_path)
    with pytest.raises(UserError, match="empty"):
        audio.read("")
    with pytest.raises(ValueError, match="start"):
        audio.read(tmp_path / "none.wav", start=-1)
    with pytest.raises(ValueError, match="block"):
        audio.blocks(tmp_path / "none.wav", 0)


def test_reading_at_another_rate_and_number_of_channels(tmp_path):
    with audio.AudioWriter(tmp_path / "a.wav", RATE, 1, "float32") as writer:
        writer.write(clicked(channels=1))
    x, rate = audio.read(tmp_path / "a.wav", sample_rate=22050, channels=2)
    assert (rate, x.shape) == (22050, (2, 15006))
    assert np.array_equal(x[0], x[1])
    x, _ = audio.read(tmp_path / "a.wav", start=100, frames=1000, sample_rate=48000)
    assert x.shape == (1, round(1000 * 48000 / 44100))


def test_channels_are_repeated_averaged_or_cut():
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert np.array_equal(audio.convert_channels(x, 2), x[:2])
    assert np.array_equal(audio.convert_channels(x, 1), [[2, 3]])
    assert np.array_equal(audio.convert_channels(x[:1], 2), [[0, 1], [0, 1]])
    assert audio.convert_channels(x, 3) is x
    with pytest.raises(ValueError, match="3 channels cannot become 6"):
        audio.convert_channels(x, 6)


def test_channels_that_cannot_be_made_name_the_file(tmp_path):
    with audio.AudioWriter(tmp_path / "a.wav", RATE, 2) as writer:
        writer.write(clicked())
    with pytest.raises(UserError, match=r"a\.wav: 2 channels cannot become 6"):
        audio.read(tmp_path / "a.wav", channels=6)


def test_files_with_strange_names_are_read(tmp_path):
    for name in ("ä ö 音.wav", "concat:x.mp3", "a%d.wav", "http:.flac", "b\udcff.wav"):
        format = {".mp3": "mp3", ".flac": "flac"}.get(name[name.rindex(".") :], "wav16")
        with audio.AudioWriter(tmp_path / name, RATE, 2, format) as writer:
            writer.write(clicked(6000))
        assert audio.read(tmp_path / name)[0].shape == (2, 6000)


def test_musdb_stem_files(shared_audio):
    path = min((shared_audio / "stems" / "musdb18-7-cc" / "test").glob("*Falcon 69.stem.mp4"))
    assert audio.streams(path) == 5
    mixture, *stems = [audio.read(path, stream=stream)[0] for stream in range(5)]
    assert {stem.shape for stem in stems} == {mixture.shape} == {(2, 300032)}  # as the musdb package counts
    remainder = mixture - sum(stems)
    assert 10 * np.log10((mixture**2).sum() / (remainder**2).sum()) == pytest.approx(27.0, abs=0.1)
