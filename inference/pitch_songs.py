"""What the command line does: many songs, one tracker, and the files of each song."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference import naming, pitch_files, pitch_notes, pitch_plot
from runtime import console
from runtime.errors import UserError
from runtime.files import require_writable

if TYPE_CHECKING:
    from inference.pitch import PitchTrack, PitchTracker


@dataclass(frozen=True)
class PitchJob:
    """One song and the files that it becomes; ``plot`` and ``midi`` only where they were asked for."""

    song: Path
    track: Path
    format: str
    plot: Path | None = None
    midi: Path | None = None

    @property
    def files(self) -> dict[str, Path]:
        """What is written, by kind."""
        all_of_them = {"track": self.track, "plot": self.plot, "midi": self.midi}
        return {kind: path for kind, path in all_of_them.items() if path}


def jobs(
    songs: Sequence[Path],
    output: Path,
    alone: bool,
    format: str | None = None,
    template: str = "{track}.{ext}",
    plot: str | bool | None = None,
    midi: str | bool | None = None,
) -> list[PitchJob]:
    """What is to be done; all that can be wrong with the wishes shows here.

    Args:
        songs: audio files
        output: the file of the one song if ``alone`` and it has a suffix that names a format, else a folder
        alone: whether one file was named, not a folder
        format: one of `inference.pitch_files.FORMATS`, for files in a folder
        template: their names, see `inference.naming.targets`
        plot, midi: a file for one song, True: beside the track, or nothing

    Raises:
        UserError: unknown formats, two songs with the same file, or a file that would overwrite a song
    """
    single = alone and bool(output.suffix) and not output.is_dir()
    for flag, wish in (("--plot", plot), ("--midi", midi)):
        if isinstance(wish, str) and len(songs) > 1:
            raise UserError(f"{flag} {wish} is one file for {len(songs)} songs: leave the name out")
    if single:
        own = pitch_files.format_of(output)
        if format not in (None, own):
            raise UserError(f"--format {format} contradicts the name {output}: leave one of them out")
        tracks, format = {songs[0]: output}, own
    else:
        format = format or "csv"
        named = {song: naming.targets(song, output, ("pitch",), format, template) for song in songs}
        naming.refuse_collisions(named)
        tracks = {song: files["pitch"] for song, files in named.items()}
    made = [
        PitchJob(song, track, format, _beside(plot, track, ".png"), _beside(midi, track, ".mid"))
        for song, track in tracks.items()
    ]
    for job in made:
        check(job)
    require_writable(output.absolute().parent if single else output)
    return made


def _beside(wish: str | bool | None, track: Path, suffix: str) -> Path | None:
    return track.with_suffix(suffix) if wish is True else Path(wish) if wish else None


def check(job: PitchJob) -> None:
    """UserError for a picture of unknown form, for two results of one name, or for one that cannot have its name."""
    if job.plot:
        pitch_plot.check_name(job.plot)
    if len({path.absolute() for path in job.files.values()}) < len(job.files):
        raise UserError(f"several results of {job.song} have the same name: {', '.join(map(str, job.files.values()))}")
    for path in job.files.values():
        if path.is_dir():
            raise UserError(f"{path} is a folder: choose another name")
        if path.exists() and path.samefile(job.song):
            raise UserError(f"{path} would be overwritten by its own pitch: choose another name")


def tracker(
    weights: str | None, device: str, threshold: float, viterbi: bool, hop: int | None, offline: bool
) -> PitchTracker:
    """A tracker that says what it is made of; arguments of `inference.pitch.PitchTracker`."""
    from inference.pitch import PitchTracker

    made = PitchTracker(weights, device, threshold, viterbi, hop, offline)
    announce(made)
    return made


def announce(tracker: PitchTracker, stem: str | None = None) -> None:
    """Say which weights follow the pitch (of a separated stem), and in which steps."""
    of = f", of {stem}" if stem else ""
    console.log(f"pitch: {tracker.plan.network}, {tracker.weights_path} ({tracker.weights_hash}){of}")
    if tracker.hop != tracker.config["hop_length"]:
        trained = 1000 * tracker.config["hop_length"] / tracker.sample_rate
        console.log(f"a frame each {1000 * tracker.step:g} ms; the network was trained with {trained:g} ms")


def follow(tracker: PitchTracker, todo: Sequence[PitchJob], problems: Sequence[UserError] = ()) -> int:
    """Do all jobs; one that cannot be done is reported, and the status is 1 then."""
    failed = len(problems)
    for problem in problems:
        console.complain(str(problem), 1)
    for number, job in enumerate(todo, 1):
        try:
            sentence = _one(tracker, job)
        except UserError as error:
            console.complain(str(error) if str(job.song) in str(error) else f"{job.song}: {error}", 1)
            sentence, failed = "failed", failed + 1
        console.log(f"[{number}/{len(todo)}] {job.song}: {sentence}")
    return 1 if failed else 0


def _one(tracker: PitchTracker, job: PitchJob) -> str:
    started = time.perf_counter()
    picture = pitch_plot.MelPicture() if job.plot else None
    with console.progress(100, job.song.name, "%") as bar:
        track = tracker.track_file(
            job.song,
            progress=lambda share: bar.update(int(share * 100) - bar.n),
            watch=picture.add if picture else None,
        )
    write(tracker, job, track, picture)
    seconds, elapsed = len(track) * tracker.step, time.perf_counter() - started
    return f"{seconds:.1f} s in {elapsed:.1f} s; {_summary(track)} -> {', '.join(map(str, job.files.values()))}"


def write(tracker: PitchTracker, job: PitchJob, track: PitchTrack, picture: pitch_plot.MelPicture | None) -> None:
    """Write the files of a song; ``picture`` is what ``job.plot`` needs."""
    pitch_files.write_track(job.track, track, facts(tracker), job.format)
    if job.plot:
        pitch_plot.draw(job.plot, track, picture, tracker.config, job.song.name)
    if job.midi:
        pitch_notes.write_midi(job.midi, pitch_notes.notes(track))


def _summary(track: PitchTrack) -> str:
    """How much is sung, and in which range."""
    sung = track.f0[track.voiced]
    if not len(sung):
        return "nothing sung"
    low, high = np.percentile(sung, (5, 95))
    return f"{100 * len(sung) / len(track):.0f} % sung, mostly {low:.0f} to {high:.0f} Hz"


def facts(tracker: PitchTracker) -> Mapping[str, Any]:
    """How a track is made, for its ``json``."""
    return {
        "network": tracker.plan.network if tracker.plan else tracker.model.description.name,
        "weights": tracker.weights_hash,
        "sample_rate": tracker.sample_rate,
        "hop": tracker.hop,
        "step": tracker.step,
        "threshold": tracker.threshold,
        "viterbi": tracker.viterbi,
    }
