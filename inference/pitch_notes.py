"""From pitch to notes, and notes as a Standard MIDI File."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.pitch_labels import Pitch, midi
from runtime.files import atomic_write

CHANGE = 0.05  # semitones · s: what a change of note costs, so that vibrato and glides are not taken for notes
SHORTEST = 0.05  # s; shorter notes become part of the one before, or are left out after a rest
GAP = 0.03  # s; shorter rests inside of a phrase are none
_TICKS = 480  # of a quarter, which lasts half a second at MIDI's own tempo of 120
_TICKS_A_SECOND = 2 * _TICKS
_VELOCITY = 80


@dataclass(frozen=True)
class Note:
    """A note from ``onset`` to ``offset`` in s with the MIDI number ``number`` (69 is 440 Hz)."""

    onset: float
    offset: float
    number: int


def notes(pitch: Pitch) -> list[Note]:
    """The notes of a pitch, in their order, which do not overlap.

    Each phrase (what lies between two rests) becomes the sequence of notes with the least sum of the distances from
    its pitch, in semitones times seconds, and of `CHANGE` for each change.
    """
    step = pitch.step
    found = []
    for start, stop in _phrases(pitch.voiced, round(GAP / step) if step else 0):
        voiced = np.flatnonzero(pitch.voiced[start:stop])
        sung = np.interp(np.arange(stop - start), voiced, midi(pitch.f0[start:stop])[voiced])
        numbers = _fitted(sung, CHANGE / step if step else 0.0)
        edges = np.flatnonzero(np.diff(numbers)) + 1
        for first, last in zip((0, *edges), (*edges, len(numbers)), strict=True):
            onset, offset = (float(pitch.times[start] + k * step) for k in (first, last))
            number, short = int(numbers[first]), offset - onset < SHORTEST
            if found and found[-1].offset == onset and (short or found[-1].number == number):
                found[-1] = replace(found[-1], offset=offset)
            elif not short:
                found.append(Note(onset, offset, number))
    return found


def _phrases(voiced: np.ndarray, gap: int) -> Iterator[tuple[int, int]]:
    """First frame and the one after the last of what is voiced with at most ``gap`` unvoiced frames at a time."""
    frames = np.flatnonzero(voiced)
    if len(frames):
        breaks = np.flatnonzero(np.diff(frames) > gap + 1)
        yield from zip(frames[[0, *(breaks + 1)]].tolist(), (frames[[*breaks, -1]] + 1).tolist(), strict=True)


def _fitted(sung: np.ndarray, change: float) -> np.ndarray:
    """MIDI numbers ``[n]`` of the notes of a phrase with the pitch ``sung [n]``; ``change`` in semitones · frames."""
    lowest = max(0, round(float(sung.min())))
    states = np.arange(lowest, max(lowest, min(127, round(float(sung.max())))) + 1)
    distance = np.abs(sung[:, None] - states)
    total = distance[0].copy()
    came_from = np.empty((len(sung), len(states)), np.int16)
    stay = np.arange(len(states))
    for frame in range(1, len(sung)):
        best = int(total.argmin())
        change_it = total > total[best] + change
        came_from[frame] = np.where(change_it, best, stay)
        total = np.where(change_it, total[best] + change, total) + distance[frame]
    path = np.empty(len(sung), np.int64)
    path[-1] = total.argmin()
    for frame in range(len(sung) - 1, 0, -1):
        path[frame - 1] = came_from[frame, path[frame]]
    return states[path]


def write_midi(path: str | Path, found: Sequence[Note]) -> None:
    """Write notes as a Standard MIDI File of one track, atomically; seconds are right at the tempo that it states."""
    events = sorted(
        event
        for note in found
        for event in ((_ticks(note.offset), 0x80, note.number), (_ticks(note.onset), 0x90, note.number))
    )
    track = bytearray(b"\x00\xff\x51\x03" + (500_000).to_bytes(3, "big"))  # tempo: microseconds of a quarter
    now = 0
    for tick, status, number in events:  # at the same time a note ends before another begins
        track += _variable(tick - now) + bytes((status, number, _VELOCITY if status == 0x90 else 0))
        now = tick
    track += b"\x00\xff\x2f\x00"
    with atomic_write(path) as handle:
        handle.write(b"MThd" + struct.pack(">IHHH", 6, 0, 1, _TICKS))
        handle.write(b"MTrk" + struct.pack(">I", len(track)) + track)


def _ticks(seconds: float) -> int:
    return round(seconds * _TICKS_A_SECOND)


def _variable(number: int) -> bytes:
    """MIDI's numbers of variable length: seven bits a byte, the highest first; all but the last have the eighth bit."""
    out = [number & 0x7F]
    while number := number >> 7:
        out.append(number & 0x7F | 0x80)
    return bytes(reversed(out))
