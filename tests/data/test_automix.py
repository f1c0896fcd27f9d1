"""Mixes of songs whose tempo and key are known: beats and keys of what comes out, and whose folders are touched."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data import automix
from data.automix_analysis import mean_period
from data.automix_plan import Limits, beat_shift, pitch_change, plan_mix, tempo_change
from data.wave_songs import collect
from runtime.errors import UserError

RATE = 22050
SOURCES = automix.SOURCES
TONIC = 45  # MIDI note of a song in the key 0
SCALE = {"bass": (0, 0, 7, 0), "other": (12, 12, 16, 12), "vocals": (24, 24, 28, 24)}  # semitones from beat to beat


def write_song(
    folder: Path, tempo: float, key: int, seconds: float = 12.0, lead: float = 0.0, drums: float = 1.0
) -> None:
    """A song that plays a short note, and a drum, on every beat, after ``lead`` seconds of silence."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(round(tempo))
    time = np.arange(round(0.3 * RATE)) / RATE
    stems = {source: np.zeros(round((seconds + 1) * RATE)) for source in SOURCES}
    for count, place in enumerate(np.arange(lead, seconds - 0.2, 60 / tempo / 2)):
        start = slice(round(place * RATE), round(place * RATE) + len(time))
        loudness = 0.15 if count % 2 else 1.0  # a soft stroke between the beats
        stems["drums"][start] += drums * loudness * 0.3 * rng.standard_normal(len(time)) * np.exp(-time / 0.02)
        for source, steps in SCALE.items():
            note = TONIC + key + steps[count // 2 % 4]
            wave = np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * time) * np.exp(-time / 0.07)
            stems[source][start] += 0.0 if count % 2 else 0.2 * wave
    for source, x in stems.items():
        soundfile.write(folder / f"{source}.wav", np.stack([x, x], axis=1)[: round(seconds * RATE)], RATE)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("songs")
    for name, tempo, key, lead in (("a", 120, 0, 0.0), ("b", 127, 2, 0.7), ("c", 112, -3, 0.31)):
        write_song(root / "train" / name, tempo, key, lead=lead)
    write_song(root / "train" / "no drums", 100, 0, 3.0, drums=0.0)
    write_song(root / "valid" / "v", 122, 1)
    write_song(root / "valid" / "w", 114, 3, lead=0.5)
    return root


def run(dataset: Path, out: Path, *more: str) -> int:
    fixed = ("--copies", "1", "--sample-rate", str(RATE), "-j", "1")
    return automix.main(["--musdb", str(dataset), "--out", str(out), *fixed, *more])


@pytest.fixture(scope="module")
def mixes(dataset, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "mixes"
    assert run(dataset, out) == 0
    return out


def songs_of(out: Path) -> list[Path]:
    return sorted(path.parent for path in out.glob("*/*/mix.json") if "rej" not in path.parent.name)


def read(folder: Path) -> dict[str, np.ndarray]:
    return {source: soundfile.read(folder / f"{source}.wav")[0].T for source in (*SOURCES, "mixture")}


def onsets(x: np.ndarray) -> np.ndarray:
    """Seconds at which a sound begins: where the level of 4 ms passes 40 % of the usual peak from below."""
    power = np.sqrt(np.convolve(x.mean(axis=0) ** 2, np.ones(88) / 88, mode="same"))
    loud = np.concatenate([[False], power > 0.4 * np.quantile(power, 0.995)])  # a sound may begin at once
    rises = np.flatnonzero(loud[1:] & ~loud[:-1])
    kept = [rise for k, rise in enumerate(rises) if not k or rise - rises[k - 1] > 0.15 * RATE]
    return np.array(kept) / RATE


def pitch_class(x: np.ndarray) -> float:
    """The strongest pitch in semitones from C, in [0, 12)."""
    mono = x.mean(axis=0)
    power = np.abs(np.fft.rfft(mono * np.hanning(len(mono))))
    smooth = np.convolve(power, np.hanning(41), mode="same")  # the lines of a note that is struck again and again
    frequency = smooth[50:].argmax() + 50
    return float(12 * np.log2(frequency * RATE / len(mono) / 440) + 69) % 12


def test_beats_coincide_and_keys_agree(mixes):
    folders = songs_of(mixes)
    assert [f"{path.parent.name}/{path.name}" for path in folders] == [
        *(f"train/0_{k}" for k in range(3)), "valid/0_0", "valid/0_1"
    ]  # fmt: skip
    moved = []
    for folder in folders:
        tracks = read(folder)
        beats = {source: onsets(tracks[source]) for source in SOURCES}
        assert all(len(times) > 12 for times in beats.values())
        for source in SOURCES[1:]:
            both = beats[source][(beats[source] > beats["drums"][0] - 0.1) & (beats[source] < beats["drums"][-1] + 0.1)]
            assert np.abs(both[:, None] - beats["drums"]).min(axis=1).max() < 0.020, (folder, source)
        classes = [pitch_class(tracks[source]) for source in SOURCES[1:]]
        apart = [(one - classes[0] + 6) % 12 - 6 for one in classes]
        assert np.abs(apart).max() < 0.3, (folder, classes)
        parts = json.loads((folder / "mix.json").read_text())["parts"]
        assert all(part["song"].startswith(folder.parent.name) for part in parts)  # splits are never mixed
        assert [part["semitones"] for part in parts if part["source"] == "drums"] == [0]
        moved += [part for part in parts if part["tempo_percent"] and part["semitones"]]
    assert moved


def test_stems_add_up_and_nothing_is_clipped(mixes):
    for folder in songs_of(mixes):
        tracks = read(folder)
        total = sum(tracks[source] for source in SOURCES)
        assert np.abs(total - tracks["mixture"]).max() < 3 / 32768 and np.abs(tracks["mixture"]).max() < 1
        assert len({track.shape for track in tracks.values()}) == 1


def test_the_mixes_are_a_data_set(mixes, tmp_path):
    mixed = collect(mixes, "wav", SOURCES, tmp_path)
    assert len(mixed.split("train")) == 4 and len(mixed.split("valid")) == 2


def test_songs_that_cannot_be_mixed_are_copied(dataset, mixes):
    rejected = mixes / "train" / "rej_0_0"
    source, copy = (
        soundfile.read(dataset / "train" / "no drums" / "bass.wav")[0],
        soundfile.read(rejected / "bass.wav")[0],
    )
    assert np.abs(source[-len(copy) :] - copy).max() < 2 / 32768 and len(source) - len(copy) < 0.01 * RATE


def test_a_second_run_makes_what_is_missing_the_same_again(dataset, mixes, monkeypatch):
    lost, kept = mixes / "train" / "0_1", mixes / "train" / "0_2" / "mixture.wav"
    before, stamp = {path.name: path.read_bytes() for path in lost.iterdir()}, kept.stat().st_mtime_ns
    shutil.rmtree(lost)
    monkeypatch.setattr(
        "data.automix_analysis.analyse_stems", None
    )  # what is known of the songs is not found out again
    assert run(dataset, mixes) == 0
    assert {path.name: path.read_bytes() for path in lost.iterdir()} == before and kept.stat().st_mtime_ns == stamp


def test_no_folder_of_anybody_else_is_touched(dataset, mixes, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("everything")
    with pytest.raises(UserError, match="not made by automix"):
        run(dataset, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        run(dataset, tmp_path / "file")
    with pytest.raises(UserError, match="holds the data set itself"):
        run(dataset, dataset)
    with pytest.raises(UserError, match="another value of seed"):
        run(dataset, mixes, "--seed", "5")
    marker = tmp_path / "other" / automix.MARKER
    marker.parent.mkdir()
    marker.write_text('{"format": "something else"}')
    with pytest.raises(UserError, match="not made by automix"):
        run(dataset, marker.parent)
    assert [path.name for path in marker.parent.iterdir()] == [automix.MARKER]
    for wrong in (("--max-tempo", "80"), ("--copies", "-1"), ("--sources", "bass,vocals"), ("--speed", "1")):
        with pytest.raises(UserError):
            run(dataset, tmp_path / "new", *wrong)
    assert not (tmp_path / "new").exists()


def test_another_seed_makes_other_mixes_of_the_same_catalog(mixes):
    from data.automix_analysis import Analysis

    catalog = {}
    for path in (mixes / automix.HIDDEN).glob("*.json"):
        row = json.loads(path.read_text())
        if "analysis" in row and not row["analysis"]["problem"]:
            catalog[row["song"]] = Analysis(**row["analysis"])
    first, *others = (plan_mix(catalog, "a", SOURCES, Limits(), seed, (0, 0)) for seed in (1, 1, 2, 3, 4))
    assert first == others[0] and any(first != other for other in others[1:])
    alone = plan_mix(catalog, "a", SOURCES, Limits(0, 0.0), 1, (0, 0))
    assert {part.song for part in alone} == {"a"} and {part.tempo_percent for part in alone} == {0.0}


def test_changes_of_tempo_and_pitch_are_the_smallest():
    assert tempo_change(0.5, 0.55) == pytest.approx(10)
    assert tempo_change(0.5, 0.9) == pytest.approx(-10)  # half as many beats
    assert abs(tempo_change(0.5, 2.0)) < 1e-9
    notes = np.array([5, 0, 1, 0, 2, 0, 0, 3, 0, 1, 0, 0]) / 12
    for shift in range(-5, 7):
        assert pitch_change(np.roll(notes, shift), notes) == shift
    assert pitch_change(notes, np.full(12, 1 / 12)) == 0


@pytest.mark.parametrize("beats", [40, 600])
def test_the_period_is_that_of_most_beats(beats):
    times = 0.3 + 0.4712 * np.arange(beats) + np.random.default_rng(0).normal(0, 0.004, beats)
    assert abs(mean_period(times) / 0.4712 - 1) < 2e-4
    assert abs(mean_period(np.delete(times, [3, 4, 20])) / 0.4712 - 1) < 2e-4
    times[beats * 2 // 3 :] += 0.4712 / 4  # a tracker that slips
    assert abs(mean_period(times) / 0.4712 - 1) < 3e-4


def test_beats_are_shifted_by_bars_at_most():
    wanted = np.arange(40) * 0.5 + 1.0
    for late in (0.0, 0.13, -0.9, 7.26):
        shift = beat_shift(wanted, wanted + late, 0.5)
        assert abs((late + shift + 1) % 2 - 1) < 0.002 and abs(shift) <= 1.26  # the first beats of bars of 2 s
    missed = np.delete(wanted + 0.21, [0, 7, 8, 20])
    assert abs((0.21 + beat_shift(wanted, missed, 0.5) + 0.25) % 0.5 - 0.25) < 0.002


def test_help_is_quick_because_it_imports_nothing_heavy():
    root = Path(automix.__file__).parents[1]
    code = (
        "import sys; from data import automix\n"
        "try: automix.main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'librosa', 'numba', 'scipy', 'paddle', 'soxr'} & sys.modules.keys()))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert "--copies" in shown and shown.rstrip().endswith("[]")
    door = [sys.executable, "run_scripts/automix.py", "--musdb", "nowhere", "--out", "data"]
    refused = subprocess.run(door, cwd=root, capture_output=True, text=True)
    assert refused.returncode == 1 and "not made by automix" in refused.stderr
