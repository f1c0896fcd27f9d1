"""Pitch, tempo and alignment of what comes out of the stretcher, measured."""

import numpy as np
import pytest

from dsp.repitch import repitch
from runtime.errors import UserError

RATE = 44100


def tone(hertz: float, seconds: float = 3.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    partials = [0.3 / k * np.sin(2 * np.pi * hertz * k * time) for k in (1, 2, 3, 4)]
    return np.stack([sum(partials)] * 2).astype(np.float32)


def clicks(every: float, seconds: float = 4.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Short bursts of noise and where they begin, in samples."""
    rng = np.random.default_rng(seed)
    places = np.arange(0.5, seconds - 0.5, every) * RATE
    x = np.zeros((2, round(seconds * RATE)), np.float32)
    for place in places.astype(int):
        x[:, place : place + 1500] = rng.standard_normal(1500) * np.exp(-np.arange(1500) / 200) * 0.4
    return x, places


def frequency(x: np.ndarray, near: float) -> float:
    """The strongest frequency in Hz within a semitone of ``near``, by a parabola through the logarithms of the peak."""
    middle = x[0, RATE // 2 : -RATE // 2]
    size = 8 * len(middle)
    power = np.log(np.abs(np.fft.rfft(middle * np.hanning(len(middle)), size)) + 1e-12)
    low, high = (round(near * factor * size / RATE) for factor in (2 ** (-1 / 12), 2 ** (1 / 12)))
    k = low + int(power[low:high].argmax())
    left, peak, right = power[k - 1 : k + 2]
    return (k + 0.5 * (left - right) / (left - 2 * peak + right)) * RATE / size


def onset(x: np.ndarray, near: float) -> float:
    """Where the sound within 60 ms around ``near`` rises over a third of its peak, in samples."""
    first = round(near - 0.06 * RATE)
    loud = np.abs(x[0, first : first + round(0.12 * RATE)])
    return first + float(np.argmax(loud > loud.max() / 3))


@pytest.mark.parametrize("semitones, tempo", [(2, 0), (-2, 0), (3, -15), (-1, 7), (0, 12)])
@pytest.mark.parametrize("hertz, voice", [(55, False), (440, False), (440, True)])
def test_pitch_and_length_are_what_was_asked_for(semitones, tempo, hertz, voice):
    x = tone(hertz)
    y = repitch(x, semitones, tempo, voice)
    assert y.dtype == np.float32 and y.shape == (2, round(x.shape[1] / (1 + tempo / 100)))
    wanted = hertz * 2 ** (semitones / 12)
    assert abs(1200 * np.log2(frequency(y, wanted) / wanted)) < 2  # cents
    middle = slice(RATE // 2, -RATE // 2)
    assert y[:, middle].std() == pytest.approx(x[:, middle].std(), rel=0.03)


@pytest.mark.parametrize("semitones, tempo", [(0, 10), (2, -10), (-3, 15), (3, -12)])
def test_attacks_stay_in_time_so_that_stems_stay_together(semitones, tempo):
    drums, places = clicks(0.5)
    other = tone(110, 4.0)
    moved, voice = repitch(drums, semitones, tempo), repitch(other + drums, semitones, tempo, voice=True)
    for place in places / (1 + tempo / 100):
        assert abs(onset(moved, place) - place) < 0.005 * RATE
    lag = np.argmax([np.dot(moved[0, 500:-500], np.roll(voice[0], k)[500:-500]) for k in range(-400, 401)]) - 400
    assert abs(lag) < 0.005 * RATE


def test_nothing_to_do_changes_nothing_and_the_same_input_gives_the_same_output():
    x = np.random.default_rng(0).standard_normal((2, 20000)).astype(np.float32) * 3  # louder than full scale
    assert np.array_equal(repitch(x, 0, 0), x)
    assert np.array_equal(repitch(x, 1, 5), repitch(x, 1, 5)) and np.abs(repitch(x, 1, 5)).max() > 2
    assert repitch(x[:, :0], 1, 5).shape == (2, 0)
    assert repitch(x[:1], 1, 0).shape == (1, 20000)
    with pytest.raises(UserError, match="above -100"):
        repitch(x, 0, -100)
