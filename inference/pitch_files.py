"""Pitch tracks as files: ``.csv`` and ``.npy`` with the columns time, f0 and confidence, and ``.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.errors import UserError
from runtime.files import atomic_write, write_json
from runtime.nearest import did_you_mean

if TYPE_CHECKING:
    from inference.pitch import PitchTrack

FORMATS = ("csv", "npy", "json")


def format_of(path: str | Path) -> str:
    """The format that a file's suffix names; UserError if it is none."""
    suffix = Path(path).suffix[1:].lower()
    if suffix not in FORMATS:
        names = ", ".join(f".{name}" for name in FORMATS)
        raise UserError(f"{path}: a pitch is written as {names}; {did_you_mean(suffix, FORMATS)}")
    return suffix


def write_track(
    path: str | Path, track: PitchTrack, facts: Mapping[str, Any] | None = None, format: str | None = None
) -> None:
    """Write a track, atomically.

    Times are in s and exact: n·hop / 16000, not multiples of a rounded step. f0 is in Hz, 0 where nothing is sung; the
    confidence lies between 0 and 1. ``csv`` has no heading, as the original's has none: its first two columns are read
    by the same programs. ``npy`` is float64 ``[n, 3]``.

    Args:
        path: the file
        track: what is written
        facts: how it was made, for ``json``
        format: one of `FORMATS`; None is what the suffix says
    """
    format = format or format_of(path)
    if format == "json":
        columns = {"times": track.times, "f0": _rounded(track.f0), "confidence": _rounded(track.confidence)}
        write_json(path, {**(facts or {}), **columns})
        return
    if format == "npy":
        with atomic_write(path) as handle:
            np.save(handle, np.stack([track.times, track.f0, track.confidence], axis=1).astype(np.float64))
        return
    with atomic_write(path, "w") as handle:
        for time, f0, confidence in zip(track.times, track.f0, track.confidence, strict=True):
            handle.write(f"{_shortened(f'{time:.7f}')},{_shortened(f'{f0:.4f}')},{confidence:.4f}\n")


def _shortened(number: str) -> str:
    """Without zeros at the end; 1/16000 s has seven decimals."""
    return number.rstrip("0").rstrip(".")


def _rounded(values: np.ndarray) -> np.ndarray:
    """To as many decimals as ``csv`` has: float32 as float64 would show digits that mean nothing."""
    return np.round(values.astype(np.float64), 4)
