"""``separator.py --pitch``: the pitch of the vocals is followed while they are separated."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inference import naming, pitch_plot, pitch_songs
from inference.naming import Selection
from inference.pitch_songs import PitchJob
from runtime.errors import UserError

if TYPE_CHECKING:
    from inference.pitch import PitchTracker

VOCALS = "vocals"
NAME = "pitch"  # of its files, in the place of the stem's


@dataclass(frozen=True)
class Wish:
    """What was asked for: ``stem`` is what the pitch is followed on, ``model`` the pitch network's weights."""

    stem: str
    format: str
    plot: bool
    midi: bool
    model: str | None
    offline: bool

    def job(self, song: Path, output: Path, template: str) -> PitchJob:
        """The files of a song; raises UserError as `inference.naming.targets` does, or if two have the same name."""

        def place(extension: str) -> Path:
            return naming.targets(song, output, (NAME,), extension, template)[NAME]

        plot, midi = place("png") if self.plot else None, place("mid") if self.midi else None
        job = PitchJob(song, place(self.format), self.format, plot, midi)
        pitch_songs.check(job)
        return job


def wish(options: Namespace, selection: Selection, sources: Sequence[str]) -> Wish | None:
    """What the command line asks for, or None.

    Raises:
        UserError: options that go with ``--pitch`` only, or no vocals among what is separated
    """
    if not options.pitch:
        asked = {"--pitch-model": options.pitch_model, "--pitch-format": options.pitch_format}
        asked |= {"--plot": options.plot, "--midi": options.midi}
        if alone := next((flag for flag, value in asked.items() if value), None):
            raise UserError(f"{alone} goes with --pitch: add that", status=2)
        return None
    if VOCALS not in sources:
        there = ", ".join(sources)
        raise UserError(f"--pitch follows the vocals, which this network does not separate (it has {there})")
    if list(sources).index(VOCALS) not in selection.needed:
        raise UserError("--pitch follows the vocals, which are not among the stems that are written: add them")
    form = options.pitch_format or "csv"
    stem = naming.restored(VOCALS) if VOCALS in selection.restored else VOCALS
    return Wish(stem, form, options.plot, options.midi, options.pitch_model, options.offline)


def named(job: PitchJob) -> dict[str, Path]:
    """The files of a song by the names that its report gives them."""
    return {NAME if kind == "track" else f"{NAME}_{kind}": path for kind, path in job.files.items()}


class Followed:
    """The pitch of one song's vocals, whose blocks arrive by ``listen``."""

    def __init__(self, tracker: PitchTracker, job: PitchJob, rate: int):
        self._tracker, self._job = tracker, job
        self._picture = pitch_plot.MelPicture() if job.plot else None
        self._stream = tracker.stream(rate, self._picture.add if self._picture else None)
        self._pieces = []

    def listen(self, block: np.ndarray) -> None:
        """Takes the next samples ``[C, n]``."""
        self._pieces.append(self._stream.push(block))

    def write(self) -> Mapping[str, str]:
        """Writes what was asked for; returns the files by kind."""
        from inference.pitch import joined

        track = joined([*self._pieces, self._stream.finish()])
        pitch_songs.write(self._tracker, self._job, track, self._picture)
        return {name: str(path) for name, path in named(self._job).items()}
