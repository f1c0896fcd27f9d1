"""The work on the audio of an automix: analysing a song, and playing the parts of a mix together."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.automix_analysis import Analysis, analyse
from data.automix_plan import Part
from data.index import Index, Song, load_stem
from data.wave_songs import spelled
from runtime.errors import UserError
from runtime.files import atomic_folder, write_json

if TYPE_CHECKING:
    from data.automix import Settings

HEADROOM = 1.01  # by which a mix that passes full scale stays below it
BYTES = {"wav16": 2, "wav24": 3, "float32": 4, "flac": 2}


@dataclass(frozen=True)
class Mix:
    """A song to be written: its folder in the output, its parts, and the song of each part."""

    folder: str
    parts: tuple[Part, ...]
    songs: tuple[Song, ...]


def analyse_song(song: Song, root: Path, settings: "Settings", folder: Path) -> Analysis:
    """The analysis of a song; kept in ``folder``."""
    return analyse(Index(root, (song,)), song, [spelled(source) for source in settings.sources], folder)


def size_of(mix: Mix, settings: "Settings") -> int:
    """About how many bytes a mix takes."""
    seconds = min(song.seconds for song in mix.songs) * (1 + settings.max_tempo / 100)
    frame = settings.channels * BYTES[settings.format] * (len(mix.parts) + 1)
    return round(seconds * settings.sample_rate) * frame


def render(mix: Mix, root: Path, settings: "Settings", out: Path) -> None:
    """Write the stems and the mixture of a mix, and what they were made of, to its folder."""
    from dsp.audio import AudioWriter, suffix

    stems = play(mix, root, settings.sample_rate, settings.channels)
    tracks = dict(zip(settings.sources, stems, strict=True)) | {"mixture": stems.sum(axis=0)}
    peak = max(float(np.abs(track).max()) for track in tracks.values())
    scale = np.float32(1 / max(1.0, HEADROOM * peak))  # one gain for all, so that the stems still add up
    with atomic_folder(out / mix.folder) as temporary:
        for name, track in tracks.items():
            path = temporary / f"{name}{suffix(settings.format)}"
            with AudioWriter(path, settings.sample_rate, settings.channels, format=settings.format) as writer:
                writer.write(track * scale)
        write_json(temporary / "mix.json", {"gain": float(scale), "parts": [asdict(part) for part in mix.parts]})


def play(mix: Mix, root: Path, sample_rate: int, channels: int) -> np.ndarray:
    """The stems ``[S, C, N]`` of a mix, N being the length of the shortest.

    Raises:
        UserError: a file that cannot be read, or stems that have no moment in common
    """
    from dsp.repitch import repitch

    stems = []
    for part, song in zip(mix.parts, mix.songs, strict=True):
        name, first = spelled(part.source), round(part.start * song.sample_rate)
        x = load_stem(Index(root, (song,)), song, name, first, sample_rate=sample_rate, channels=channels)
        x = repitch(x, part.semitones, part.tempo_percent, voice=name == "vocals", sample_rate=sample_rate)
        stems.append(np.pad(x, ((0, 0), (round(part.delay * sample_rate), 0))))
    length = min(stem.shape[1] for stem in stems)
    if length <= round(max(part.delay for part in mix.parts) * sample_rate):
        raise UserError("its stems have no moment in common; its songs are too short to be mixed")
    return np.stack([stem[:, :length] for stem in stems])
