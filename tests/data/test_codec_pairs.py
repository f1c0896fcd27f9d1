"""Pairs of originals and lossy copies: made, found, judged, and cut into segments."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from data.codec_generate import Coding, Settings, coding, generate
from data.codec_ledger import LEDGER
from data.codec_pairs import pairs_of
from data.codec_segments import CodecFiles, CodecSegments
from data.loader import BatchLoader
from data.sampler import EpochPlan
from dsp import audio
from runtime.errors import UserError

RATE = 44100


def noise(samples=30000, channels=2, seed=0):
    return (0.2 * np.random.default_rng(seed).standard_normal((channels, samples))).clip(-1, 1).astype(np.float32)


def write(path, x, rate=RATE, **traits):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, x.T, rate, **traits)
    return path


def contents(folder):
    """Bytes and times of all files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def songs(tmp_path):
    folder = tmp_path / "songs"
    write(folder / "one.wav", noise())
    write(folder / "deep" / "two.flac", noise(seed=1))
    write(folder / "mono.wav", noise(channels=1, seed=2))
    write(folder / "slow.wav", noise(15001, 1, seed=3), 22050)
    return folder


# ------------------------------------------------------------------------------------------------------------ generate


@pytest.mark.parametrize("codec", ["mp3", "aac", "ogg", "opus"])
def test_all_songs_become_pairs_without_lag_and_are_left_alone(tmp_path, songs, codec):
    before = contents(songs)
    settings = Settings(codec=codec, bitrates=(96000,), kind=2)
    report = generate(songs, tmp_path / "out", settings)
    assert contents(songs) == before
    assert [row.name for row in report.rows] == ["deep_two", "mono", "one", "slow"]
    assert not report.lost
    found = pairs_of([tmp_path / "out"], tmp_path / "cache", 2, "wav", settings.suffix[1:])
    assert found.reasons == {}
    assert [pair.samples for pair in found.pairs] == [30000, 30000, 30000, 30002]
    assert all(pair.starts == (0, 0) for pair in found.pairs)
    one = next(file for file in CodecFiles(found.pairs) if file.name == "one")
    assert np.array_equal(one.original, audio.read(songs / "one.wav")[0])
    assert one.codec.shape == (2, 30000) and not np.array_equal(one.codec, one.original)


def test_layouts_are_those_of_the_original(tmp_path, songs):
    generate(songs, tmp_path / "a", Settings(bitrates=(64000,)))
    generate(songs, tmp_path / "b", Settings(bitrates=(64000,), kind=2))
    generate(songs, tmp_path / "c", Settings(bitrates=(64000,), kind=2, split="valid", decoded=True))
    for file in ("a/one/original.wav", "a/one/codec.mp3", "b/original/one.wav", "b/codec/one.mp3", "c/one/codec.wav"):
        assert (tmp_path / file).is_file(), file
    assert (tmp_path / "a/one/codec.mp3").read_bytes() == (tmp_path / "b/codec/one.mp3").read_bytes()


def test_coding_depends_on_seed_and_name_only():
    names = [f"song {k}" for k in range(300)]
    settings = Settings(bitrates=(64000, 128000), seed=3)
    drawn = [coding(settings, name) for name in names]
    assert drawn == [coding(settings, name) for name in names]
    assert drawn != [coding(Settings(bitrates=(64000, 128000), seed=4), name) for name in names]
    assert 100 < sum(one.bitrate == 64000 for one in drawn) < 200
    assert {one.quality for one in drawn} == {None} == {one.lowpass for one in drawn}
    more = Settings((), (64000, 128000), (2, 5), 0.5, (12000, 13000), 0.25, seed=3)
    more = [coding(Settings(**{**vars(more), "codec": "mp3"}), name) for name in names]
    assert [one.bitrate for one in more] == [one.bitrate for one in drawn]
    assert {one.quality for one in more} == {None, 2, 3, 4, 5}
    assert 0.4 < np.mean([one.quality is not None for one in more]) < 0.6
    corners = [one.lowpass for one in more if one.lowpass]
    assert 0.17 < len(corners) / 300 < 0.33 and 12000 <= min(corners) < max(corners) <= 13000
    assert str(Coding(64000, 3, 12000)) == "quality 3, low-pass 12000 Hz"


def test_low_pass_and_bit_rate_are_heard_in_what_is_written(tmp_path, songs):
    generate(songs, tmp_path / "a", Settings(bitrates=(320000,), lowpass=(3000, 3000)))
    generate(songs, tmp_path / "b", Settings(bitrates=(320000,)))
    spectra = [np.abs(np.fft.rfft(audio.read(tmp_path / x / "one/codec.mp3")[0][0])) ** 2 for x in ("a", "b")]
    octave = slice(round(5950 / RATE * 30000), round(6050 / RATE * 30000))
    fall = 10 * np.log10(spectra[0][octave].sum() / spectra[1][octave].sum())
    assert fall == pytest.approx(
        -10 * np.log10(1 + (np.tan(np.pi * 6000 / RATE) / np.tan(np.pi * 3000 / RATE)) ** 4), abs=1
    )
    assert np.array_equal(*(audio.read(tmp_path / x / "one/original.wav")[0] for x in ("a", "b")))


def test_a_second_run_does_what_is_missing_and_makes_the_same_files(tmp_path, songs):
    out, settings = tmp_path / "out", Settings(bitrates=(64000, 96000))
    assert generate(songs, out, settings).written == 4
    first = contents(out)
    assert generate(songs, out, settings).written == 0
    (out / "one" / "codec.mp3").unlink()
    shutil.rmtree(out / "mono")
    ledger = out / LEDGER
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(lines[:-1]) + lines[-1][:30])  # a killed run: `slow` was not noted down whole
    slow = json.loads(lines[-1])
    assert slow["name"] == "slow"
    with ledger.open("a") as handle:
        handle.write("\n" + json.dumps({**slow, "samples": None}) + "\n")
    report = generate(songs, out, settings)
    assert (report.written, report.kept) == (3, 1)
    assert {name: data for name, (data, _) in contents(out).items()} == {
        name: data for name, (data, _) in first.items()
    }
    write(songs / "one.wav", noise(seed=9))
    assert generate(songs, out, settings).written == 1


def test_several_processes_make_the_same_files(tmp_path, songs):
    for jobs in (1, 2):
        generate(songs, tmp_path / str(jobs), Settings(bitrates=(64000,)), jobs)
    one, two = ({name: data for name, (data, _) in contents(tmp_path / str(jobs)).items()} for jobs in (1, 2))
    assert one == two


def test_another_codec_takes_the_place_of_the_first(tmp_path, songs):
    generate(songs, tmp_path / "out", Settings(bitrates=(64000,)))
    generate(songs, tmp_path / "out", Settings(bitrates=(64000,), codec="ogg"))
    assert sorted(path.name for path in (tmp_path / "out/one").iterdir()) == ["codec.ogg", "original.wav"]


def test_what_cannot_be_used_is_reported_and_not_written(tmp_path, songs):
    write(songs / "six.wav", noise(channels=6))
    write(songs / "empty.wav", noise(0))
    write(songs / "nan.wav", np.full((2, 500), np.nan), subtype="FLOAT")
    write(songs / "one.flac", noise(seed=5))
    (songs / "broken.wav").write_bytes(b"nothing")
    out = tmp_path / "out"
    report = generate(songs, out, Settings(bitrates=(64000,)))
    kinds = {"broken": "unreadable", "empty": "empty", "nan": "not finite", "six": "too many channels"}
    assert {lost.name: lost.kind for lost in report.lost} == {**kinds, "one": "name taken"}
    assert not any((out / name).exists() for name in kinds)


def test_files_of_others_are_not_replaced_and_splits_not_mixed(tmp_path, songs):
    out, settings = tmp_path / "out", Settings(bitrates=(64000,))
    write(out / "one" / "original.wav", noise())
    with pytest.raises(UserError, match="was not written by this command"):
        generate(songs, out, settings)
    shutil.rmtree(out / "one")
    generate(songs, out, settings)
    with pytest.raises(UserError, match="pairs for train"):
        generate(songs, out, Settings(bitrates=(64000,), split="valid"))
    with pytest.raises(UserError, match="is never changed"):
        generate(songs, songs / "out", settings)


def test_silence_becomes_a_pair(tmp_path):
    write(tmp_path / "in" / "silence.wav", np.zeros((2, 20000)))
    assert len(generate(tmp_path / "in", tmp_path / "out", Settings()).rows) == 1


# --------------------------------------------------------------------------------------------------------------- pairs


def pair(folder, name, original, codec, rates=(RATE, RATE), ends=("wav", "wav")):
    for stem, x, rate, end in zip(("original", "codec"), (original, codec), rates, ends, strict=True):
        write(folder / name / f"{stem}.{end}", x, rate)


def findings(report):
    return {(finding.song, finding.severity, finding.kind) for finding in report.findings}


def test_the_audit_counts_what_is_wrong_with_pairs(tmp_path):
    x, folder = noise(), tmp_path / "data"
    pair(folder, "good", x, 0.9 * x)
    pair(folder, "late", x, np.pad(x, [(0, 0), (1105, 0)]))
    pair(folder, "early", x, x[:, 30:])
    pair(folder, "padded", x, np.pad(x, [(0, 0), (0, 700)]))
    pair(folder, "short", x, x[:, :15000])
    pair(folder, "other", x, noise(seed=1))
    pair(folder, "upside", x, -x)
    pair(folder, "six", noise(channels=6), noise(channels=6))
    pair(folder, "nothing", x[:, :0], x[:, :0])
    pair(folder, "gone", x, 0 * x)
    pair(folder, "mono", x, x.mean(axis=0, keepdims=True))
    pair(folder, "slow", audio.resample(x, RATE, 48000), x, (48000, RATE))
    (folder / "lonely").mkdir()
    write(folder / "lonely" / "original.wav", x)
    (folder / "broken").mkdir()
    for stem in ("original", "codec"):
        (folder / "broken" / f"{stem}.wav").write_bytes(b"nothing")
    before = contents(folder)
    report = pairs_of([folder], tmp_path / "cache", 1, "wav", "wav")
    assert contents(folder) == before
    assert findings(report) == {
        ("late", "warning", "lag"),
        ("early", "warning", "lag"),
        ("padded", "warning", "length"),
        ("short", "error", "length mismatch"),
        ("other", "error", "unlike"),
        ("upside", "error", "unlike"),
        ("six", "error", "channels"),
        ("nothing", "error", "zero length"),
        ("gone", "error", "unlike"),
        ("mono", "warning", "mono"),
        ("slow", "warning", "sample rate"),
        ("lonely", "error", "missing"),
        ("broken", "error", "unreadable"),
    }
    assert report.reasons["lag"] == 2
    assert [one.name for one in report.pairs] == ["early", "good", "late", "mono", "padded", "slow"]
    for file in CodecFiles(report.pairs):
        assert file.codec.shape == file.original.shape and file.codec.shape[0] == 2
        if file.name in ("late", "early", "padded"):
            assert np.array_equal(file.codec, file.original)


def test_several_folders_and_both_types(tmp_path):
    x = noise()
    pair(tmp_path / "a", "same", x, x)
    pair(tmp_path / "b", "same", x, 0.5 * x)
    report = pairs_of([tmp_path / "a", tmp_path / "b"], tmp_path / "cache", 1, "wav", "wav")
    assert [one.original.parts[-3] for one in report.pairs] == ["a", "b"]
    for stem in ("original", "codec"):
        write(tmp_path / "c" / stem / "song.flac", x)
        write(tmp_path / "c" / stem / "text.wav", x)
    report = pairs_of([tmp_path / "c"], tmp_path / "cache", 2, "flac", "flac")
    assert [one.name for one in report.pairs] == ["song"]
    assert len(pairs_of([tmp_path / "c"], tmp_path / "cache", 2, None, None).pairs) == 2
    with pytest.raises(UserError, match="no usable pairs"):
        pairs_of([tmp_path / "c"], tmp_path / "cache", 2, "wav", "mp3")
    with pytest.raises(UserError, match="no folder original"):
        pairs_of([tmp_path / "a"], tmp_path / "cache", 2)


def test_pairs_are_read_once_and_again_when_they_change(tmp_path, monkeypatch):
    x = noise()
    pair(tmp_path / "data", "one", x, x, ends=("wav", "ogg"))
    arguments = ([tmp_path / "data"], tmp_path / "cache", 1, "wav", "ogg")
    first = pairs_of(*arguments)
    assert first.pairs[0].codec.parent == tmp_path / "cache"
    with monkeypatch.context() as patched:
        patched.setattr("dsp.audio.read", None)
        assert pairs_of(*arguments) == first
    first.pairs[0].codec.unlink()
    assert pairs_of(*arguments) == first and first.pairs[0].codec.exists()
    write(tmp_path / "data" / "one" / "codec.ogg", noise(29000))
    assert pairs_of(*arguments).pairs[0].samples == 29000


# ------------------------------------------------------------------------------------------------------------ segments


@pytest.fixture
def pairs(tmp_path):
    ramp = np.arange(20000) / 32768
    for k, name in enumerate("abc"):
        x = np.stack([ramp, noise(20000, 1, seed=k)[0] * 0.1])
        pair(tmp_path / "data", name, x, x)
    pair(tmp_path / "data", "tiny", noise(300), noise(300))
    pair(tmp_path / "data", "zero", np.zeros((2, 9000)), np.zeros((2, 9000)))
    return pairs_of([tmp_path / "data"], tmp_path / "cache", 1, "wav", "wav").pairs


def test_items_are_functions_of_seed_epoch_and_index(pairs):
    one, two, other = (CodecSegments(pairs, 1000, seed, 12) for seed in (1, 1, 2))
    two.item(0, 5)
    items = [one.item(2, k) for k in range(12)]
    for k, item in enumerate(items):
        again = two.item(2, k)
        assert again["song"] == item["song"] == one.song_of(2, k)
        assert all(np.array_equal(again[name], item[name]) for name in ("codec", "original"))
    assert any(not np.array_equal(other.item(2, k)["codec"], items[k]["codec"]) for k in range(12))
    songs = [one.song_of(*divmod(k, 12)) for k in range(60)]
    assert all(songs.count(name) == 12 for name in set(songs)) and len(set(songs)) == 5


def test_pieces_are_of_one_place_divided_by_one_peak(pairs):
    segments = CodecSegments(pairs, 1000, 0, 10)
    for k in range(10):
        item = segments.item(0, k)
        assert np.array_equal(item["codec"], item["original"])
        peak = max(np.abs(item["codec"]).max(), np.abs(item["original"]).max())
        assert peak == (0 if item["song"] == "zero" else 1)
        if item["song"] == "tiny":
            assert item["codec"][:, :300].any(axis=0).sum() > 290 and not item["codec"][:, 300:].any()


def test_the_louder_one_decides_and_the_ratio_stays(tmp_path):
    x = noise(4000) * 0.25
    pair(tmp_path / "data", "a", x, x / 2)
    pairs = pairs_of([tmp_path / "data"], tmp_path / "cache", 1, "wav", "wav").pairs
    item = CodecSegments(pairs, 4000).item(0, 0)
    assert np.abs(item["original"]).max() == 1
    assert np.allclose(item["codec"], item["original"] / 2, atol=1e-3)
    assert CodecSegments(pairs, 50, channels=1).item(0, 0)["codec"].shape == (1, 50)


def test_batches_have_the_documented_arrays(pairs):
    segments = CodecSegments(pairs, 500, samples_per_epoch=8)
    loaders = [BatchLoader(segments, EpochPlan(len(segments), 0, 0, batch_size=4), workers=n) for n in (0, 2)]
    for one, two in zip(*loaders, strict=True):
        assert one["codec"].shape == one["original"].shape == (4, 2, 500)
        assert one["songs"] == two["songs"] and np.array_equal(one["codec"], two["codec"])
    assert segments.summary() == "5 pairs of 0.0 minutes, 8 pieces of 0.0113379 s an epoch"


def test_whole_files_keep_their_level(pairs):
    files = CodecFiles(pairs)
    assert len(files) == 5 and files.song_of(0) == "a"
    assert files[0].codec.shape == (2, 20000) and files[0].codec[0, -1] == pytest.approx(19999 / 32768)
