"""Instruments made of numbers: a singing voice, drums, a bass line, pads and plucks.

Everything here maps a random generator and a `Score` to float32 waveforms; `data.synthetic` turns them into songs.
The sounds follow textbook recipes: a source-filter voice (glottal pulses through vowel formants, noise for the
consonants), swept sines and filtered noise for the drums, band-limited wavetables for everything tuned.
"""

from dataclasses import dataclass

import numpy as np

CONTROL_HZ = 200  # rate of pitch and loudness curves; every second value is the 10 ms f0 track
TABLE = 8192  # samples in one period of a wavetable
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 3), (0, 2, 3, 4), (3, 4, 0, 5))

# (frequency Hz, bandwidth Hz, gain) of the first four formants of five vowels, near the classic averages for adults
VOWELS = {
    "a": ((730, 90, 1.0), (1120, 110, 0.55), (2450, 150, 0.16), (3400, 250, 0.10)),
    "e": ((500, 70, 1.0), (1850, 120, 0.35), (2500, 160, 0.18), (3500, 250, 0.10)),
    "i": ((300, 60, 1.0), (2250, 140, 0.28), (3000, 180, 0.20), (3600, 250, 0.10)),
    "o": ((500, 70, 1.0), (880, 90, 0.50), (2450, 150, 0.08), (3300, 250, 0.06)),
    "u": ((320, 60, 1.0), (800, 90, 0.25), (2300, 150, 0.05), (3200, 250, 0.04)),
}
# the same for noise: s, sh, and breath
CONSONANTS = {
    "s": ((7200, 2600, 1.0),),
    "sh": ((3300, 1500, 1.0), (5500, 2500, 0.5)),
    "h": ((1500, 2200, 0.6), (3200, 2500, 0.5)),
}


@dataclass(frozen=True)
class Score:
    """What all instruments of a song agree on. `chords` holds one tuple of MIDI notes a bar, its root first."""

    sample_rate: int
    samples: int
    beat: float  # seconds
    scale: tuple[int, ...]  # MIDI pitch classes
    chords: tuple[tuple[int, ...], ...]
    key: str

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate

    def chord_at(self, second: float) -> tuple[int, ...]:
        return self.chords[int(second / (4 * self.beat)) % len(self.chords)]


def compose(rng: np.random.Generator, seconds: float, sample_rate: int) -> Score:
    """Choose key, tempo and chords."""
    tonic, mode = int(rng.integers(12)), str(rng.choice(list(SCALES)))
    steps = SCALES[mode]
    progression = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    ladder = [tonic + step + octave for octave in (0, 12) for step in steps]
    chords = tuple(tuple(ladder[root + third] for third in (0, 2, 4)) for root in progression)
    names = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
    scale = tuple((tonic + step) % 12 for step in steps)
    beat = 60 / float(rng.uniform(76, 138))
    return Score(sample_rate, round(seconds * sample_rate), beat, scale, chords, f"{names[tonic]} {mode}")


def hertz(midi):
    """Frequency in Hz of MIDI note numbers."""
    return 440.0 * 2.0 ** ((np.asarray(midi, dtype=np.float64) - 69) / 12)


def wavetable(partials: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """One period with the given amplitudes of partials 1, 2, …; phases are random with `rng`, else those of a pulse."""
    spectrum = np.zeros(TABLE // 2 + 1, dtype=np.complex128)
    phase = np.zeros(len(partials)) if rng is None else rng.uniform(0, 2 * np.pi, len(partials))
    spectrum[1 : len(partials) + 1] = partials * np.exp(1j * phase)
    wave = np.fft.irfft(spectrum)
    return (wave / np.sqrt(np.mean(wave**2) + 1e-20)).astype(np.float32)


def oscillate(table: np.ndarray, frequency: np.ndarray, sample_rate: int, phase: float = 0.0) -> np.ndarray:
    """Play a wavetable at a frequency (Hz) given for every sample."""
    turns = np.cumsum(frequency, dtype=np.float64) / sample_rate + phase
    return table[((turns - np.floor(turns)) * TABLE).astype(np.int32) % TABLE]


def smooth(curve: np.ndarray, seconds: float, rate: float = CONTROL_HZ) -> np.ndarray:
    """Convolve a control curve with a Hann window of the given length, the ends held."""
    width = max(int(seconds * rate) | 1, 3)
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(curve, width // 2, mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")


def to_audio_rate(curve: np.ndarray, samples: int, sample_rate: int) -> np.ndarray:
    """Control curve, linearly interpolated at every sample."""
    return np.interp(np.arange(samples) * (CONTROL_HZ / sample_rate), np.arange(len(curve)), curve)


# ---------------------------------------------------------------------------------------------------------------- voice


def peaks(formants, frequencies: np.ndarray, scale: float) -> np.ndarray:
    """Magnitude response [F] of parallel resonances; `scale` moves them all, as the size of a head does."""
    total = np.full(len(frequencies), 1e-3)
    for centre, width, gain in formants:
        total += gain / np.sqrt(1 + ((frequencies - centre * scale) / (0.5 * width)) ** 2)
    return total


def filter_moving(x: np.ndarray, weights: np.ndarray, shapes: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Filter with a response that changes from frame to frame: weights `[T, K]` mix log responses `[K, F]`."""
    frames = len(weights)
    padded = np.zeros((frames - 1) * hop + size, dtype=np.float32)
    padded[size // 2 : size // 2 + len(x)] = x
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    out = np.zeros_like(padded)
    for first in range(0, frames, 256):  # bounds the memory of long songs
        rows = range(first, min(first + 256, frames))
        cut = np.stack([padded[row * hop : row * hop + size] for row in rows])  # [T, size]
        response = np.exp(weights[rows.start : rows.stop].astype(np.float32) @ np.log(shapes).astype(np.float32))
        cut = np.fft.irfft(np.fft.rfft(cut * window) * response, n=size).astype(np.float32) * window
        for row, piece in zip(rows, cut, strict=True):
            out[row * hop : row * hop + size] += piece
    return out[size // 2 : size // 2 + len(x)] / 1.5  # Hann² at 75 % overlap adds up to 1.5


def sing(rng: np.random.Generator, score: Score) -> tuple[np.ndarray, np.ndarray]:
    """A sung melody without words: mono waveform `[N]` and its f0 `[10 ms]` in Hz, 0 where nothing is voiced."""
    length = int(np.ceil(score.seconds * CONTROL_HZ)) + 1
    centre = float(rng.choice([52.0, 57.0, 62.0, 66.0])) + rng.uniform(-1.5, 1.5)
    notes = melody(rng, score, centre)
    pitch, voiced, hiss = np.full(length, centre), np.zeros(length), np.zeros(length)
    shape = np.zeros((length, len(VOWELS) + len(CONSONANTS)))
    since = np.zeros(length)  # seconds since the start of the note, for the vibrato to grow
    pitch[: round(notes[0][0] * CONTROL_HZ) if notes else 0] = notes[0][2] if notes else centre
    for start, end, midi in notes:
        a, b = (min(round(second * CONTROL_HZ), length) for second in (start, end))
        consonant = round(rng.uniform(0.04, 0.1) * CONTROL_HZ) if rng.random() < 0.6 else 0
        c = min(a + consonant, b)
        pitch[a:] = midi
        since[a:b] = np.arange(b - a) / CONTROL_HZ
        hiss[a:c] = rng.uniform(0.1, 0.3)
        voiced[c:b] = rng.uniform(0.7, 1.0)
        shape[a:c] = np.eye(shape.shape[1])[len(VOWELS) + rng.integers(len(CONSONANTS))]
        shape[c:b] = np.eye(shape.shape[1])[rng.integers(len(VOWELS))]
    shape[shape.sum(axis=1) == 0, len(VOWELS) + 2] = 1  # rests: the shape of breath
    f0 = hertz(smooth(pitch, rng.uniform(0.06, 0.14)) + _vibrato(rng, since))
    track = np.where(voiced > 0, f0, 0.0)[::2]
    loudness = smooth(voiced, 0.04) * (1 + 0.08 * smooth(rng.standard_normal(length), 0.1))
    return _voice(rng, score, f0, loudness, smooth(hiss, 0.02), shape), track


def melody(rng: np.random.Generator, score: Score, centre: float) -> list[tuple[float, float, float]]:
    """Phrases of (start s, end s, MIDI note): a walk on the scale that likes the notes of the chord, with rests."""
    eighth, notes = score.beat / 2, []
    now = min(eighth * rng.integers(0, 4), score.seconds / 10)
    here = centre
    while now < score.seconds:
        phrase_end = now + score.beat * rng.integers(5, 10)
        while now < min(phrase_end, score.seconds):
            span = eighth * rng.choice([1, 1, 2, 2, 3, 4])
            tones = [note for note in range(round(centre) - 9, round(centre) + 11) if note % 12 in score.scale]
            chord = {tone % 12 for tone in score.chord_at(now)}
            aim = here + rng.normal(0, 2.5)
            cost = [abs(t - aim) + 0.25 * abs(t - centre) - 1.5 * (t % 12 in chord) for t in tones]
            here = tones[int(np.argmin(cost))]
            notes.append((now, min(now + span * rng.uniform(0.88, 1.0), score.seconds), float(here)))
            now += span
        now += eighth * rng.integers(1, 5)
    return notes


def _vibrato(rng: np.random.Generator, since: np.ndarray) -> np.ndarray:
    """Semitones around the note: vibrato that sets in after a moment, and a little drift."""
    rate = rng.uniform(5.0, 6.5) + 0.3 * smooth(rng.standard_normal(len(since)), 0.5)
    depth = rng.uniform(0.25, 0.55) * np.clip((since - 0.12) / 0.25, 0, 1)
    drift = 0.15 * smooth(rng.standard_normal(len(since)), 0.3)
    return depth * np.sin(2 * np.pi * np.cumsum(rate) / CONTROL_HZ) + drift


def _voice(rng, score: Score, f0, loudness, hiss, shape) -> np.ndarray:
    """Glottal pulses and noise through the moving formants."""
    rate, samples = score.sample_rate, score.samples
    count = max(int(min(0.45 * rate, 9000) / f0.max()), 1)
    order = np.arange(1, count + 1)
    pulses = wavetable(order ** -rng.uniform(1.0, 1.35))
    source = oscillate(pulses, to_audio_rate(f0, samples, rate), rate) * to_audio_rate(loudness, samples, rate)
    noise = rng.standard_normal(samples, dtype=np.float32)
    source = source + noise * to_audio_rate(0.03 * loudness + hiss, samples, rate)
    size, hop = 2048, 512
    frames = int(np.ceil(samples / hop)) + size // hop
    at = np.clip((np.arange(frames) * hop / rate * CONTROL_HZ).astype(int), 0, len(shape) - 1)
    weights = np.stack([smooth(column, 0.05) for column in shape.T], axis=1)[at]
    frequencies = np.fft.rfftfreq(size, 1 / rate)
    head = rng.uniform(0.92, 1.18)
    shapes = np.stack([peaks(f, frequencies, head) for f in (*VOWELS.values(), *CONSONANTS.values())])
    return filter_moving(source, weights, shapes, size, hop)


# ---------------------------------------------------------------------------------------------------------- instruments


def _decay(seconds: float, length: float, rate: int) -> np.ndarray:
    return np.exp(-np.arange(round(length * rate)) / (seconds * rate)).astype(np.float32)


def _band(noise: np.ndarray, low: float, high: float, rate: int) -> np.ndarray:
    """Noise limited to a band (Hz) with soft edges."""
    spectrum = np.fft.rfft(noise)
    frequency = np.fft.rfftfreq(noise.shape[-1], 1 / rate)
    gain = 1 / np.sqrt(1 + (low / (frequency + 1e-9)) ** 8) / np.sqrt(1 + (frequency / high) ** 8)
    return np.fft.irfft(spectrum * gain, n=noise.shape[-1]).astype(np.float32)


def _drum_kit(rng: np.random.Generator, rate: int) -> dict[str, np.ndarray]:
    """Stereo one-shots `[2, n]`."""
    envelope = _decay(rng.uniform(0.10, 0.2), 0.5, rate)
    sweep = rng.uniform(42, 58) + rng.uniform(80, 160) * _decay(0.03, 0.5, rate)
    kick = np.sin(2 * np.pi * np.cumsum(sweep) / rate) * envelope
    click = _band(rng.standard_normal(len(kick)), 1500, 6000, rate) * _decay(0.004, 0.5, rate)
    kick = np.stack([kick + 0.3 * click] * 2)

    envelope = _decay(rng.uniform(0.06, 0.13), 0.4, rate)
    time = np.arange(len(envelope)) / rate
    body = sum(np.sin(2 * np.pi * f * time) for f in (rng.uniform(165, 210), rng.uniform(300, 360)))
    rattle = _band(rng.standard_normal((2, len(time))), 900, 9000, rate)
    snare = 0.35 * body * _decay(0.05, 0.4, rate) + 0.9 * rattle * envelope

    def hat(seconds: float) -> np.ndarray:
        tone = _band(rng.standard_normal((2, round(0.3 * rate))), rng.uniform(5500, 7500), 0.4 * rate, rate)
        return tone * _decay(seconds, 0.3, rate) * np.array([[0.8], [1.1]])

    return {"kick": kick, "snare": snare, "hat": 0.5 * hat(0.03), "open": 0.45 * hat(0.11)}


def drum(rng: np.random.Generator, score: Score) -> np.ndarray:
    """A pattern of sixteen steps, repeated with small changes: stereo `[2, N]`."""
    kit, rate = _drum_kit(rng, score.sample_rate), score.sample_rate
    out = np.zeros((2, score.samples + rate), dtype=np.float32)
    kick = {0, 8} | {int(step) for step in rng.choice([3, 6, 7, 10, 11, 14], size=rng.integers(1, 3), replace=False)}
    every = int(rng.choice([1, 2, 2, 2]))
    step = score.beat / 4
    for count in range(int(score.seconds / step) + 1):
        place = count % 16
        hits = [("kick", 1.0)] if place in kick else []
        hits += [("snare", 0.9)] if place in (4, 12) else []
        hits += [("open" if place == 14 and rng.random() < 0.4 else "hat", 0.7)] if place % every == 0 else []
        hits += [("snare", 0.25)] if rng.random() < 0.04 else []
        for name, level in hits:
            start = round((count * step + rng.normal(0, 0.003)) * rate)
            if 0 <= start < score.samples:
                sound = kit[name]
                out[:, start : start + sound.shape[1]] += sound * (level * rng.uniform(0.85, 1.0))
    return out[:, : score.samples]


def bass_line(rng: np.random.Generator, score: Score) -> np.ndarray:
    """Roots and fifths of the chords in eighths: stereo `[2, N]`, the same on both sides."""
    rate, eighth = score.sample_rate, score.beat / 2
    table = wavetable(np.arange(1, 11) ** -rng.uniform(1.3, 2.0))
    pattern = rng.choice([0, 0, 0, 7, 12, -1], size=8)
    pattern[0] = 0
    frequency = np.full(score.samples, 55.0)
    envelope = np.zeros(score.samples, dtype=np.float32)
    fall = rng.uniform(0.25, 0.7)
    for count in range(int(score.seconds / eighth) + 1):
        a, b = (round((count + k) * eighth * rate) for k in (0, 1))
        offset = pattern[count % 8]
        frequency[a:b] = hertz(28 + (score.chord_at(count * eighth)[0] - 28) % 12 + max(offset, 0))
        if offset >= 0:
            part = envelope[a:b]
            part[:] = np.exp(-np.arange(len(part)) / (fall * rate)) * rng.uniform(0.85, 1.0)
    edge = np.hanning(round(0.008 * rate) | 1)
    envelope = np.convolve(envelope, edge / edge.sum(), mode="same")
    return np.tile(oscillate(table, frequency, rate) * envelope, (2, 1)).astype(np.float32)


def pads(rng: np.random.Generator, score: Score) -> np.ndarray:
    """Held chords of detuned pairs, wide in stereo: `[2, N]`."""
    rate, bar = score.sample_rate, 4 * score.beat
    table = wavetable(np.arange(1, 21) ** -rng.uniform(1.4, 2.0), rng)
    swell = np.zeros(score.samples, dtype=np.float32)
    pitches = np.zeros((3, score.samples))
    for count in range(int(score.seconds / bar) + 1):
        a, b = (round((count + k) * bar * rate) for k in (0, 1))
        chord = score.chord_at((count + 0.5) * bar)
        for row, tone in zip(pitches, chord, strict=True):
            row[a:b] = hertz(55 + (tone - 55) % 12)
        rise = np.arange(len(swell[a:b])) / rate
        swell[a:b] = np.minimum(1, rise / 0.08) * np.minimum(1, (bar - rise) / 0.05).clip(0)
    detune = rng.uniform(1.001, 1.004)
    angles = rng.permutation([0.06, 0.94, rng.choice([0.2, 0.8])]) * np.pi / 2  # a chair for each note of the chord
    sides = np.zeros((2, score.samples))
    for row, angle in zip(pitches, angles, strict=True):
        note = sum(oscillate(table, row * factor, rate, rng.random()) for factor in (detune, 1 / detune))
        sides += np.array([[np.cos(angle)], [np.sin(angle)]]) * note
    tremolo = 1 - 0.25 * np.sin(2 * np.pi * rng.uniform(0.2, 1.5) * np.arange(score.samples) / rate)
    return (sides * swell * tremolo).astype(np.float32)


def plucks(rng: np.random.Generator, score: Score) -> np.ndarray:
    """Broken chords on a plucked string that darkens as it rings, each note at its own place in the stereo image."""
    rate, step = score.sample_rate, score.beat / int(rng.choice([2, 4]))
    time = np.arange(round(0.8 * rate)) / rate
    order = np.arange(1, 16)
    strength = order ** -rng.uniform(0.8, 1.4) * np.abs(np.sin(np.pi * order * rng.uniform(0.1, 0.3)))
    sounds: dict[int, np.ndarray] = {}
    out = np.zeros((2, score.samples + len(time)), dtype=np.float32)
    shape = rng.permutation([0, 1, 2, 0, 2, 1, 1, 2])
    for count in range(int(score.seconds / step) + 1):
        start = round(count * step * rate)
        tone = 60 + (score.chord_at(count * step)[shape[count % 8]] - 60) % 12 + (12 if count % 8 > 4 else 0)
        if tone not in sounds:
            f = hertz(tone)
            sounds[tone] = sum(
                a * np.sin(2 * np.pi * f * k * time) * np.exp(-time * (3 + 1.2 * k))
                for k, a in zip(order, strength, strict=True)
                if f * k < 0.45 * rate
            ).astype(np.float32)
        if start < score.samples and rng.random() < 0.85:
            angle = rng.uniform(0.15, 0.85) * np.pi / 2
            side = np.array([[np.cos(angle)], [np.sin(angle)]], dtype=np.float32)
            out[:, start : start + len(time)] += side * sounds[tone] * np.float32(rng.uniform(0.6, 1.0))
    return out[:, : score.samples]
