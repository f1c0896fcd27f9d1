"""Segments and whole files of sung audio with their pitch, for networks that hear 16 kHz audio as a log-mel picture.

A data set is two folders, `train` and `test`, of `NAME.wav` (16 kHz; mono is the voice; of two channels the first is
the accompaniment, the second the voice) and `NAME.pv` (`data.pitch_labels`): line i, counted from 1, is the pitch of
frame i, counted from 0, at i · hop samples. The first frame, around the first sample, has no label.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.pitch_augment import ORIGINAL, WINDOW, PitchAugment, coloured_noise
from data.pitch_labels import SAMPLE_RATE, at_frames, frames_of, read_pv
from data.sampler import generator
from runtime.errors import UserError

PITCH = 10  # stream of random numbers: draws of a segment (`data.sampler` names the others)
BINS, MELS = 360, 128
WIDTH = 1.25  # bins: deviation of the bell that a pitch becomes


@dataclass(frozen=True)
class PitchSong:
    """A file of a data set: `f0` float32 `[T]` in Hz, one value a frame."""

    name: str
    path: Path
    samples: int
    channels: int
    f0: np.ndarray

    @property
    def frames(self) -> int:
        return len(self.f0)

    @property
    def fingerprint(self) -> str:
        """Names the song by its name, its length and its labels; the audio is not read for it."""
        facts = f"{self.name}\n{self.samples} {self.channels}\n".encode()
        return hashlib.sha256(facts + np.ascontiguousarray(self.f0, "<f4").tobytes()).hexdigest()[:16]


def songs_of(folder: str | Path, hop: int) -> list[PitchSong]:
    """All songs of one split, by name.

    Raises:
        UserError: no such folder, no song in it, a wav without label, another rate than 16 kHz, more than two channels,
            an empty file, or labels of another hop
    """
    folder = Path(folder)
    paths = sorted(path for path in folder.glob("*.wav") if not path.name.startswith("."))
    if not paths:
        raise UserError(f"{folder} holds no songs: make it with run_scripts/run_rmvpe.py -m prepare")
    return [_song(path, hop) for path in paths]


def _song(path: Path, hop: int) -> PitchSong:
    from dsp import audio

    info = audio.probe(path)
    if info.sample_rate != SAMPLE_RATE or info.channels > 2 or not info.frames:
        found = f"{info.frames} samples in {info.channels} channels at {info.sample_rate} Hz"
        raise UserError(f"{path} has {found}, but 16 kHz mono or stereo is needed: run run_rmvpe.py -m prepare on it")
    label = path.with_suffix(".pv")
    pitch = read_pv(label, hop / SAMPLE_RATE)
    frames = frames_of(info.frames, hop)
    if abs(len(pitch) - (frames - 1)) > max(10, 0.1 * frames):
        raise UserError(
            f"{label} has {len(pitch)} lines, but {path.name} has {frames - 1} frames to label at a hop of {hop} "
            "samples: prepare the data set with the same --hop_length that it is used with"
        )
    return PitchSong(path.stem, path, info.frames, info.channels, at_frames(pitch, info.frames, hop))


def bells(f0: np.ndarray) -> np.ndarray:
    """What the network is to say: float32 `[T, 360]`, a bell of 1 around the bin of each f0 in Hz, 0 where unvoiced."""
    from dsp.salience import cents_to_bin, hz_to_cents

    position = np.where(f0 > 0, cents_to_bin(hz_to_cents(f0)), -1e3).astype(np.float32)  # unvoiced: far from all bins
    return np.exp(-((np.arange(BINS, dtype=np.float32) - position[:, None]) ** 2) / (2 * WIDTH**2))


class PitchSegments:
    """Training segments; `item(epoch, index)` is `{"mel" [128, T], "target" [T, 360], "f0" [T], "song"}`.

    Fits `data.loader.BatchLoader`, whose batches then have `mel [B, 128, T]`, `target [B, T, 360]`, `f0 [B, T]` (Hz, 0
    where unvoiced) and `songs`. An item is a function of (seed, epoch, index): a random crop of song number `index`,
    counted around. A song that is shorter than a segment is followed by silence.

    Args:
        folder: one split of a data set
        hop: samples from frame to frame
        frames: of a segment
        seed: of what is drawn
        augment: how segments are changed; None leaves them as they are, with the whole accompaniment
        training: False takes the same crops in every epoch, unchanged
        samples_per_epoch: items; as many as there are songs if None

    Raises:
        UserError: see `songs_of`
    """

    def __init__(
        self,
        folder: str | Path,
        hop: int = 160,
        frames: int = 128,
        seed: int = 0,
        augment: PitchAugment | None = ORIGINAL,
        training: bool = True,
        samples_per_epoch: int | None = None,
    ):
        self.songs, self.hop, self.frames, self.seed = songs_of(folder, hop), hop, frames, seed
        self.training, self.augment = training, augment if training else None
        self._length = samples_per_epoch or len(self.songs)

    def __len__(self) -> int:
        return self._length

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays of one item."""
        return {"mel": (MELS, self.frames), "target": (self.frames, BINS), "f0": (self.frames,)}

    def summary(self) -> str:
        """One line: how many songs there are, how long they are, and how long a segment is."""
        minutes = sum(song.samples for song in self.songs) / SAMPLE_RATE / 60
        seconds = self.frames * self.hop / SAMPLE_RATE
        return f"{len(self.songs)} songs of {minutes:.1f} minutes, {len(self)} segments of {seconds:g} s an epoch"

    def item(self, epoch: int, index: int) -> dict:
        """The arrays of one segment, and `song`, the name of its song."""
        out = {name: np.empty(shape, np.float32) for name, shape in self.shapes.items()}
        return {**out, **self.fill(epoch, index, out)}

    def fill(self, epoch: int, index: int, out: Mapping[str, np.ndarray]) -> dict:
        """Write the arrays of an item into `out` and return the rest of it."""
        song = self._song(index)
        rng = generator(self.seed, PITCH, epoch if self.training else 0, index)
        start = int(rng.integers(1, song.frames - self.frames + 1)) if song.frames > self.frames else 0
        out["mel"][...], out["f0"][...] = _heard(song, start, self.frames, self.hop, self.augment, rng)
        out["target"][...] = bells(out["f0"])
        return {"song": song.name}

    def song_of(self, epoch: int, index: int) -> str:
        """Name of the song that an item is taken from."""
        return self._song(index).name

    def _song(self, index: int) -> PitchSong:
        if not 0 <= index < len(self):
            raise IndexError(f"segment {index} of {len(self)}")
        return self.songs[index % len(self.songs)]


class PitchFile(NamedTuple):
    """A whole song to be judged by: `mel` float32 `[128, T]`, `target [T, 360]`, `f0 [T]` in Hz, `times [T]` in s."""

    name: str
    mel: np.ndarray
    target: np.ndarray
    f0: np.ndarray
    times: np.ndarray


class PitchFiles:
    """The songs of one split, whole and unchanged: a sequence of `PitchFile`, each read when it is asked for.

    Raises:
        UserError: see `songs_of`
    """

    def __init__(self, folder: str | Path, hop: int = 160):
        self.songs, self.hop = songs_of(folder, hop), hop

    def __len__(self) -> int:
        return len(self.songs)

    def __iter__(self) -> Iterator[PitchFile]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, index: int) -> PitchFile:
        song = self.songs[index]
        mel, f0 = _heard(song, 0, song.frames, self.hop, None, None)
        return PitchFile(song.name, mel, bells(f0), f0, np.arange(song.frames) * (self.hop / SAMPLE_RATE))

    def summary(self) -> str:
        """One line: how many songs there are, and how long they are."""
        return f"{len(self)} songs of {sum(song.samples for song in self.songs) / SAMPLE_RATE / 60:.1f} minutes"

    def song_of(self, index: int) -> str:
        """Name of a song."""
        return self.songs[index].name


# --------------------------------------------------------------------------------------------------- audio to segments


def _heard(
    song: PitchSong, start: int, count: int, hop: int, augment: PitchAugment | None, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel `[128, count]` and f0 `[count]` of the frames from `start` on, changed if there is an `augment`."""
    from dsp.mel import LogMel

    change = augment.draw(rng) if augment else None
    window = change.window if change else WINDOW
    first = start * hop - window // 2
    x = _samples(song, first, first + (count - 1) * hop + window, mirror=start + count <= song.frames)
    f0 = np.pad(song.f0[start : start + count], (0, max(start + count - song.frames, 0)))
    log_mel = LogMel(SAMPLE_RATE, MELS, WINDOW, hop, center=False)
    if change is None:
        return log_mel(x.sum(axis=0)), f0
    if song.channels == 2:
        x = x[1] + np.float32(change.mix) * x[0]
    else:
        x = x[0] + np.float32(change.level) * coloured_noise(rng, change.exponent, x.shape[1])
    x = x * np.float32(augment.gain(change, float(np.abs(x).max())))
    return log_mel(x, change.key_shift), f0 * np.float32(change.ratio)


def _samples(song: PitchSong, start: int, stop: int, mirror: bool) -> np.ndarray:
    """Samples `[C, stop - start]` of a song that is mirrored before its beginning; behind its end, too, or silent."""
    from dsp import audio

    period = max(2 * (song.samples - 1), 1)
    wanted = np.arange(start, stop)
    places = np.minimum(wanted % period, -wanted % period) if song.samples > 1 else np.zeros_like(wanted)
    low, high = int(places.min()), int(places.max()) + 1
    x = audio.read(song.path, low, high - low)[0][:, places - low]
    return x if mirror else np.where(wanted < song.samples, x, np.float32(0))
