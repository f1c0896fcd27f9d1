"""Segments with their pitch: pictures and labels that belong together, whatever was drawn."""

import numpy as np
import pytest
import soundfile

from data.loader import BatchLoader
from data.pitch_augment import PitchAugment, PitchChange, coloured_noise
from data.pitch_labels import write_pv
from data.pitch_segments import PitchFiles, PitchSegments, bells
from data.sampler import EpochPlan
from dsp.mel import LogMel
from dsp.salience import to_f0
from runtime.errors import UserError

RATE = 16000
OFF = PitchAugment(key_shift=0, accompaniment=0, noise_exponent=0, noise_level=(-9, -9), volume=(0, 0))


def tone(seconds, hertz=220.0, channels=1):
    time = np.arange(round(seconds * RATE)) / RATE
    voice = 0.4 * np.sin(2 * np.pi * hertz * time)
    backing = 0.2 * np.sin(2 * np.pi * 1000 * time)
    return np.stack([voice] if channels == 1 else [backing, voice])


def song(folder, name="a_1_01", audio=None, f0=220.0, hop=160, rate=RATE):
    audio = tone(3) if audio is None else audio
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{name}.wav", audio.T, rate, subtype="FLOAT")
    write_pv(folder / f"{name}.pv", np.full(audio.shape[1] // hop + 1, f0))
    return folder


@pytest.fixture
def stereo(tmp_path):
    for name in ("a_1_01", "b_1_01", "c_1_01"):
        song(tmp_path / "train", name, tone(3, channels=2))
    return tmp_path / "train"


def peak_hertz(mel):
    """Roughly where the loudest band of the mean picture lies, Hz."""
    corners = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + f / 700) for f in (30, 8000)), 130) / 2595) - 1)
    return corners[1:-1][mel.mean(axis=1).argmax()]


def test_items_are_functions_of_seed_epoch_and_index(stereo):
    one, two, other = PitchSegments(stereo, seed=1), PitchSegments(stereo, seed=1), PitchSegments(stereo, seed=2)
    two.item(0, 2)
    for name in ("mel", "target", "f0"):
        assert np.array_equal(one.item(3, 1)[name], two.item(3, 1)[name])
    assert not np.array_equal(one.item(3, 1)["mel"], one.item(4, 1)["mel"])
    assert not np.array_equal(one.item(3, 1)["mel"], other.item(3, 1)["mel"])
    assert [one.item(0, k)["song"] for k in range(3)] == ["a_1_01", "b_1_01", "c_1_01"]


def test_batches_have_the_documented_arrays(stereo):
    segments = PitchSegments(stereo, samples_per_epoch=8)
    loaders = [BatchLoader(segments, EpochPlan(len(segments), 0, 0, batch_size=4), workers=n) for n in (0, 2)]
    plain, threaded = (list(loader) for loader in loaders)
    assert plain[0]["mel"].shape == (4, 128, 128)
    assert plain[0]["target"].shape == (4, 128, 360)
    assert plain[0]["f0"].shape == (4, 128)
    assert len(plain) == 2 and set(plain[0]["songs"]) <= {"a_1_01", "b_1_01", "c_1_01"}
    assert np.array_equal(plain[1]["mel"], threaded[1]["mel"])


def test_whole_files_are_the_centred_picture_of_both_channels(stereo):
    files = PitchFiles(stereo)
    file = files[1]
    mix, _ = soundfile.read(stereo / "b_1_01.wav", dtype="float32")
    assert np.abs(file.mel - LogMel()(mix.sum(axis=1))).max() < 1e-5
    assert file.mel.shape == (128, 301) and file.target.shape == (301, 360) and file.name == "b_1_01"
    assert np.allclose(file.times, np.arange(301) / 100)
    assert file.f0[0] == 0 and np.allclose(file.f0[1:], 220, rtol=1e-5)
    assert [entry.name for entry in files] == [files.song_of(k) for k in range(len(files))]


def test_segments_without_changes_are_parts_of_the_whole(stereo):
    whole = PitchFiles(stereo)[0]
    segment = PitchSegments(stereo, augment=None).item(5, 0)
    starts = [k for k in range(174) if np.abs(whole.mel[:, k : k + 128] - segment["mel"]).max() < 1e-4]
    assert starts and all(start >= 1 for start in starts)  # the first frame has no label
    assert (segment["f0"] > 0).all()


def test_labels_belong_to_the_frames_of_the_picture(tmp_path):
    f0 = 220 * 2 ** (np.arange(301) / 301)  # tells every frame from the others
    f0[100:140] = 0
    folder = song(tmp_path, audio=np.random.default_rng(0).uniform(-0.5, 0.5, (1, 3 * RATE)))
    write_pv(folder / "a_1_01.pv", f0)
    whole, segments = PitchFiles(folder)[0], PitchSegments(folder, augment=None, samples_per_epoch=8)
    starts = set()
    for k in range(8):
        item = segments.item(1, k)
        (start,) = (n for n in range(174) if np.abs(whole.mel[:, n : n + 128] - item["mel"]).max() < 1e-3)
        assert np.array_equal(item["f0"], whole.f0[start : start + 128])
        assert np.array_equal(item["target"], whole.target[start : start + 128])
        starts.add(start)
    assert len(starts) > 4
    assert np.allclose(whole.f0[1:], f0[1:], rtol=1e-5)


def test_longer_windows_keep_their_times(tmp_path):
    """A click sounds in the frames around it, as many before as after, whatever the key."""
    audio = np.zeros((1, 130 * 160))
    audio[0, 65 * 160] = 1
    f0 = np.zeros(131)
    f0[65] = 220
    folder = song(tmp_path, audio=audio)
    write_pv(folder / "a_1_01.pv", f0)
    augment = PitchAugment(key_shift=5, accompaniment=0, noise_level=(-9, -9), volume=(0, 0))
    segments = PitchSegments(folder, augment=augment, samples_per_epoch=10)
    for k in range(10):
        item = segments.item(0, k)
        heard = np.flatnonzero(item["mel"][60:].max(axis=0) > -8)
        assert len(heard) >= 5
        assert abs(heard.mean() - np.flatnonzero(item["f0"])[0]) < 0.01


def test_crops_reach_every_part_of_a_song(tmp_path):
    f0 = np.zeros(131)
    f0[[1, 130]] = 220
    folder = song(tmp_path, audio=tone(1.305))
    write_pv(folder / "a_1_01.pv", f0)
    segments = PitchSegments(folder, samples_per_epoch=30, augment=OFF)
    found = {tuple(np.flatnonzero(segments.item(0, k)["f0"])) for k in range(30)}
    assert found == {(0,), (), (127,)}


@pytest.mark.parametrize("channels", [1, 2])
def test_key_shift_moves_the_picture_and_the_labels_alike(tmp_path, channels):
    folder = song(tmp_path, audio=tone(3, 440, channels), f0=440.0)
    augment = PitchAugment(key_shift=5, accompaniment=0, noise_level=(-9, -9))
    segments = PitchSegments(folder, augment=augment, samples_per_epoch=12)
    for k in range(12):
        item = segments.item(0, k)
        shifted = float(item["f0"][10])
        assert 439 < shifted < 440 * 2 ** (5.01 / 12)
        assert np.allclose(to_f0(item["target"]), shifted, rtol=1e-3)
        assert abs(peak_hertz(item["mel"]) / shifted - 1) < 0.06  # bands are 30 Hz apart here
    ratio = PitchChange(3.3, 0, 0, 1, 0).ratio
    assert ratio * 1024 == round(ratio * 1024)  # windows have whole samples, and labels follow them


def test_accompaniment_is_mixed_in_by_chance_and_in_full_without_changes(stereo):
    segments = PitchSegments(stereo, augment=PitchAugment(key_shift=0, volume=(0, 0)), samples_per_epoch=20)
    levels = [segments.item(0, k)["mel"].max(axis=1)[40:60].max() for k in range(20)]
    assert np.ptp(levels) > 1  # the tone at 1 kHz comes and goes
    assert PitchSegments(stereo, augment=None).item(0, 0)["mel"].max(axis=1)[40:60].max() >= max(levels) - 0.1


def test_mono_voices_get_noise(tmp_path):
    folder = song(tmp_path)
    clean = PitchSegments(folder, augment=OFF).item(0, 0)["mel"]
    noisy = PitchSegments(folder, augment=PitchAugment(key_shift=0, noise_level=(-2, -2), volume=(0, 0))).item(0, 0)
    assert noisy["mel"][100:].mean() > clean[100:].mean() + 3


def test_volume_keeps_peaks_below_full_scale():
    augment = PitchAugment()
    for volume in (0.0, 0.5, 1.0):
        change = PitchChange(0, 0, 0, 1, volume)
        assert augment.gain(change, 0.5) * 0.5 <= 1
        assert augment.gain(change, 0.001) == pytest.approx(10 ** (-1 + 2 * volume))
    assert augment.gain(PitchChange(0, 0, 0, 1, 1.0), 0.5) == pytest.approx(2, rel=1e-4)


@pytest.mark.parametrize("samples", [0, 1, 2, 777, 4096])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_has_its_colour_and_deviation_one(samples, exponent):
    noise = coloured_noise(np.random.default_rng(3), exponent, samples)
    assert noise.shape == (samples,) and noise.dtype == np.float32 and np.isfinite(noise).all()
    if samples == 4096:
        many = np.stack([coloured_noise(np.random.default_rng(k), exponent, samples) for k in range(40)])
        power = np.mean(np.abs(np.fft.rfft(many)) ** 2, axis=0)
        slope = np.polyfit(np.log(np.arange(1, 2000)), np.log(power[1:2000]), 1)[0]
        assert slope == pytest.approx(-exponent, abs=0.1)
        assert np.sqrt(np.mean((many - many.mean(axis=1, keepdims=True)) ** 2)) == pytest.approx(1, rel=0.25)


def test_songs_shorter_than_a_segment_are_followed_by_silence(tmp_path):
    folder = song(tmp_path, audio=tone(0.5))
    item = PitchSegments(folder, augment=OFF).item(0, 0)
    assert (item["f0"][1:51] > 0).all() and (item["f0"][51:] == 0).all() and (item["target"][51:] == 0).all()
    assert item["mel"][:, 5:45].max() > 0 and item["mel"][:, 60:].max() < -8


@pytest.mark.parametrize("samples", [161, 700, 1025])
def test_very_short_songs(tmp_path, samples):
    folder = song(tmp_path, audio=tone(1)[:, :samples] + 0.1)
    assert np.isfinite(PitchSegments(folder).item(0, 0)["mel"]).all()
    assert PitchFiles(folder)[0].mel.shape == (128, samples // 160 + 1)


def test_other_hops(tmp_path):
    folder = song(tmp_path, hop=320)
    item = PitchSegments(folder, hop=320, frames=64).item(0, 0)
    assert item["mel"].shape == (128, 64) and (item["f0"] > 0).all()
    with pytest.raises(UserError, match="--hop_length"):
        PitchSegments(folder, hop=160)


def test_bells_peak_at_their_pitch():
    target = bells(np.array([0.0, 440.0, 31.7, 2005.5, 3000.0]))
    assert (target[0] == 0).all() and target[1].max() > 0.9
    assert target[2].argmax() == 0 and target[3].argmax() == 359
    assert target[4].max() < 1e-6  # above all bins
    near = target[1][target[1].argmax() + 1]
    assert np.exp(-(1.5**2) / 3.125) < near < np.exp(-(0.5**2) / 3.125)


def test_what_is_no_data_set_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="holds no songs"):
        PitchSegments(tmp_path / "train")
    folder = song(tmp_path / "a")
    (folder / "a_1_01.pv").unlink()
    with pytest.raises(UserError, match=r"a_1_01\.pv is missing"):
        PitchFiles(folder)
    with pytest.raises(UserError, match="16 kHz"):
        PitchFiles(song(tmp_path / "b", rate=8000))
    with pytest.raises(UserError, match="16 kHz"):
        PitchFiles(song(tmp_path / "c", audio=np.zeros((3, 4000))))
    with pytest.raises(UserError, match="key_shift"):
        PitchAugment(key_shift=13)
    with pytest.raises(UserError, match="volume"):
        PitchAugment(volume=(1, -1))
