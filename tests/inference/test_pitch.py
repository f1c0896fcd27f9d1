"""Pitch tracking: times, streams, chunks, decoding, and planning; with networks that need no training."""

import numpy as np
import paddle
import pytest

import inference.pitch as pitch_module
import models
from dsp.mel import LogMel
from dsp.resample import torchaudio_resample
from dsp.salience import PathStream, to_f0
from inference import pitch_decoding, pitch_planning
from inference.pitch import PitchTrack, PitchTracker, joined
from inference.pitch_front import MelStream, SincStream
from models.tensors import tensors
from pretrained import rmvpe
from pretrained.loading import reference_state
from runtime import checkpoint
from runtime.errors import UserError
from tests.pretrained import torch_writer

SMALL = {"n_blocks": 1, "inter_layers": 1, "en_out_channels": 2}
CONFIG = dict(models.describe("rmvpe").config)


@pytest.fixture(autouse=True)
def cpu():
    paddle.set_device("cpu")


@pytest.fixture(scope="module")
def network():
    model = models.create("rmvpe", **SMALL, seed=3)
    model.eval()
    return model


class Loudness(paddle.nn.Layer):
    """Says that bin 100 is sung as loudly as the frame is; remembers how many frames it was shown at once."""

    def __init__(self, context=None):
        super().__init__()
        self.description, self.seen = models.describe("rmvpe"), []

    def forward(self, mel):
        self.seen.append(mel.shape[2])
        energy = (mel.mean(axis=1) + 12) / 24  # the floor of the logarithm is -11.5
        bins = paddle.nn.functional.one_hot(paddle.to_tensor([100]), 360)
        return energy.clip(0, 1).unsqueeze(-1) * bins


def noise(channels, samples, seed=0):
    return (np.random.default_rng(seed).standard_normal((channels, samples)) * 0.1).astype(np.float32)


def cut(x, size):
    return (x[:, start : start + size] for start in range(0, x.shape[1], size))


def track(model, x, rate=16000, size=5000, **options):
    return PitchTracker.from_model(model, **options).track(cut(x, size), rate)


def cents(one, other):
    return 1200 * np.log2(one / other)


# ---------------------------------------------------------------------------------------------------------------- front


@pytest.mark.parametrize("hop", [160, 441, 1300])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("samples", [0, 1, 300, 513, 1600, 30001])
def test_frames_are_those_of_the_whole_song(rate, hop, samples):
    x = noise(2, samples)
    found = []
    for size in (777, 10**6):
        stream = MelStream(rate, CONFIG, hop)
        found.append(np.concatenate([*map(stream.push, cut(x, size)), stream.finish()], axis=1))
    np.testing.assert_array_equal(*found)
    whole = torchaudio_resample(x.mean(axis=0), rate, 16000)
    expected = LogMel(hop_length=hop)(whole) if samples else np.zeros((128, 0))
    assert found[0].shape == expected.shape
    np.testing.assert_allclose(found[0], expected, atol=2e-3)


@pytest.mark.parametrize("rates", [(44100, 16000), (48000, 16000), (8000, 16000), (11025, 16000), (96000, 16000)])
@pytest.mark.parametrize("samples", [0, 1, 5000, 70001])
def test_resampling_in_blocks(rates, samples):
    x = noise(1, samples)[0]
    stream = SincStream(*rates)
    found = np.concatenate([*(stream.push(x[i : i + 999]) for i in range(0, samples, 999)), stream.push(x[:0], True)])
    expected = torchaudio_resample(x, *rates)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44099, 44100, 48000])
@pytest.mark.parametrize("hop", [100, 160, 441])
def test_a_frame_is_where_its_time_says(rate, hop):
    x = np.zeros((1, 3 * rate), np.float32)
    frames = np.array([40, 90])
    x[0, np.round(frames * hop / 16000 * rate).astype(int)] = 1
    found = track(Loudness(), x, rate, hop=hop)
    np.testing.assert_allclose(found.times, np.arange(len(found)) * hop / 16000, atol=1e-12)
    loud = found.confidence
    for frame in frames:
        near = slice(frame - 25 * 160 // hop, frame + 25 * 160 // hop + 1)
        weights = loud[near] - loud[near].min()
        assert abs((weights * found.times[near]).sum() / weights.sum() - frame * hop / 16000) < 0.0005


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("samples", [0, 1, 2, 159, 160, 4000])
def test_any_length(network, rate, samples):
    found = track(network, noise(1, samples), rate)
    assert len(found) == (-(-samples * 16000 // rate) // 160 + 1 if samples else 0)
    assert found.times.shape == found.f0.shape == found.confidence.shape


def test_channels_are_averaged(network):
    x = noise(3, 8000)
    np.testing.assert_array_equal(track(network, x).f0, track(network, x.mean(axis=0, keepdims=True)).f0)


# --------------------------------------------------------------------------------------------------------------- chunks


@pytest.mark.parametrize("viterbi", [False, True])
def test_blocks_do_not_matter_and_chunks_hardly(network, monkeypatch, viterbi):
    x = noise(1, 16000 * 25)
    monkeypatch.setattr(pitch_module, "CHUNK", 1024)
    one, other = (track(network, x, size=size, viterbi=viterbi) for size in (3001, 10**7))
    np.testing.assert_array_equal(one.f0, other.f0)
    np.testing.assert_array_equal(one.confidence, other.confidence)
    monkeypatch.setattr(pitch_module, "CHUNK", 10**6)
    whole = track(network, x, viterbi=viterbi)
    assert len(whole) == len(one) == 2501
    np.testing.assert_array_equal(whole.voiced, one.voiced)
    assert np.abs(cents(one.f0[one.voiced], whole.f0[one.voiced])).max() < 1
    np.testing.assert_allclose(one.confidence, whole.confidence, atol=1e-5)


def test_memory_does_not_grow():
    model = Loudness()
    stream = PitchTracker.from_model(model).stream(16000)
    given = sum(len(stream.push(noise(1, 16000))) for _ in range(150))
    assert given >= 15001 - 2 * pitch_module.CHUNK
    assert max(model.seen) <= pitch_module.CHUNK + 2 * 256
    assert given + len(stream.finish()) == 15001
    assert max(model.seen) <= 2 * pitch_module.CHUNK + 2 * 256


@pytest.mark.parametrize("sharpness", [8, 60])
def test_paths_come_out_as_they_settle(sharpness):
    salience = np.random.default_rng(0).random((4000, 360), np.float32) ** sharpness
    decoder = pitch_decoding.PathDecoder(0.03)
    pieces = [decoder.push(salience[start : start + 170]) for start in range(0, 4000, 170)]
    assert sum(map(len, pieces)) > 1500
    np.testing.assert_array_equal(np.concatenate([*pieces, decoder.finish()]), to_f0(salience, viterbi=True))


def test_paths_through_silence_do_not_wait_for_ever():
    stream = PathStream(limit=400)
    waiting, taken = 0, []
    for _ in range(30):
        taken.append(stream.push(np.full((100, 360), 0.5, np.float32)))
        waiting += 100 - len(taken[-1])
        assert waiting <= 400
    taken.append(stream.finish())
    assert sum(map(len, taken)) == 3000


def test_the_threshold_decides_what_is_voiced(network):
    x = noise(1, 16000)
    confidence = track(network, x).confidence
    limit = float(np.median(confidence))
    np.testing.assert_array_equal(track(network, x, threshold=limit).voiced, confidence >= np.float32(limit))
    assert not track(network, x, threshold=1).voiced.any()


# --------------------------------------------------------------------------------------------------------------- wishes


@pytest.mark.parametrize(("options", "said"), [({"threshold": 3}, "no salience"), ({"hop": 0}, "at least 1")])
def test_wrong_options(network, options, said):
    with pytest.raises(UserError, match=said):
        PitchTracker.from_model(network, **options)


def test_wrong_blocks(network):
    stream = PitchTracker.from_model(network).stream(16000)
    with pytest.raises(UserError, match="not numbers"):
        stream.push(np.full((1, 10), np.nan, np.float32))
    with pytest.raises(ValueError, match="full scale"):
        stream.push(np.zeros((1, 10), np.int16))
    with pytest.raises(ValueError, match="axes"):
        stream.push(np.zeros(10, np.float32))


def test_pieces_join():
    assert len(joined([])) == 0
    one = PitchTrack([0, 0.01], [0, 100], [0.1, 0.2])
    both = joined([one, PitchTrack([0.02], [110], [0.3])])
    assert both.f0.tolist() == [0, 100, 110]
    assert both.step == pytest.approx(0.01)


# ------------------------------------------------------------------------------------------------------------- planning


def saved(folder, model, step=1.0):
    arrays = {name: value.numpy() for name, value in tensors(model).items()}
    state = {"step": 1, "network": "rmvpe", "config": {"network": "rmvpe", "model": SMALL}, "saved_at": step}
    return checkpoint.save(folder, {"model": arrays}, state)


def test_own_runs_and_files_of_the_originals(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = saved(tmp_path / "runs" / "Hybrid" / "rmvpe" / "tiny" / "0a1b2c3d" / "best", network).parents[1]
    state = reference_state(network)
    torch_writer.save({"model": state}, tmp_path / "model.pt")
    half = {name: value.astype("float16") for name, value in state.items() if not name.startswith("unet.tf.")}
    torch_writer.save(half, tmp_path / "rmvpe.pt")
    x = noise(1, 8000)
    expected = track(network, x)
    for weights in (None, str(run), tmp_path / "model.pt"):
        found = PitchTracker(weights, "cpu").track([x], 16000)
        np.testing.assert_array_equal(found.f0, expected.f0)
    near = PitchTracker("rmvpe.pt", "cpu").track([x], 16000)
    np.testing.assert_allclose(near.confidence, expected.confidence, atol=5e-3)
    assert pitch_planning.plan("rmvpe.pt").model == SMALL


def test_weights_that_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODEL_PATH", raising=False)
    with pytest.raises(UserError, match=f"downloading is off.*{rmvpe.SHA256}"):
        pitch_planning.plan(offline=True)
    with pytest.raises(UserError, match="no file or folder gone"):
        pitch_planning.plan("gone/model.pt")
    with pytest.raises(UserError, match="follows no pitch"):
        pitch_planning.plan("spleeter_2stems")
    with pytest.raises(UserError, match="no published weights for rmvpe_e2e"):
        pitch_planning.plan("rmvpe_e2e", offline=True)
    torch_writer.save({"a": np.zeros(3, np.float32)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="do not fit"):
        PitchTracker("other.pt", "cpu")
