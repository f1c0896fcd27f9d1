"""Small deterministic songs with all stems: for the demo, for tests, and for a first look without a download.

    python -m data.synthetic FOLDER --songs 8 --seconds 20 --seed 0 --test 2

writes the documented layout `FOLDER/<split>/<song>/{mixture,vocal,instrumental,drums,bass,other}.wav` (16-bit stereo)
and `f0.csv`, the pitch of the voice every 10 ms. Song number k depends on the seed and on k alone. The stems sum to the
mixture exactly, sample by sample in integers, and the voice is about as loud as all the rest or a little softer.
"""

import argparse
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import synthesis
from data.stems import file_name
from runtime import console
from runtime.errors import UserError
from runtime.files import atomic_folder, require_space

PEAK = 0.89  # of the loudest of all tracks
SOURCES = ("vocals", "drums", "bass", "other")


@dataclass(frozen=True)
class SyntheticSong:
    """Tracks as int16 `[2, N]` by canonical stem name, and f0 in Hz every 10 ms (0: unvoiced)."""

    tracks: dict[str, np.ndarray]
    f0: np.ndarray
    sample_rate: int
    key: str


def make_song(seconds: float, seed: int, number: int = 0, sample_rate: int = 44100) -> SyntheticSong:
    """Compose and play one song; the same arguments give the same samples. UserError below half a second."""
    if seconds < 0.5 or sample_rate < 8000:
        raise UserError(f"a synthetic song of {seconds:g} s at {sample_rate} Hz: at least 0.5 s and 8000 Hz are needed")
    rng = np.random.default_rng([seed, number])
    score = synthesis.compose(rng, seconds, sample_rate)
    voice, f0 = synthesis.sing(rng, score)
    parts = band(rng, score)
    backing = sum(parts.values())
    parts["vocals"] = level(_room(rng, voice, sample_rate)) * rms(backing) * 10 ** (rng.uniform(-1.0, 0.5) / 20)
    parts["accompaniment"], parts["mixture"] = backing, backing + parts["vocals"]
    loudest = max(float(np.abs(part).max(initial=0)) for part in parts.values())
    gain = PEAK / max(loudest, 1e-9) * 32768
    tracks = {name: np.rint(parts[name] * gain).astype(np.int16) for name in SOURCES}
    tracks["accompaniment"] = tracks["drums"] + tracks["bass"] + tracks["other"]
    tracks["mixture"] = tracks["accompaniment"] + tracks["vocals"]
    return SyntheticSong(tracks, f0, sample_rate, score.key)


def band(rng: np.random.Generator, score: synthesis.Score) -> dict[str, np.ndarray]:
    """Drums, bass and other, each stereo `[2, N]`, that play a score, at about the same level of 1."""
    parts = {
        "drums": synthesis.drum(rng, score),
        "bass": synthesis.bass_line(rng, score),
        "other": level(synthesis.pads(rng, score)) + rng.uniform(0.5, 1.2) * level(synthesis.plucks(rng, score)),
    }
    return {name: level(part) * 10 ** (rng.uniform(-1.5, 1.5) / 20) for name, part in parts.items()}


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x.size else 0.0


def level(x: np.ndarray) -> np.ndarray:
    """Scaled to an RMS of 1; silence stays silence."""
    return x / max(rms(x), 1e-9)


def _room(rng: np.random.Generator, voice: np.ndarray, sample_rate: int) -> np.ndarray:
    """The mono voice `[N]` in the middle with a few early reflections from the sides: `[2, N]`."""
    sides = np.stack([voice, voice])
    for _ in range(6):
        delay = int(rng.uniform(0.008, 0.05) * sample_rate)
        side = int(rng.integers(2))
        sides[side, delay:] += np.float32(rng.uniform(0.05, 0.15)) * voice[: max(len(voice) - delay, 0)]
    return sides


def write_songs(
    folder: str | Path,
    songs: int,
    seconds: float,
    seed: int,
    sample_rate: int = 44100,
    splits: Mapping[str, int] | None = None,
) -> list[Path]:
    """Write `songs` songs of `seconds` seconds each and return their folders.

    `splits` says how many go to each split, in this order and after the songs of `train`, which get what is left:
    `songs=8, splits={"test": 2}` writes train/Synthetic 000 … 005 and test/Synthetic 006, 007. Each song appears whole
    or not at all; a song of the same name is replaced.
    """
    splits = dict(splits or {})
    left = songs - sum(count for name, count in splits.items() if name != "train")
    if min([left, *splits.values()]) < 0 or splits.get("train", left) != left:
        raise UserError(f"{songs} songs cannot be divided into the splits {splits}")
    places = ["train"] * left + [name for name, count in splits.items() if name != "train" for _ in range(count)]
    require_space(folder, round(songs * seconds * sample_rate) * 4 * 6, f"writing {songs} synthetic songs")
    folders = []
    for number, split in enumerate(places):
        song = make_song(seconds, seed, number, sample_rate)
        target = Path(folder) / split / f"Synthetic {number:03d}"
        with atomic_folder(target, replace=True) as temporary:
            for stem, track in song.tracks.items():
                _write_wav(temporary / f"{file_name(stem)}.wav", track, sample_rate)
            rows = (f"{0.01 * k:.2f},{f0:.3f}\n" for k, f0 in enumerate(song.f0))
            (temporary / "f0.csv").write_text("# time in s, f0 in Hz (0: unvoiced)\n" + "".join(rows), encoding="utf-8")
        folders.append(target)
    return folders


def _write_wav(path: Path, track: np.ndarray, sample_rate: int) -> None:
    """int16 `[C, N]` to a 16-bit WAV, bit for bit."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(track.shape[0])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.ascontiguousarray(track.T, dtype="<i2").tobytes())


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m data.synthetic", description="Write synthetic songs with stems.")
    parser.add_argument("folder", type=Path, help="data set folder to write to")
    parser.add_argument("--songs", type=int, default=8, help="number of songs (default 8)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each song in s (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="songs of another seed are other songs (default 0)")
    parser.add_argument("--test", type=int, default=2, help="how many of them go to the test split (default 2)")
    parser.add_argument("--sample-rate", type=int, default=44100, help="in Hz (default 44100)")
    args = parser.parse_args(argv)
    folders = write_songs(args.folder, args.songs, args.seconds, args.seed, args.sample_rate, {"test": args.test})
    console.log(f"{len(folders)} songs of {args.seconds:g} s written to {args.folder}")
    return 0


if __name__ == "__main__":
    console.run(main)
