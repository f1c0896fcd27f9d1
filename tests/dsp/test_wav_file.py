import struct
import wave

import numpy as np
import pytest
import soundfile

from dsp import wav_file
from dsp.wav_file import WavFile


def write(path, samples, bits, rate=44100):
    file = WavFile(path, rate, samples.shape[1], bits)
    for part in np.array_split(samples, 3):
        file.write(part)
    file.close()


def integers(frames, channels, bits):
    full = 1 << (bits - 1)
    values = np.random.RandomState(bits).randint(-full, full, (frames, channels))
    return values.astype(np.int16) if bits == 16 else (values << 8).astype(np.int32)


@pytest.mark.parametrize("frames", [0, 1, 3, 1000])
@pytest.mark.parametrize("channels", [1, 2, 3, 6, 9])
@pytest.mark.parametrize("bits", [16, 24])
def test_integers_come_back(tmp_path, frames, channels, bits):
    samples = integers(frames, channels, bits)
    write(tmp_path / "a.wav", samples, bits)
    back, rate = soundfile.read(tmp_path / "a.wav", dtype=samples.dtype.name, always_2d=True)
    assert rate == 44100
    assert np.array_equal(back, samples)
    assert soundfile.info(tmp_path / "a.wav").subtype == f"PCM_{bits}"
    assert (tmp_path / "a.wav").stat().st_size % 2 == 0


def test_floats_come_back_beyond_full_scale(tmp_path):
    samples = (3 * np.random.RandomState(0).standard_normal((100, 2))).astype(np.float32)
    write(tmp_path / "a.wav", samples, 32)
    back, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert np.array_equal(back, samples)


def test_plain_readers_understand_stereo(tmp_path):
    samples = integers(50, 2, 16)
    write(tmp_path / "a.wav", samples, 16)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 44100)
        assert file.readframes(50) == samples.tobytes()


def test_sizes_in_the_header_are_those_of_the_file(tmp_path):
    write(tmp_path / "a.wav", integers(51, 1, 24), 24)
    raw = (tmp_path / "a.wav").read_bytes()
    assert struct.unpack("<4sI4s", raw[:12]) == (b"RIFF", len(raw) - 8, b"WAVE")
    assert struct.unpack_from("<4sI", raw, raw.index(b"data")) == (b"data", 153)


@pytest.mark.parametrize("bits", [16, 32])
def test_files_too_large_for_riff_become_rf64(tmp_path, monkeypatch, bits):
    monkeypatch.setattr(wav_file, "RIFF_LIMIT", 1000)
    samples = integers(500, 2, 16) if bits == 16 else np.ones((500, 2), np.float32)
    write(tmp_path / "a.wav", samples, bits)
    raw = (tmp_path / "a.wav").read_bytes()
    assert raw[:8] == b"RF64\xff\xff\xff\xff"
    assert struct.unpack_from("<4sIQQQ", raw, 12) == (b"ds64", 28, len(raw) - 8, samples.nbytes, 500)
    with soundfile.SoundFile(tmp_path / "a.wav") as file:
        assert (file.format, file.frames) == ("RF64", 500)
        assert np.array_equal(file.read(dtype=samples.dtype.name), samples)
