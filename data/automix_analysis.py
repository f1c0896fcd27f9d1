"""Tempo, beats and notes of a song, as far as they are needed to play its stems together with those of another one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data.index import Index, Song, load_stem
from runtime.errors import UserError
from runtime.files import read_json, write_json

VERSION = 1
RATE = 22050  # at which beats and notes are looked for
BEAT_HOP = 256  # samples: 11.6 ms
SILENCE = 1e-2  # of the mixture's deviation: what is quieter is not the beginning of the song, and no stem to analyse
NOTE_SHARE = 0.05  # of the loudest level that notes have at least
LEVEL_SECONDS = 0.23  # over which the level is taken
SLIP = 0.01  # how much the mean of all gaps may miss the period because beats have slipped
PHASE = 0.010  # seconds within which beats lie on a line
TUNING_SECONDS = 60
FEWEST_BEATS = 8


@dataclass(frozen=True)
class Analysis:
    """What is known of a song; times are in seconds after ``start``.

    ``start`` is where its leading silence ends; ``period`` the mean time between beats; ``notes`` how often each of the
    twelve pitch classes from C on is the strongest. ``problem`` says why the song cannot be mixed with others.
    """

    start: float
    beats: tuple[float, ...] = ()
    period: float = 0.0
    notes: tuple[float, ...] = ()
    problem: str = ""

    @property
    def tempo(self) -> float:
        """Beats per minute."""
        return 60 / self.period


def analyse(index: Index, song: Song, sources: Sequence[str], folder: Path) -> Analysis:
    """The analysis of a song, from ``folder`` if it has been made before.

    Tempo and beats are those of the drums, notes those of the bass, or of everything but the drums where there is none.

    Raises:
        UserError: a file that cannot be read
    """
    record = folder / f"{song.fingerprint}.json"
    known = read_json(record) if record.is_file() else {}
    if known.get("version") == VERSION and known.get("sources") == list(sources):
        return Analysis(**{name: _frozen(value) for name, value in known["analysis"].items()})
    stems = {source: load_stem(index, song, source, sample_rate=RATE, channels=1)[0] for source in sources}
    analysis = analyse_stems(stems)
    write_json(record, {"version": VERSION, "sources": list(sources), "song": song.name, "analysis": asdict(analysis)})
    return analysis


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def analyse_stems(stems: dict[str, np.ndarray]) -> Analysis:
    """The analysis of mono stems ``[N]`` at `RATE`, by the names of their sources; ``drums`` must be among them."""
    mixture = np.sum(list(stems.values()), axis=0)
    level = float(mixture.std())
    if not level > 0:
        return Analysis(0.0, problem="it is silent")
    first = int(np.argmax(np.abs(mixture) >= SILENCE * level))
    drums = stems["drums"][first:]
    tonal = mixture - stems["drums"]
    bass = stems.get("bass", np.zeros(1))
    pitched = bass if bass.std() > SILENCE * level else tonal
    start = first / RATE
    if not drums.std() > SILENCE * level:
        return Analysis(start, problem="its drums are silent")
    if not pitched.std() > SILENCE * level:
        return Analysis(start, problem="nothing but its drums can be heard")
    beats = find_beats(drums)
    if len(beats) < FEWEST_BEATS:
        return Analysis(start, problem=f"only {len(beats)} beats were found")
    return Analysis(start, tuple(beats.tolist()), mean_period(beats), tuple(find_notes(pitched, tonal).tolist()))


def find_beats(drums: np.ndarray) -> np.ndarray:
    """Times of the beats in seconds (librosa's dynamic programming, after Ellis 2007)."""
    from librosa.beat import beat_track

    _, beats = beat_track(y=drums, sr=RATE, hop_length=BEAT_HOP, units="time")
    return np.asarray(beats, dtype=np.float64)


def mean_period(beats: np.ndarray) -> float:
    """Seconds between beats: the slope of the line through the times of most of them.

    The tempo that a beat tracker starts from is quantised and off by up to 2 %: three beats in a song of five minutes.
    And a tracker may slip, by half a beat say, in the midst of a song; the line follows the larger part.
    """
    gaps = np.diff(beats)
    count = np.concatenate([[0], np.cumsum(np.maximum(np.rint(gaps / np.median(gaps)), 1))])
    rough = np.polyfit(count, beats, 1)[0]
    steps = sorted(np.linspace(-SLIP, SLIP, 201), key=abs)  # of equally good ones the nearest
    best = max((rough * (1 + step) for step in steps), key=lambda period: _together(beats, period)[0])
    on_line = _together(beats, best)[1]
    number = np.rint((beats[on_line] - beats[on_line][0]) / best)
    return float(np.polyfit(number, beats[on_line], 1)[0])


def _together(beats: np.ndarray, period: float) -> tuple[int, np.ndarray]:
    """How many beats come at the commonest moment of their period, and which they are."""
    phases = beats % period
    bins = np.bincount((phases / PHASE).astype(int), minlength=int(period / PHASE) + 1)
    around = bins + np.roll(bins, 1) + np.roll(bins, -1)
    centre = (int(around.argmax()) + 0.5) * PHASE
    near = np.abs((phases - centre + period / 2) % period - period / 2) <= 2 * PHASE
    return int(near.sum()), near


def find_notes(pitched: np.ndarray, tonal: np.ndarray) -> np.ndarray:
    """Share of the frames in which each pitch class is the strongest, ``[12]`` from C on; quiet parts do not count.

    How far the song is from 440 Hz is taken from ``tonal``, all that is no drum: a bass may be too low to tell.
    """
    from librosa import estimate_tuning
    from librosa.feature import chroma_cqt

    tuning = float(estimate_tuning(y=tonal[: round(TUNING_SECONDS * RATE)], sr=RATE))
    power = _moving_mean(pitched.astype(np.float64) ** 2, round(LEVEL_SECONDS * RATE))
    level = np.sqrt(np.maximum(power, 0))
    chroma = chroma_cqt(y=pitched[level >= NOTE_SHARE * level.max()], sr=RATE, tuning=tuning)
    return np.bincount(chroma.argmax(axis=0), minlength=12) / chroma.shape[1]


def _moving_mean(x: np.ndarray, width: int) -> np.ndarray:
    padded = np.pad(x, (width // 2, width - 1 - width // 2))
    total = np.concatenate([[0.0], np.cumsum(padded)])
    return (total[width:] - total[:-width]) / width


def require_drums(sources: Sequence[str]) -> None:
    """UserError when there is nothing to take a tempo from."""
    if "drums" not in sources:
        raise UserError(f"the tempo is that of the drums, which are not among {', '.join(sources)}")
