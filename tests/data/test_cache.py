"""The cache on the disk: what is in it, when it is rebuilt, and what happens to damaged files and bad songs."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data import cache
from data.cache_file import CacheFile
from data.chunks import CacheSpec, content, plan_chunks, section
from data.index import Index, read_index
from data.scan import build_index
from data.synthetic import write_songs
from runtime.errors import UserError

ROOT = Path(__file__).parents[2]
RATE = 8000
SPEC = CacheSpec(
    stems=("vocals", "accompaniment"),
    frame_length=256,
    frame_step=64,
    bins=64,
    sample_rate=RATE,
    chunk_seconds=1.0,
    payload="float32",
)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("songs")
    write_songs(folder, 3, 2.5, seed=1, sample_rate=RATE, splits={"test": 1})
    return folder


@pytest.fixture
def dataset(original, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(original, tmp_path / "dataset"))


def index_of(dataset: Path) -> Index:
    build_index(dataset, skip_errors=True)
    return read_index(dataset)


def build(dataset: Path, spec: CacheSpec = SPEC, **options) -> cache.BuildReport:
    return cache.build(index_of(dataset), spec, dataset.parent / "cache", **{"processes": 1, **options})


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.cache"))


# ------------------------------------------------------------------------------------------------------------ chunks


def song_of(seconds: float, rate: int = RATE):
    from data.index import Song

    return Song("song", "train", "song", {"mixture": "m.wav"}, round(seconds * rate), rate, 2, "0", {})


@pytest.mark.parametrize(
    ("seconds", "count"), [(1.0, 1), (1.01, 1), (1.9, 2), (2.0, 2), (2.03, 2), (2.04, 3), (7.77, 8)]
)
def test_chunks_cover_the_song(seconds, count):
    song = song_of(seconds)
    chunks = plan_chunks(song, SPEC)
    assert len(chunks) == count and all(chunk.frames == chunks[0].frames for chunk in chunks)
    used = np.zeros(song.frames, bool)
    for chunk in chunks:
        used[chunk.start : chunk.start + SPEC.chunk_samples] = True
    assert (~used).sum() < SPEC.frame_length  # a rest shorter than a frame is not worth a chunk
    assert used[-1]


def test_chunks_of_short_songs():
    assert [chunk.frames for chunk in plan_chunks(song_of(0.5), SPEC)] == [SPEC.frames_in(4000)]
    assert plan_chunks(song_of(255 / RATE), SPEC) == []
    assert [chunk.frames for chunk in plan_chunks(song_of(256 / RATE), SPEC)] == [1]


def test_twenty_seconds_are_858_frames():
    chunks = plan_chunks(song_of(60, 44100), CacheSpec(stems=("vocals",)))
    assert [chunk.frames for chunk in chunks] == [858, 858, 858]


@pytest.mark.parametrize(
    ("count", "seconds", "starts"),
    [(1, 60.0, [20.0]), (3, 60.0, [0.5, 20.0, 39.5]), (2, 15.0, [0.0]), (1, 15.0, [0.0]), (2, 20.5, [0.5, 0.0])],
)
def test_chunks_spread_as_in_the_original(count, seconds, starts):
    spec = replace(SPEC, chunk_seconds=20.0, chunks_per_song=count)
    assert [chunk.start / RATE for chunk in plan_chunks(song_of(seconds), spec)] == pytest.approx(starts, abs=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"stems": ()},
        {"stems": ("vocals", "vocal")},
        {"stems": ("mixture",)},
        {"stems": ("violin",)},
        {"payload": "int4"},
        {"bins": 130},
        {"chunk_seconds": 0.01},
        {"chunks_per_song": 0},
        {"frame_step": 0},
        {"kind": "mel"},
    ],
)
def test_impossible_specifications(wrong):
    with pytest.raises(UserError):
        replace(SPEC, **wrong)


# ------------------------------------------------------------------------------------------------------ what is built


def test_build_writes_every_song_and_then_nothing(dataset):
    report = build(dataset)
    assert len(report.built) == 3 and report.status == 0 and not report.kept
    times = [path.stat().st_mtime_ns for path in files(report.folder)]
    again = build(dataset)
    assert len(again.kept) == 3 and not again.built and not again.rebuilt
    assert [path.stat().st_mtime_ns for path in files(report.folder)] == times
    assert again.size == report.size == sum(path.stat().st_size for path in files(report.folder))


def test_a_file_holds_mixture_and_stems_of_the_song(dataset):
    build(dataset)
    index = read_index(dataset)
    song = index.songs[0]
    cached = cache.open_song(dataset.parent / "cache", song, SPEC)
    assert cached.about["tracks"] == ["mixture", "vocals", "accompaniment"] and cached.about["song"] == song.name
    wave, _ = soundfile.read(index.file(song, "vocals"), dtype="float32", always_2d=True)
    start, (tracks, channels, frames, bins) = cached.chunks[1].start, cached.chunks[1].shape
    out = np.empty((tracks, channels, frames, bins), np.float32)
    cached.read(1, slice(0, frames), out)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    first = np.abs(np.fft.rfft(wave[start : start + 256, 0] * window))[:64]
    assert np.allclose(out[1, 0, 0], first, atol=1e-4)


@pytest.mark.parametrize(("payload", "size"), [("float32", 4), ("float16", 2), ("uint8", 1)])
def test_payloads_take_the_estimated_space(dataset, payload, size):
    spec = replace(SPEC, payload=payload)
    index, report = index_of(dataset), build(dataset, spec)
    values = sum(chunk.frames for song in index.songs for chunk in plan_chunks(song, spec)) * 3 * 2 * 64
    estimates = sum(cache.estimate(song, spec) for song in index.songs)
    assert values * size < report.size <= estimates < values * size * 1.5 + 3 * 8192


def test_several_processes_give_the_same_bytes(dataset):
    alone = {path.name: path.read_bytes() for path in files(build(dataset).folder)}
    shutil.rmtree(dataset.parent / "cache")
    shared = {path.name: path.read_bytes() for path in files(build(dataset, processes=2).folder)}
    assert alone == shared


def test_only_the_songs_asked_for(dataset):
    index = index_of(dataset)
    report = cache.build(index, SPEC, dataset.parent / "cache", index.split("test"), processes=1)
    assert report.built == [index.split("test")[0].name] and len(files(report.folder)) == 1
    others = [song for song in index.songs if song.split != "test"]
    cache.build(index, SPEC, dataset.parent / "cache", others, processes=1)
    assert len(files(report.folder)) == 3  # the others are wanted by the index, though not this time


# -------------------------------------------------------------------------------------------------------------- stale


def test_a_changed_song_is_cached_anew_and_its_old_file_removed(dataset):
    before = files(build(dataset).folder)
    path = next(dataset.glob("train/*/vocal.wav"))
    wave, rate = soundfile.read(path)
    soundfile.write(path, wave * 0.5, rate)
    report = build(dataset)
    assert len(report.built) == 1 and len(report.kept) == 2 and report.removed == 1
    after = files(report.folder)
    assert len(after) == 3 and len(set(after) & set(before)) == 2


def test_audio_that_changed_after_the_index_is_refused(dataset):
    index = index_of(dataset)
    path = next(dataset.glob("train/*/vocal.wav"))
    wave, rate = soundfile.read(path)
    soundfile.write(path, wave[:-100], rate)
    report = cache.build(index, SPEC, dataset.parent / "cache", processes=1)
    assert report.status == 1 and len(report.built) == 2
    assert "preprocess.py" in next(iter(report.failed.values()))


def test_a_song_that_left_the_index_leaves_the_cache(dataset):
    build(dataset)
    shutil.rmtree(next(dataset.glob("test/*")))
    report = build(dataset)
    assert report.removed == 1 and len(files(report.folder)) == 2


def test_files_of_another_data_set_and_other_settings_stay(dataset, tmp_path):
    write_songs(tmp_path / "other", 1, 2.0, seed=9, sample_rate=RATE)
    other = build(tmp_path / "other")
    coarse = build(dataset, replace(SPEC, bins=32))
    report = build(dataset)
    assert report.folder == other.folder != coarse.folder and report.removed == 0
    assert len(files(report.folder)) == 4 and len(files(coarse.folder)) == 3


def test_a_data_set_that_moved_keeps_its_cache(dataset, tmp_path):
    build(dataset)
    moved = dataset.rename(tmp_path / "elsewhere")
    assert len(build(moved).kept) == 3


# ------------------------------------------------------------------------------------------------------------- damage


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_payload(path: Path) -> None:
    with open(path, "r+b") as handle:
        handle.seek(1000)
        byte = handle.read(1)
        handle.seek(1000)
        handle.write(bytes([byte[0] ^ 0x40]))


def flip_table(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-60] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_version(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-12] = 99
    path.write_bytes(data)


DAMAGES = [truncate, flip_payload, flip_table, empty, other_version]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_rebuilt(dataset, damage):
    report = build(dataset)
    path = files(report.folder)[0]
    good = path.read_bytes()
    damage(path)
    with pytest.raises(UserError, match=rf"{path.name}.*process_data"):
        CacheFile(path).verify()
    again = build(dataset)
    assert len(again.rebuilt) == 1 and len(again.kept) == 2 and again.status == 0
    assert path.read_bytes() == good


def test_a_file_of_another_song_under_this_name_is_not_used(dataset):
    report = build(dataset)
    one, other, _ = files(report.folder)
    shutil.copy(other, one)
    assert len(build(dataset).rebuilt) == 1
    assert one.read_bytes() != other.read_bytes()


def test_leftovers_of_a_killed_run_are_removed(dataset):
    index = index_of(dataset)
    folder = cache.folder_of(dataset.parent / "cache", SPEC)
    folder.mkdir(parents=True)
    (folder / ".tmp-0123.cache").write_bytes(b"half a song")
    cache.build(index, SPEC, dataset.parent / "cache", index.songs[:1], processes=1)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".tmp-")] == []


# ------------------------------------------------------------------------------------------------- songs that fail


def test_a_bad_song_is_reported_and_the_others_are_done(dataset):
    index = index_of(dataset)
    song = index.songs[1]
    path = index.file(song, "drums")
    wave, rate = soundfile.read(path)
    wave[100] = np.nan
    index.file(song, "accompaniment").unlink()
    soundfile.write(path, wave, rate, subtype="FLOAT")
    sources = {stem: name for stem, name in song.sources.items() if stem != "accompaniment"}
    stat = {name: (s.st_size, s.st_mtime_ns) for name in sources.values() for s in [(dataset / name).stat()]}
    songs = (index.songs[0], replace(song, sources=sources, stat=stat), index.songs[2])
    for processes in (1, 2):
        root = dataset.parent / f"cache{processes}"
        report = cache.build(Index(dataset, songs), SPEC, root, processes=processes)
        assert report.status == 1 and list(report.failed) == [song.name] and len(report.built) == 2
        assert "accompaniment" in report.failed[song.name] and "NaN" in report.failed[song.name]
        assert any(song.name in line for line in report.lines())
        assert len(files(report.folder)) == 2


def test_songs_that_lack_a_stem_are_left_out(dataset):
    index = index_of(dataset)
    two_tracks = {stem: index.songs[0].sources[stem] for stem in ("mixture", "vocals", "accompaniment")}
    songs = (replace(index.songs[0], sources=two_tracks), *index.songs[1:])
    report = cache.build(Index(dataset, songs), replace(SPEC, stems=("drums",)), dataset.parent / "cache", processes=1)
    assert report.lacking == [index.songs[0].name] and report.status == 0 and len(report.built) == 2


def test_nothing_to_cache(dataset):
    index = index_of(dataset)
    with pytest.raises(UserError, match="3 do not have"):
        cache.build(index, replace(SPEC, stems=("piano",)), dataset.parent / "cache")
    with pytest.raises(UserError, match="3 are shorter"):
        spec = replace(SPEC, frame_length=32768, chunk_seconds=5.0)
        cache.build(index, spec, dataset.parent / "cache")


def test_no_space_is_said_before_anything_is_written(dataset, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(UserError, match="3 songs"):
        build(dataset)
    assert files(cache.folder_of(dataset.parent / "cache", SPEC)) == []


def test_one_builder_at_a_time(dataset):
    folder = build(dataset).folder
    held = f"import fcntl; f = open({str(folder / '.lock')!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1); input()"
    child = subprocess.Popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        child.stdout.readline()
        with pytest.raises(UserError, match="another process"):
            build(dataset)
    finally:
        child.communicate("\n")
    assert len(build(dataset).kept) == 3


def test_a_killed_process_costs_only_its_song(dataset, tmp_path):
    """The worker that meets the song `bad` kills itself, as the system would for lack of memory."""
    script = """
import json, os, signal, sys
from types import SimpleNamespace
from data.workers import run_songs

def work(song):
    if song.name == "bad":
        os.kill(os.getpid(), signal.SIGKILL)
    return song.name.upper()

if __name__ == "__main__":
    songs = [SimpleNamespace(name=name) for name in ("a", "b", "bad", "c", "d")]
    results = [(song.name, result) for song, result in run_songs(work, songs, 2)]
    print(json.dumps({name: getattr(result, "reason", result) for name, result in results}))
"""
    path = tmp_path / "kill.py"
    path.write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert "killed" in results.pop("bad")
    assert results == {"a": "A", "b": "B", "c": "C", "d": "D"}


# ------------------------------------------------------------------------------------------------ rates and channels


@pytest.fixture
def wide(tmp_path) -> Index:
    """One song of 3 s at 12 kHz in mono."""
    time = np.arange(36000) / 12000
    folder = tmp_path / "wide" / "train" / "song"
    folder.mkdir(parents=True)
    voice, rest = 0.3 * np.sin(2 * np.pi * 440 * time), 0.2 * np.sin(2 * np.pi * 1000 * time)
    for name, wave in (("vocal", voice), ("instrumental", rest), ("mixture", voice + rest)):
        soundfile.write(folder / f"{name}.wav", wave, 12000, subtype="FLOAT")
    return index_of(tmp_path / "wide")


def test_other_rates_are_resampled_and_mono_is_doubled(wide):
    song = wide.songs[0]
    wave = section(wide, song, "vocals", SPEC, 8000, 4000)
    time = np.arange(8000, 12000) / RATE
    assert wave.shape == (2, 4000) and np.array_equal(wave[0], wave[1])
    assert np.abs(wave[0] - 0.3 * np.sin(2 * np.pi * 440 * time)).max() < 1e-3
    assert content(wide, song, SPEC, 0, 10).shape == (3, 2, 10, 64)


def test_a_resampled_section_does_not_depend_on_where_it_is_cut(wide):
    song = wide.songs[0]
    whole = section(wide, song, "mixture", SPEC, 0, 24000)
    for start, samples in ((1, 500), (7777, 3000), (20000, 4000)):
        part = section(wide, song, "mixture", SPEC, start, samples)
        assert np.abs(part - whole[:, start : start + samples]).max() < 1e-6


def test_one_channel_is_the_mean_of_two(dataset):
    index = index_of(dataset)
    both = section(index, index.songs[0], "drums", SPEC, 0, 1000)
    mono = section(index, index.songs[0], "drums", replace(SPEC, channels=1), 0, 1000)
    assert mono.shape == (1, 1000) and np.allclose(mono[0], both.mean(axis=0), atol=1e-7)


def test_a_file_shorter_than_the_index_tells(dataset):
    index = index_of(dataset)
    song = replace(index.songs[0], frames=index.songs[0].frames + 1000)
    with pytest.raises(UserError, match="ends before"):
        section(index, song, "vocals", SPEC, song.frames - 500, 500)
