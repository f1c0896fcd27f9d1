"""Which stems are played together, and how they are moved so that tempo, beats and key agree. No audio is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.automix_analysis import Analysis
from data.sampler import generator

MIX = 7  # stream of random numbers (`data.sampler` names the others)
OCTAVES = (1.0, 0.5, 2.0, 0.25, 4.0)  # a beat may be counted twice as fast, too
BAR = 4  # beats
NEAR = 0.010  # seconds within which beats are felt as one
STEP = 0.001  # seconds between the shifts that are tried


@dataclass(frozen=True)
class Part:
    """A stem of a mix: of which song, how much faster (percent) and higher (semitones), and when it sets in (seconds).

    ``start`` is what is left out of the song before that, in seconds at its own tempo.
    """

    source: str
    song: str
    start: float
    tempo_percent: float = 0.0
    semitones: int = 0
    delay: float = 0.0


@dataclass(frozen=True)
class Limits:
    """How far a stem may be moved: semitones, and percent of the tempo."""

    max_pitch: int = 3
    max_tempo: float = 15.0


def plan_mix(
    catalog: Mapping[str, Analysis],
    reference: str,
    sources: Sequence[str],
    limits: Limits,
    seed: int,
    address: tuple[int, int],
) -> tuple[Part, ...]:
    """The parts of the mix with two numbers as its address, one for each source, in their order.

    One source, drawn at random, is that of the song ``reference``; each other one comes from a song drawn from the
    catalog that can be brought to its tempo and key within the limits, or from the reference where there is none. The
    drums have no key: they are not transposed, and if they are the reference's, the key is that of the next part.
    """
    rng = generator(seed, MIX, *address)
    order = [sources[k] for k in rng.permutation(len(sources))]
    leader = catalog[reference]
    parts = {order[0]: Part(order[0], reference, leader.start)}
    key = None if order[0] == "drums" else leader.notes
    for source in order[1:]:
        pitched = source != "drums"
        others = [name for name in sorted(catalog) if name != reference]
        candidates = [others[k] for k in rng.permutation(len(others))] + [reference]
        part = next(filter(None, (_part(catalog, source, n, leader, key, pitched, limits) for n in candidates)), None)
        if part is None:  # not even the reference itself fits the key that another song has set
            part = Part(source, reference, leader.start)
        elif pitched and key is None:
            key = np.roll(catalog[part.song].notes, part.semitones)
        parts[source] = part
    return _together([parts[source] for source in sources])


def _part(
    catalog: Mapping[str, Analysis],
    source: str,
    name: str,
    leader: Analysis,
    key: Sequence[float] | None,
    pitched: bool,
    limits: Limits,
) -> Part | None:
    """The source of a song moved to the leader's tempo and the key, None if that is too far."""
    song = catalog[name]
    change = tempo_change(leader.period, song.period)
    semitones = pitch_change(key, song.notes) if pitched and key is not None else 0
    if abs(change) > limits.max_tempo or abs(semitones) > limits.max_pitch:
        return None
    beats = np.asarray(song.beats) / (1 + change / 100)
    period = max(leader.period, song.period / (1 + change / 100))
    delay = beat_shift(np.asarray(leader.beats), beats, period)
    return Part(source, name, song.start, change, semitones, delay)


def tempo_change(wanted: float, period: float) -> float:
    """Percent by which beats every ``period`` seconds must be faster to come every ``wanted`` seconds, or at a rate
    that is a power of two of that; the smallest such change."""
    return min((100 * (period * octave / wanted - 1) for octave in OCTAVES), key=abs)


def pitch_change(wanted: Sequence[float], notes: Sequence[float]) -> int:
    """Semitones, -5 … 6, by which ``notes [12]`` come closest to ``wanted [12]``; of equal ones the smallest."""
    shifts = sorted(range(-5, 7), key=abs)
    return min(shifts, key=lambda shift: round(float(np.abs(np.asarray(wanted) - np.roll(notes, shift)).sum()), 9))


def beat_shift(wanted: np.ndarray, beats: np.ndarray, period: float) -> float:
    """Seconds by which ``beats`` must come later (or, negative, earlier) to coincide with the ``wanted`` ones.

    The first beats are brought together, or the first with a later one that also begins a bar, whichever is nearer;
    from there on it is the shift of less than half a beat at which the most beats coincide.
    """
    bar = BAR * period
    coarse = (wanted[0] - beats[0] + bar / 2) % bar - bar / 2
    shifts = coarse + np.arange(-period / 2, period / 2, STEP)
    scores = [np.exp(-0.5 * (_distances(wanted, beats + shift) / NEAR) ** 2).sum() for shift in shifts]
    best = float(shifts[int(np.argmax(scores))])
    rest = _distances(wanted, beats + best)
    close = np.abs(rest) < 3 * NEAR
    return best - float(np.median(rest[close])) if close.any() else best


def _distances(wanted: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """How much later than the nearest beat of ``wanted`` each of ``beats`` comes."""
    above = np.clip(np.searchsorted(wanted, beats), 1, len(wanted) - 1)
    low, high = beats - wanted[above - 1], beats - wanted[above]
    return np.where(np.abs(low) < np.abs(high), low, high)


def _together(parts: list[Part]) -> tuple[Part, ...]:
    """The same parts with delays that begin with zero."""
    first = min(part.delay for part in parts)
    return tuple(replace(part, delay=part.delay - first) for part in parts)
