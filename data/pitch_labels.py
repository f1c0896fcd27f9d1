"""The pitch of a voice over time as data sets write it down, and how its value at other times is found.

Known forms: `.pv`, one MIDI note number a line and 0 where nothing is voiced (MIR-1K, and the data set that
`run_rmvpe.py -m prepare` writes); `.csv` of time and frequency (vocadito, MDB-stem-synth, trackers' output); `.tsv` or
`.csv` of notes with onset, offset and MIDI number under a heading (MIR-ST500).
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.errors import UserError
from runtime.files import atomic_write

SAMPLE_RATE = 16000  # Hz, of all that the network reads
SUFFIXES = (".pv", ".csv", ".tsv")
GAP = 4.0  # labels further apart than so many usual steps have nothing between them
_TIME, _PITCH = ("time", "times", "t"), ("f0", "frequency", "freq", "hz", "pitch", "midi")
_ONSET, _OFFSET, _NOTE = ("onset", "start"), ("offset", "end"), ("note", "midi", "pitch")


@dataclass(frozen=True)
class Pitch:
    """What a voice sings: `f0` float32 `[n]` in Hz, 0 where nothing is voiced, at ascending `times` float64 `[n]` in s.

    Raises:
        ValueError: arrays that do not fit together, times that do not ascend, numbers that are no frequencies
    """

    times: np.ndarray
    f0: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", np.asarray(self.times, np.float64))
        object.__setattr__(self, "f0", np.asarray(self.f0, np.float32))
        if self.times.ndim != 1 or self.times.shape != self.f0.shape:
            raise ValueError(f"times {self.times.shape} and f0 {self.f0.shape} are not two columns of one length")
        if not (np.isfinite(self.times).all() and np.isfinite(self.f0).all()):
            raise ValueError("there are numbers that are not finite")
        if (np.diff(self.times) <= 0).any():
            raise ValueError("times must ascend")
        if (self.f0 < 0).any():
            raise ValueError("frequencies must not be negative")

    def __len__(self) -> int:
        return len(self.times)

    @property
    def voiced(self) -> np.ndarray:
        """Bool `[n]`."""
        return self.f0 > 0

    @property
    def step(self) -> float:
        """Usual distance of two labels in s; 0 with fewer than two."""
        return float(np.median(np.diff(self.times))) if len(self) > 1 else 0.0


def hertz(midi: np.ndarray) -> np.ndarray:
    """Frequency in Hz of MIDI note numbers, which need not be whole; 0 stays 0 (unvoiced)."""
    midi = np.asarray(midi, np.float64)
    return np.where(midi > 0, 440.0 * 2.0 ** ((midi - 69) / 12), 0.0)


def midi(f0: np.ndarray) -> np.ndarray:
    """MIDI note numbers of frequencies in Hz; 0 (unvoiced) stays 0."""
    f0 = np.asarray(f0, np.float64)
    return np.where(f0 > 0, 69 + 12 * np.log2(np.where(f0 > 0, f0, 440.0) / 440), 0.0)


def frames_of(samples: int, hop: int) -> int:
    """Frames of a signal, the first one around its first sample: the number that the network sees."""
    return samples // hop + 1


# ------------------------------------------------------------------------------------------------------- other times


def at(pitch: Pitch, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pitch at other times, `(f0 float32 [n] Hz, voiced bool [n])`.

    Voiced is what is nearest to a voiced label (the earlier of two equally near ones decides). Between two voiced
    labels the pitch is interpolated in cents; towards an unvoiced one the last voiced value holds, so that nothing
    glides to zero. Half a step before the first label, after the last one and into a gap, nothing is voiced.
    """
    times = np.asarray(times, np.float64)
    if not len(pitch) or not len(times):
        return np.zeros(len(times), np.float32), np.zeros(len(times), bool)
    after = np.clip(np.searchsorted(pitch.times, times), 1, max(len(pitch) - 1, 1))
    before, after = after - 1, np.minimum(after, len(pitch) - 1)
    from_before, to_after = times - pitch.times[before], pitch.times[after] - times
    nearest = np.where(from_before <= to_after + 1e-9, before, after)  # within rounding as near: the earlier
    reach = pitch.step / 2 + 1e-9
    outside = np.abs(times - pitch.times[nearest]) > reach
    inside = (
        (from_before >= 0) & (to_after >= 0) & (pitch.times[after] - pitch.times[before] <= GAP * pitch.step + 1e-9)
    )
    voiced = pitch.voiced[nearest] & (inside | ~outside)
    log = np.log2(np.where(pitch.voiced, pitch.f0, 1.0).astype(np.float64))
    between = inside & pitch.voiced[before] & pitch.voiced[after]
    span = np.maximum(pitch.times[after] - pitch.times[before], 1e-12)
    position = np.clip(from_before / span, 0, 1)
    value = np.where(between, log[before] + position * (log[after] - log[before]), log[nearest])
    return np.where(voiced, 2.0**value, 0.0).astype(np.float32), voiced


def at_frames(pitch: Pitch, samples: int, hop: int) -> np.ndarray:
    """f0 float32 `[T]` at every frame of a signal of `samples` samples at 16 kHz; frame i lies at i · hop samples."""
    return at(pitch, np.arange(frames_of(samples, hop)) * (hop / SAMPLE_RATE))[0]


# ----------------------------------------------------------------------------------------------------------- reading


def read(path: str | os.PathLike, hop: float = 0.01, first: float | None = None) -> Pitch:
    """Labels of any known form, by the file's suffix.

    Args:
        path: `.pv`, `.csv` or `.tsv`
        hop, first: for `.pv` only, see `read_pv`

    Raises:
        UserError: missing, not of a known form, or nothing in it
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".pv":
        return read_pv(path, hop, first)
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: pitch labels are read from {', '.join(SUFFIXES)} only")
    return read_table(path)


def read_pv(path: str | os.PathLike, hop: float = 0.01, first: float | None = None) -> Pitch:
    """Labels without times: a MIDI note number a line, 0 where nothing is voiced.

    Args:
        path: the file
        hop: seconds from line to line; 0.02 in the original MIR-1K
        first: time of the first line in s; `hop` by default, as line i (from 1) labels frame i (from 0) in the data set
            that the network is trained with

    Raises:
        UserError: missing, empty, or a line that is not a number
    """
    lines = _lines(path)
    try:
        notes = np.array([float(line) for line in lines])
        return _pitch((hop if first is None else first) + hop * np.arange(len(lines)), hertz(_voiced(notes)))
    except ValueError as error:
        raise UserError(f"{path} is not a file of one MIDI note number a line ({error})") from error


def read_table(path: str | os.PathLike) -> Pitch:
    """Labels with times: columns `time` and `f0` (or `midi`), the first two without a heading; or notes.

    Further columns, such as a confidence, do not matter. Frequencies that are 0, negative or `nan` are unvoiced, as
    trackers write them. Notes have a heading with `onset`, `offset` and `note`; a pitch holds from one to the other.

    Raises:
        UserError: missing, empty, or not of this form
    """
    rows = [[cell.strip(' "') for cell in _cells(line)] for line in _lines(path) if not line.startswith("#")]
    if not rows:
        raise UserError(f"{path} holds no labels")
    heading = [] if _is_number(rows[0][0]) else [cell.lower() for cell in rows[0]]
    onset, time = _column(heading, _ONSET), _column(heading, _TIME)
    try:
        if onset is not None:
            return _from_notes(_numbers(rows[1:], onset, _column(heading, _OFFSET), _column(heading, _NOTE)))
        if not heading:
            times, f0 = _numbers(rows, 0, 1).T
            return _pitch(times, _voiced(f0))
        pitch = _column(heading, _PITCH)
        times, values = _numbers(rows[1:], time, pitch).T
        return _pitch(times, hertz(_voiced(values)) if heading[pitch] == "midi" else _voiced(values))
    except ValueError as error:
        raise UserError(f"{path} is not a table of time in s and frequency in Hz ({error})") from error


def _numbers(rows: list[list[str]], *columns: int | None) -> np.ndarray:
    """Some columns as float64 `[n, len(columns)]`; ValueError if one is not there."""
    if None in columns:
        raise ValueError("its heading names neither time and f0 nor onset, offset and note")
    if not rows or min(map(len, rows)) <= max(columns):
        raise ValueError("there are lines with too few columns" if rows else "there is nothing below its heading")
    return np.array([[float(row[column]) for column in columns] for row in rows])


def _from_notes(notes: np.ndarray, step: float = 0.005) -> Pitch:
    """Notes `[n, 3]` of onset s, offset s and MIDI number as labels; of two at once the later one sounds."""
    if (notes[:, 1] < notes[:, 0]).any():
        raise ValueError("a note ends before it begins")
    times = np.arange(math.ceil(notes[:, 1].max() / step) + 2) * step
    f0 = np.zeros(len(times))
    for onset, offset, note in notes[np.argsort(notes[:, 0], kind="stable")]:
        f0[(times >= onset) & (times < offset)] = hertz(note)
    return _pitch(times, f0)


def _pitch(times: np.ndarray, f0: np.ndarray) -> Pitch:
    if not len(times):
        raise ValueError("there is nothing in it")
    return Pitch(times, f0)


def _voiced(values: np.ndarray) -> np.ndarray:
    """What is negative or not a number says "unvoiced"; infinity stays and is refused."""
    return np.where(np.isnan(values) | (values < 0), 0.0, values)


def _lines(path: str | os.PathLike) -> list[str]:
    """Lines that are not blank."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file of pitch labels") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path} is empty")
    return lines


def _cells(line: str) -> list[str]:
    for separator in ("\t", ",", ";"):
        if separator in line:
            return line.split(separator)
    return line.split()


def _column(heading: list[str], names: tuple[str, ...]) -> int | None:
    return next((heading.index(name) for name in names if name in heading), None)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# ----------------------------------------------------------------------------------------------------------- writing


def write_pv(path: str | os.PathLike, f0: np.ndarray) -> None:
    """Write f0 `[T]` in Hz of all frames as a `.pv`, atomically: line i (from 1) is frame i (from 0).

    So the first frame, around the first sample, has no line: that is the documented layout. It counts as unvoiced.
    """
    with atomic_write(path, "w") as handle:
        handle.write("".join(f"{note:.4f}\n" if note > 0 else "0\n" for note in midi(f0[1:])))
