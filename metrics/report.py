"""Scores of songs: what is kept in one JSON per song, how songs are aggregated, and the table that is printed.

The JSON of a song has museval's layout (``targets`` → ``frames`` → ``metrics``), values rounded to 5 decimals.  A value
that is not a finite number is ``null``, so that the files are valid JSON; museval's bare ``NaN`` is understood too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

COLUMNS = ("SDR", "SIR", "SAR", "ISR")

Frames = dict[str, np.ndarray]  # metric name -> [frames] in dB


@dataclass
class SongScore:
    """Frame-wise scores of one song.

    ``estimates`` and ``mixture`` (the unprocessed mixture in the place of every estimate) map a stem to its frames;
    ``window`` and ``hop`` are in seconds; ``details`` is anything else worth keeping (time, memory, protocol), as JSON.
    """

    song: str
    window: float
    hop: float
    estimates: dict[str, Frames]
    mixture: dict[str, Frames] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A structure that ``json.dumps(…, allow_nan=False)`` accepts."""
        content: dict[str, Any] = {"song": self.song, "window": self.window, "hop": self.hop, "details": self.details}
        content["targets"] = self._targets(self.estimates)
        content["mixture_targets"] = self._targets(self.mixture)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any], song: str = "") -> SongScore:
        """Reads :meth:`to_json` or a file of museval, which does not name its ``song``; ``ValueError`` otherwise."""
        try:
            targets = [_frames_of(content["targets"]), _frames_of(content.get("mixture_targets", []))]
            first = next((f for t in content["targets"] for f in t["frames"]), {"duration": 1.0})
            window = float(content.get("window", first["duration"]))
            hop = float(content.get("hop", window))
            return cls(str(content.get("song", song)), window, hop, *targets, details=dict(content.get("details", {})))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the scores of a song: {error!r}") from error

    def _targets(self, stems: dict[str, Frames]) -> list[dict[str, Any]]:
        return [{"name": stem, "frames": self._frames(frames)} for stem, frames in stems.items()]

    def _frames(self, frames: Frames) -> list[dict[str, Any]]:
        rows = zip(*(frames[name] for name in COLUMNS), strict=True)
        return [
            {
                "time": round(index * self.hop, 5),
                "duration": self.window,
                "metrics": {name: _rounded(value) for name, value in zip(COLUMNS, row, strict=True)},
            }
            for index, row in enumerate(rows)
        ]


@dataclass(frozen=True)
class Protocol:
    """What a figure must be quoted with."""

    window: float
    hop: float
    over_frames: str
    over_songs: str
    split: str
    fraction: float
    seed: int
    songs: int
    weights: str
    bss: str

    def line(self) -> str:
        """One line for the console and the report."""
        window = f"window {self.window:g} s" + ("" if self.hop == self.window else f", hop {self.hop:g} s")
        return (
            f"BSS Eval v4 ({self.bss}), {window}, {self.over_songs} over songs of {self.over_frames} over frames; "
            f"split {self.split}, fraction {self.fraction:g}, seed {self.seed}, {self.songs} songs; "
            f"weights {self.weights}"
        )


def over_frames(frames: np.ndarray, how: str = "median") -> float:
    """Median or mean of the frames that are finite; NaN if there is none (museval drops infinite values too)."""
    finite = frames[np.isfinite(frames)]
    return float(_average(how)(finite)) if finite.size else math.nan


def aggregate(
    scores: Iterable[Mapping[str, Frames]], frames: str = "median", songs: str = "median"
) -> dict[str, dict[str, float]]:
    """``stem → metric → dB`` over songs; ``scores`` holds each song's ``stem → frames``.

    ``"median", "median"`` is museval's and Spleeter's way, ``"median", "mean"`` that of Demucs.  Songs without a finite
    frame for a stem do not count for it.
    """
    gathered: dict[str, dict[str, list[float]]] = {}
    for song in scores:
        for stem, metrics in song.items():
            for name in COLUMNS:
                value = over_frames(np.asarray(metrics[name], np.float64), frames)
                gathered.setdefault(stem, {}).setdefault(name, []).append(value)
    return {
        stem: {name: over_frames(np.array(values), songs) for name, values in metrics.items()}
        for stem, metrics in gathered.items()
    }


def scores_table(rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Text table of ``rows``: label ("estimate", "mixture") → stem → metric → dB; stems in the first label's order."""
    stems = list(dict.fromkeys(stem for table in rows.values() for stem in table))
    lines: list[Sequence[str]] = [("stem", "signal", *COLUMNS)]
    for stem in stems:
        for label, table in rows.items():
            if stem in table:
                lines.append((stem, label, *(_decibels(table[stem][name]) for name in COLUMNS)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    pad = [str.ljust, str.ljust, *[str.rjust] * len(COLUMNS)]
    text = ["  ".join(p(cell, w) for p, cell, w in zip(pad, line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([text[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *text[1:]])


def _frames_of(targets: Sequence[Mapping[str, Any]]) -> dict[str, Frames]:
    return {
        target["name"]: {
            name: np.array([_number(frame["metrics"][name]) for frame in target["frames"]], np.float64)
            for name in COLUMNS
        }
        for target in targets
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _rounded(value: float) -> float | None:
    return round(float(value), 5) if math.isfinite(value) else None


def _decibels(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "n/a"


def _average(how: str) -> Any:
    if how not in ("median", "mean"):
        raise ValueError(f"aggregation is 'median' or 'mean', not {how!r}")
    return {"median": np.median, "mean": np.mean}[how]
