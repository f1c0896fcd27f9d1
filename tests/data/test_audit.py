"""Every defect that the audit knows, made on purpose."""

import numpy as np
import pytest
import soundfile

from data import audit
from data.audit import Settings, SongMeasure, clipped_samples, compare, judge, measure_song

RATE = 8000


def noise(seed, seconds=1.0, channels=2, level=0.1):
    return level * np.random.default_rng(seed).standard_normal((channels, round(seconds * RATE))).clip(-3, 3)


@pytest.fixture
def song(tmp_path):
    """A healthy song; the function writes it with some tracks replaced (None: left out) and returns the findings."""

    def check(rate=RATE, **changes):
        tracks = {name: noise(k) for k, name in enumerate(("vocal", "drums", "bass", "other"))}
        tracks["instrumental"] = tracks["drums"] + tracks["bass"] + tracks["other"]
        tracks["mixture"] = tracks["instrumental"] + tracks["vocal"]
        folder = tmp_path / "train" / "Song"
        folder.mkdir(parents=True, exist_ok=True)
        for name, track in {**tracks, **changes}.items():
            path = folder / f"{name}.wav"
            if isinstance(track, bytes):
                path.write_bytes(track)
            elif track is not None:
                soundfile.write(path, track.T, rate, subtype="FLOAT")
        names = {"vocal": "vocals", "instrumental": "accompaniment"}
        sources = {
            names.get(path.stem, path.stem): path.relative_to(tmp_path).as_posix() for path in sorted(folder.iterdir())
        }
        measure = measure_song(tmp_path, sources)
        return measure, {(row.severity, row.kind, row.file) for row in judge("train/Song", measure, Settings())}

    return check


def test_a_healthy_song_has_no_findings(song):
    measure, findings = song()
    assert findings == set()
    assert measure.files["vocals"].frames == RATE and measure.files["vocals"].channels == 2
    assert measure.sums["mixture"] > 100 and measure.sums["accompaniment"] > 100


def test_missing_tracks(song):
    assert song(vocal=None)[1] == {("error", "missing", "vocal")}


def test_missing_mixture(song):
    assert song(mixture=None)[1] == {("error", "missing", "mixture")}


def test_accompaniment_may_come_from_its_parts_but_not_from_some_of_them(song):
    assert song(instrumental=None)[1] == set()


def test_accompaniment_cannot_come_from_some_parts(song):
    assert song(instrumental=None, bass=None)[1] == {("error", "missing", "instrumental")}


def test_unreadable_and_empty_files(song):
    assert ("error", "unreadable", "drums.wav") in song(drums=b"this is no audio at all")[1]
    assert ("error", "unreadable", "drums.wav") in song(drums=b"")[1]


def test_zero_length(song):
    assert ("error", "zero length", "vocal.wav") in song(vocal=np.zeros((2, 0)))[1]


def test_not_a_number(song):
    broken = noise(0)
    broken[1, 100] = np.nan
    broken[0, 200] = np.inf
    measure, findings = song(vocal=broken)
    assert findings == {("error", "NaN", "vocal.wav")}
    assert measure.files["vocals"].nonfinite == 2


def test_silence_is_a_warning_for_a_stem_and_an_error_for_the_mixture(song):
    silent = np.zeros((2, RATE))
    drums, other = noise(1), noise(3)
    assert song(bass=silent, instrumental=drums + other, mixture=drums + other + noise(0))[1] == {
        ("warning", "silent", "bass.wav")
    }
    assert ("error", "silent", "mixture.wav") in song(mixture=silent)[1]


def test_clipping(song):
    vocal = noise(0)
    vocal[0, 1000:1050] = 1.0
    backing = noise(1) + noise(2) + noise(3)
    assert song(vocal=vocal, mixture=vocal + backing)[1] == {("warning", "clipped", "vocal.wav")}


def test_clipped_samples_counts_runs_of_three():
    x = np.zeros((2, 20), dtype=np.float32)
    x[0, 2:4] = 1.0  # two are no run
    x[0, 8:12] = -1.0
    x[1, 0:3] = 1.0
    x[1, 17:20] = [1.0, -1.0, 1.0]
    assert clipped_samples(x) == 7
    assert clipped_samples(x[:, :1]) == 0


@pytest.mark.parametrize(
    ("track", "kind"),
    [(noise(0, seconds=0.5), "length mismatch"), (noise(0, channels=1), "channel mismatch")],
)
def test_mismatches(song, track, kind):
    assert ("error", kind, "vocal.wav") in song(vocal=track)[1]


def test_rate_mismatch(song, tmp_path):
    song()
    soundfile.write(tmp_path / "train/Song/vocal.wav", noise(0).T, 2 * RATE, subtype="FLOAT")
    sources = {"mixture": "train/Song/mixture.wav", "vocals": "train/Song/vocal.wav"}
    findings = judge("train/Song", measure_song(tmp_path, sources), Settings())
    assert ("error", "rate mismatch", "vocal.wav") in {(row.severity, row.kind, row.file) for row in findings}


def test_sums_that_do_not_add_up(song):
    backing = noise(1) + noise(2) + noise(3)
    assert song(mixture=backing + noise(0) + noise(9))[1] == {("warning", "sum", "mixture.wav")}
    assert song(mixture=noise(9))[1] == {("error", "sum", "mixture.wav")}
    assert song(instrumental=noise(9))[1] == {("error", "sum", "instrumental.wav")}


def test_a_measure_survives_json(song):
    measure, _ = song()
    assert SongMeasure.from_json(measure.to_json()) == measure


def test_content_hash_does_not_depend_on_the_container(tmp_path):
    x = np.rint(noise(0) * 32768).astype(np.int16)
    for folder, suffix in (("a", "wav"), ("b", "flac")):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / f"mixture.{suffix}", x.T, RATE, subtype="PCM_16")
    first, second = (measure_song(tmp_path, {"mixture": f"{name}"}) for name in ("a/mixture.wav", "b/mixture.flac"))
    assert first.content == second.content != ""
    assert first.fingerprint != second.fingerprint


def kinds(*rows):
    return {(row.severity, row.kind, row.song) for row in compare(rows)}


def test_duplicates_within_training_are_warnings():
    assert kinds(("train/A", "A", "train", "1"), ("train/B", "B", "train", "1")) == {
        ("warning", "duplicate", "train/B")
    }


def test_the_same_sound_in_test_and_train_is_leakage():
    expected = {("error", "leakage", "train/A")}
    assert kinds(("train/A", "A", "train", "1"), ("test/B", "B", "test", "1")) == expected


def test_the_same_name_in_two_splits_is_leakage():
    assert kinds(("train/A b", "A b", "train", "1"), ("test/a  B", "a  B", "test", "2")) == {
        ("error", "leakage", "train/A b")
    }
    assert kinds(("train/A", "A", "train", "1"), ("A", "A", "train", "2")) == {("error", "duplicate", "train/A")}


def test_thresholds_fit_musdb(shared_audio):
    """The lossy stems of MUSDB18 must pass; the worst of the excerpts adds up to 21.4 dB."""
    assert audit.Settings().sum_warning_db < 21.4
