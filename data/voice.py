"""Sung voices made of numbers, with accompaniment, their pitch known at every sample.

    python -m data.voice FOLDER --songs 24 --seconds 10 --seed 0 --test 4

writes a data set for pitch networks (`data.pitch_segments`): `FOLDER/{train,test}/VOICE_SONG_1.wav`, 16 kHz with the
accompaniment in the first channel and the voice in the second, and `.pv` beside it. The voices of `test` do not sing in
`train`. A voice is a sum of partials at multiples of f0 with the strengths that the formants of its vowels give them
(additive synthesis), so that nothing is between what is sung and what is noted down: no filter's delay, no estimate.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import synthesis
from data.pitch_labels import SAMPLE_RATE, frames_of, write_pv
from data.synthesis import CONSONANTS, CONTROL_HZ, VOWELS, Score, smooth, to_audio_rate
from data.synthetic import band, level
from runtime import console
from runtime.errors import UserError
from runtime.files import require_space

PEAK = 0.89  # of the louder of the mixture and its two parts
VOICED = 0.1  # share of a note's loudness from which on it counts as voiced
GRID_HZ = 10.0  # spacing of the table of formants
SHAPES = (*VOWELS.values(), *CONSONANTS.values())


@dataclass(frozen=True)
class Singer:
    """What makes a voice.

    Args:
        name: of the voice
        centre: MIDI number of the middle of its range
        head: factor of all formants, below 1 for a large head
        slope: partial k has the strength 1 / k^slope before the formants
        breath: noise in its vowels
        vibrato: rate in Hz and greatest depth in semitones
        glide: seconds from note to note
        legato: share of the notes that begin without a consonant
    """

    name: str
    centre: float
    head: float
    slope: float
    breath: float
    vibrato: tuple[float, float]
    glide: float
    legato: float


@dataclass(frozen=True)
class SungSong:
    """`audio` int16 `[2, N]` (accompaniment, voice) at 16 kHz; `f0` float32 `[N]`: Hz of every sample (0: unvoiced)."""

    audio: np.ndarray
    f0: np.ndarray
    singer: Singer


def singer(seed: int, number: int) -> Singer:
    """Voice number `number` of a seed. Registers go in turn from bass to soprano, everything else is drawn."""
    rng = np.random.default_rng([seed, 1, number])
    register = (number * 0.618 + 0.2) % 1  # the golden section spreads any number of voices evenly
    return Singer(
        name=f"voice{number:02d}",
        centre=47 + 23 * register + rng.uniform(-1, 1),
        head=0.88 + 0.25 * register + rng.uniform(-0.05, 0.05),
        slope=rng.uniform(0.8, 1.4),
        breath=float(10 ** rng.uniform(-2.2, -1.1)),
        vibrato=(rng.uniform(4.8, 6.8), rng.uniform(0.0, 0.9)),
        glide=rng.uniform(0.05, 0.16),
        legato=rng.uniform(0.2, 0.6),
    )


def make_song(seconds: float, seed: int, number: int, voice: Singer) -> SungSong:
    """Compose, sing and play one song; the same arguments give the same samples. UserError below half a second."""
    if seconds < 0.5:
        raise UserError(f"a sung song of {seconds:g} s: at least 0.5 s are needed")
    rng = np.random.default_rng([seed, 2, number])
    score = synthesis.compose(rng, seconds, SAMPLE_RATE)
    sung, f0 = sing(rng, voice, score)
    backing = level(sum(band(rng, score).values()).mean(axis=0))
    parts = np.stack([backing, level(sung) * 10 ** (rng.uniform(-3, 5) / 20)])
    loudest = max(float(np.abs(part).max()) for part in (*parts, parts.sum(axis=0)))
    return SungSong(np.rint(parts * (PEAK * 32768 / max(loudest, 1e-9))).astype(np.int16), f0, voice)


def sing(rng: np.random.Generator, voice: Singer, score: Score) -> tuple[np.ndarray, np.ndarray]:
    """A melody: waveform float32 `[N]` and the f0 of every sample, float32 `[N]` in Hz, 0 where nothing is voiced."""
    length = int(np.ceil(score.seconds * CONTROL_HZ)) + 1
    notes = synthesis.melody(rng, score, voice.centre) or [(0.0, score.seconds, round(voice.centre))]
    pitch, since = np.full(length, float(notes[0][2])), np.zeros(length)
    loud, hiss, shape = np.zeros(length), np.zeros(length), np.zeros((length, len(SHAPES)))
    ended = -1.0
    for start, end, note in notes:
        a, b = (min(round(second * CONTROL_HZ), length) for second in (start, end))
        fresh = start - ended > 0.15  # after a rest
        gap = 0 if rng.random() < voice.legato and not fresh else round(rng.uniform(0.04, 0.12) * CONTROL_HZ)
        c = min(a + gap, b)
        pitch[a:] = note
        if fresh:  # the first note of a phrase is often reached from below
            pitch[a:] -= _scoop(rng, length - a)
        since[a:b] = np.arange(b - a) / CONTROL_HZ
        loud[c:b] = rng.uniform(0.45, 1.0) * (1 - 0.25 * np.linspace(0, 1, b - c))
        hiss[a:c] = rng.uniform(0.05, 0.3)
        shape[a:c, len(VOWELS) + rng.integers(len(CONSONANTS))] = 1
        shape[c:b, rng.integers(len(VOWELS))] = 1
        ended = end
    shape[shape.sum(axis=1) == 0, -1] = 1  # rests: the shape of breath
    curve = smooth(pitch, voice.glide) + _vibrato(rng, voice, since)
    f0 = np.clip(synthesis.hertz(curve), 62.0, 1100.0)
    envelope = smooth(loud, rng.uniform(0.03, 0.06))
    voiced = envelope >= VOICED * np.maximum(loud.max(), 1e-9)
    tremor = 1 + 0.06 * smooth(rng.standard_normal(length), 0.08)
    shape = np.stack([smooth(column, 0.05) for column in shape.T], axis=1)
    frequency = to_audio_rate(f0, score.samples, score.sample_rate)
    sounding = to_audio_rate(voiced.astype(float), score.samples, score.sample_rate) >= 0.5
    wave = _partials(voice, score, f0, np.where(voiced, envelope, 0) * tremor, shape, frequency)
    wave += _noise(rng, voice, score, envelope, smooth(hiss, 0.02), shape)
    return wave, np.where(sounding, frequency, 0).astype(np.float32)


def _scoop(rng: np.random.Generator, length: int) -> np.ndarray:
    """Semitones below the note that fade within a tenth of a second or two."""
    depth, fade = rng.uniform(0, 2.5), rng.uniform(0.04, 0.12)
    return depth * np.exp(-np.arange(length) / (fade * CONTROL_HZ))


def _vibrato(rng: np.random.Generator, voice: Singer, since: np.ndarray) -> np.ndarray:
    """Semitones around the note: vibrato that grows with the note, slow drift, and a tremble."""
    length = len(since)
    rate = voice.vibrato[0] + 0.4 * smooth(rng.standard_normal(length), 0.5)
    depth = voice.vibrato[1] * np.clip((since - 0.15) / 0.3, 0, 1)
    drift, tremble = (smooth(rng.standard_normal(length), seconds) for seconds in (0.35, 0.03))
    return depth * np.sin(2 * np.pi * np.cumsum(rate) / CONTROL_HZ) + 0.25 * drift + 0.05 * tremble


def _partials(voice: Singer, score: Score, f0, loudness, shape, frequency) -> np.ndarray:
    """Sum of the partials below 0.45 of the rate. `f0`, `loudness`, `shape [c, K]` at control rate, `frequency [N]`."""
    grid = np.arange(0, score.sample_rate / 2 + GRID_HZ, GRID_HZ)
    formants = np.log(np.stack([synthesis.peaks(form, grid, voice.head) for form in SHAPES]))  # [K, F]
    response = np.exp(shape @ formants).astype(np.float32)  # [c, F]
    turn = np.exp(2j * np.pi * np.cumsum(frequency) / score.sample_rate)
    phase, wave, rows = np.ones(score.samples, np.complex128), np.zeros(score.samples), np.arange(len(f0))
    for k in range(1, int(0.45 * score.sample_rate / f0.min()) + 1):
        phase *= turn
        place = np.minimum((k * f0 / GRID_HZ).round().astype(int), len(grid) - 1)
        fade = np.clip((0.45 * score.sample_rate - k * f0) / 200, 0, 1)
        strength = loudness * fade * response[rows, place] * k**-voice.slope
        wave += phase.imag * to_audio_rate(strength, score.samples, score.sample_rate)
    return level(wave).astype(np.float32)


def _noise(rng: np.random.Generator, voice: Singer, score: Score, envelope, hiss, shape) -> np.ndarray:
    """Consonants, and the breath in the vowels."""
    size, hop = 1024, 256
    noise = rng.standard_normal(score.samples, dtype=np.float32)
    noise = noise * to_audio_rate(voice.breath * envelope + hiss, score.samples, score.sample_rate).astype(np.float32)
    frames = int(np.ceil(score.samples / hop)) + size // hop
    at = np.clip((np.arange(frames) * hop / score.sample_rate * CONTROL_HZ).astype(int), 0, len(shape) - 1)
    grid = np.fft.rfftfreq(size, 1 / score.sample_rate)
    shapes = np.stack([synthesis.peaks(form, grid, voice.head) for form in SHAPES])
    return synthesis.filter_moving(noise, shape[at], shapes, size, hop).astype(np.float32)


# -------------------------------------------------------------------------------------------------------------- writing


def write(
    folder: str | Path,
    songs: int,
    seconds: float,
    seed: int,
    hop: int = 160,
    test: int | None = None,
    singers: int = 8,
) -> list[Path]:
    """Write `songs` songs of `seconds` seconds to `folder/{train,test}` and return their wav files.

    The last `test` songs (a fifth if None) go to `test`. `singers` voices take turns in `train`; as many others, none
    of which is heard there, sing in `test`. Files appear whole, a `.pv` before its wav; those of these names are
    replaced.

    Raises:
        UserError: numbers that leave nothing to sing, or no room on the disk
    """
    from dsp.audio import AudioWriter

    test = songs // 5 if test is None else test
    if songs < 1 or not 0 <= test <= songs or singers < 1 or hop < 1:
        raise UserError(f"{songs} songs by {singers} voices of which {test} are for test: that cannot be")
    require_space(folder, round(songs * seconds * SAMPLE_RATE) * 4, f"writing {songs} sung songs")
    paths = []
    for number in range(songs):
        split = "test" if number >= songs - test else "train"
        voice = singer(seed, number % singers + (singers if split == "test" else 0))
        song = make_song(seconds, seed, number, voice)
        path = Path(folder) / split / f"{voice.name}_{number}_1.wav"
        at = np.minimum(np.arange(frames_of(song.audio.shape[1], hop)) * hop, song.audio.shape[1] - 1)
        write_pv(path.with_suffix(".pv"), song.f0[at])
        with AudioWriter(path, SAMPLE_RATE, 2) as file:
            file.write(song.audio.astype(np.float32) / 32768)
        paths.append(path)
    return paths


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m data.voice", description="Write songs with their pitch.")
    parser.add_argument("folder", type=Path, help="data set folder to write to")
    parser.add_argument("--songs", type=int, default=24, help="number of songs (default 24)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each song in s (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="songs of another seed are other songs (default 0)")
    parser.add_argument("--hop_length", type=int, default=160, help="samples from label to label (default 160)")
    parser.add_argument("--test", type=int, help="how many of them go to the test split (default a fifth)")
    parser.add_argument("--singers", type=int, default=8, help="voices of each split (default 8)")
    args = parser.parse_args(argv)
    paths = write(args.folder, args.songs, args.seconds, args.seed, args.hop_length, args.test, args.singers)
    console.log(f"{len(paths)} songs of {args.seconds:g} s written to {args.folder}")
    return 0


if __name__ == "__main__":
    console.run(main)
