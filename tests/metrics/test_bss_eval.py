"""BSS Eval v4 against the original program, rule by rule."""

import numpy as np
import pytest

from metrics.bss_eval import METRICS, bss_eval_v4, frame_slices, framewise_sdr
from metrics.museval_original import load_museval, museval_bss_eval


def song(sources=2, channels=2, length=9001, seed=0):
    """References and imperfect estimates: gain error, filtering, bleed and noise, `[S, N, C]` float32."""
    rng = np.random.default_rng(seed)
    references = rng.standard_normal((sources, length, channels)) * rng.uniform(0.05, 0.5, (sources, 1, channels))
    estimates = 0.8 * references + 0.05 * np.roll(references, 3, axis=1) + 0.1 * references.sum(0)
    estimates += 0.02 * rng.standard_normal(references.shape)
    return references.astype(np.float32), estimates.astype(np.float32)


def assert_same(mine, theirs, tolerance=1e-8):
    for name in METRICS:
        np.testing.assert_array_equal(np.isnan(mine[name]), np.isnan(theirs[name]))
        np.testing.assert_allclose(mine[name], theirs[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(("sources", "channels"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (4, 1)])
def test_equals_museval(sources, channels):
    references, estimates = song(sources, channels)
    kept = {"window": 2000, "hop": 2000, "filters_len": 128}
    mine, theirs = bss_eval_v4(references, estimates, **kept), museval_bss_eval(references, estimates, **kept)
    assert mine["SDR"].shape == (sources, 4)
    assert_same(mine, theirs)


@pytest.mark.parametrize(
    ("window", "hop"),
    [(2000, 1500), (2000, 700.5), (3000, 4000), (9001, 1000), (20000, 1000), (np.inf, np.inf), (9000, 1)],
)
def test_equals_museval_with_any_window(window, hop):
    references, estimates = song()
    kept = {"window": window, "hop": hop, "filters_len": 100}
    assert_same(bss_eval_v4(references, estimates, **kept), museval_bss_eval(references, estimates, **kept))


def test_windows_longer_than_a_block_are_filtered_in_pieces():
    references, estimates = song(length=150_001)
    kept = {"window": 140_000, "hop": 5000, "filters_len": 64}
    assert_same(bss_eval_v4(references, estimates, **kept), museval_bss_eval(references, estimates, **kept))


@pytest.mark.parametrize("length", [1, 63, 64, 500])
def test_very_short_tracks(length):
    references, estimates = song(sources=1, channels=1, length=length)
    mine = bss_eval_v4(references, estimates, 44100, 44100, filters_len=64)
    theirs = museval_bss_eval(references, estimates, 44100, 44100, filters_len=64)
    assert mine["SDR"].shape == (1, 1)
    np.testing.assert_allclose(mine["SDR"], theirs["SDR"], atol=1e-8)
    np.testing.assert_allclose(mine["ISR"], theirs["ISR"], atol=1e-6)


def test_no_samples_no_frames():
    assert bss_eval_v4(np.zeros((2, 0, 2)), np.zeros((2, 0, 2)))["SIR"].shape == (2, 0)


def test_default_window_is_a_second_with_512_taps(shared_parity):
    from tests.parity import golden

    case = golden.load(shared_parity / "metric_museval_v4.npz")
    scores = bss_eval_v4(case.inputs["references"], case.inputs["estimates"], 8000, 8000)
    for name in METRICS:
        assert case.compare(name.lower(), scores[name]).ok, name


def test_estimates_are_cut_or_filled_to_the_references():
    references, estimates = song()
    kept = {"window": 2000, "hop": 2000, "filters_len": 64}
    longer = np.concatenate([estimates, estimates], axis=1)
    assert_same(bss_eval_v4(references, longer, **kept), bss_eval_v4(references, estimates, **kept), 0)
    shorter, filled = estimates[:, :5000], estimates.copy()
    filled[:, 5000:] = 0
    assert_same(bss_eval_v4(references, shorter, **kept), bss_eval_v4(references, filled, **kept), 0)
    assert np.isnan(bss_eval_v4(references, shorter, **kept)["SDR"][:, 3]).all()


def test_a_silent_source_blanks_the_frame_for_all():
    references, estimates = song(sources=3)
    references[1, 2000:4000] = 0
    estimates[0, 6000:8000, 1] = -estimates[0, 6000:8000, 0]  # channels that cancel count as silence in museval
    kept = {"window": 2000, "hop": 2000, "filters_len": 64}
    mine = bss_eval_v4(references, estimates, **kept)
    assert_same(mine, museval_bss_eval(references, estimates, **kept))
    np.testing.assert_array_equal(np.isnan(mine["SAR"]), np.tile([False, True, False, True], (3, 1)))


@pytest.mark.parametrize("which", ["reference", "estimate"])
@pytest.mark.parametrize("evaluate", [bss_eval_v4, museval_bss_eval])
def test_a_source_silent_throughout_makes_everything_nan(which, evaluate):
    references, estimates = song()
    (references if which == "reference" else estimates)[0] = 0
    scores = evaluate(references, estimates, 2000, 2000, 64)
    assert all(np.isnan(scores[name]).all() and scores[name].shape == (2, 4) for name in METRICS)


def test_a_silent_channel_is_no_silence():
    references, estimates = song()
    references[:, :, 1] = 0
    kept = {"window": 2000, "hop": 2000, "filters_len": 64}
    assert_same(bss_eval_v4(references, estimates, **kept), museval_bss_eval(references, estimates, **kept))


def test_perfect_estimates():
    references, _ = song()
    scores = bss_eval_v4(references, references, 2000, 2000, 64)
    assert np.isposinf(scores["SDR"]).all()
    assert all((scores[name] > 100).all() for name in METRICS)


def test_near_perfect_estimates():
    references, _ = song()
    estimates = references + 1e-4 * np.random.default_rng(1).standard_normal(references.shape)
    kept = {"window": 2000, "hop": 2000, "filters_len": 64}
    assert_same(bss_eval_v4(references, estimates, **kept), museval_bss_eval(references, estimates, **kept), 1e-6)


def test_repeated_channels_project_like_one():
    """The normal equations are singular then; the projection is not."""
    references, estimates = song(channels=1)
    twice = bss_eval_v4(references.repeat(2, 2), estimates.repeat(2, 2), 2000, 2000, 64)
    assert_same(twice, bss_eval_v4(references, estimates, 2000, 2000, 64), 1e-6)


def test_repeated_sources_leave_artifacts_defined():
    references, estimates = song(channels=1)
    same = np.stack([references[0], references[0]])
    alone = [bss_eval_v4(references[:1], estimates[j : j + 1], 2000, 2000, 64)["SAR"][0] for j in range(2)]
    np.testing.assert_allclose(bss_eval_v4(same, estimates, 2000, 2000, 64)["SAR"], alone, atol=1e-6)


def test_mono_without_channel_axis():
    references, estimates = song(channels=1)
    flat = bss_eval_v4(references[..., 0], estimates[..., 0], 2000, 2000, 64)
    assert_same(flat, bss_eval_v4(references, estimates, 2000, 2000, 64), 0)


def test_order_of_sources_does_not_matter():
    references, estimates = song(sources=3)
    forwards, backwards = (bss_eval_v4(references[::s], estimates[::s], 2000, 2000, 64) for s in (1, -1))
    assert_same(forwards, {name: values[::-1] for name, values in backwards.items()}, 1e-6)


def test_framewise_sdr_needs_no_projection():
    references, estimates = song()
    alone = [framewise_sdr(r, e, 2000, 1500) for r, e in zip(references, estimates, strict=True)]
    np.testing.assert_allclose(alone, bss_eval_v4(references, estimates, 2000, 1500, 64)["SDR"], rtol=1e-12)


def test_framewise_sdr_knows_silence():
    references, estimates = song()
    references[0, 2000:4000] = 0
    values = framewise_sdr(references[0], estimates[0], 2000, 2000)
    np.testing.assert_array_equal(np.isnan(values), [False, True, False, False])


@pytest.mark.parametrize(
    ("references", "estimates", "part"),
    [
        (np.ones((2, 9, 2)), np.ones((3, 9, 2)), "sources"),
        (np.ones((2, 9, 2)), np.ones((2, 9, 1)), "channels"),
        (np.ones((1, 2, 9, 2)), np.ones((1, 2, 9, 2)), r"\[sources, samples, channels\]"),
        (np.full((2, 9, 2), np.nan), np.ones((2, 9, 2)), "references"),
        (np.ones((2, 9, 2)), np.full((2, 9, 2), np.inf), "estimates"),
    ],
)
def test_input_that_does_not_fit(references, estimates, part):
    with pytest.raises(ValueError, match=part):
        bss_eval_v4(references, estimates)


def test_frames():
    assert frame_slices(10, 4, 3) == [slice(0, 4), slice(3, 7), slice(6, 10)]
    assert frame_slices(9, 4, 2.5) == [slice(0, 4), slice(2, 6), slice(5, 9)]
    assert frame_slices(9, 9, 1) == frame_slices(9, np.inf, np.inf) == [slice(0, 9)]
    with pytest.raises(ValueError, match="positive"):
        frame_slices(9, 0, 1)


def test_the_original_leaves_numpy_alone():
    load_museval()
    assert "museval" not in vars(np.linalg)
    assert load_museval().np.linalg.linalg.LinAlgError is np.linalg.LinAlgError


@pytest.mark.parametrize("name", ["A Classic Education - NightOwl"])
def test_equals_museval_on_music(shared_audio, name):
    """As close as museval is to itself with the channels swapped: coded music is nearly singular above its band."""
    mixture, *stems = decode(shared_audio / "stems/musdb18-7-cc/train" / f"{name}.stem.mp4")
    drums, bass, other, vocals = stems
    references = np.stack([vocals, drums + bass + other])
    estimates = 0.7 * references + 0.2 * mixture
    estimates += 0.003 * np.random.default_rng(0).standard_normal(references.shape).astype(np.float32)
    mine, theirs = bss_eval_v4(references, estimates), museval_bss_eval(references, estimates)
    swapped = museval_bss_eval(references[..., ::-1].copy(), estimates[..., ::-1].copy())
    for metric in METRICS:
        noise = np.abs(theirs[metric] - swapped[metric]).max()
        assert np.abs(mine[metric] - theirs[metric]).max() <= 1e-3 + 3 * noise


def decode(path):
    """All streams of a stem file as `[N, 2]` float32."""
    av = pytest.importorskip("av")
    streams = []
    for index in range(5):
        with av.open(str(path)) as container:
            blocks = [frame.to_ndarray() for frame in container.decode(audio=index)]
        streams.append(np.concatenate(blocks, axis=1).T.astype(np.float32))
    shortest = min(map(len, streams))
    return [stream[:shortest] for stream in streams]
