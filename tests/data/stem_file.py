"""Stem files as MUSDB18 has them, small: five AAC streams in an MP4 container."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 44100
STREAMS = ("mixture", "drums", "bass", "other", "vocals")


def tracks(seconds: float, seed: int, level: float = 0.1) -> dict[str, np.ndarray]:
    """Four sources and their sum, float32 ``[2, N]``; tones, because they survive the lossy codec well."""
    time = np.arange(round(seconds * RATE)) / RATE
    rng = np.random.default_rng(seed)
    sources = {
        stem: (level * np.sin(2 * np.pi * rng.uniform(100, 2000, (2, 1)) * time)).astype(np.float32)
        for stem in STREAMS[1:]
    }
    return {"mixture": sum(sources.values()), **sources}


def write(path: Path, seconds: float = 1.0, seed: int = 0, level: float = 0.1) -> Path:
    """A stem file of `tracks`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as output:
        streams = [output.add_stream("aac", rate=RATE, layout="stereo", bit_rate=256_000) for _ in STREAMS]
        for stream, track in zip(streams, tracks(seconds, seed, level).values(), strict=True):
            for start in range(0, track.shape[1], 1024):
                planes = np.ascontiguousarray(track[:, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
                frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return path
