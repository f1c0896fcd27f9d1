"""Songs cut into chunks, and what is in a chunk: what the cache stores and what `train` computes on the fly.

A chunk holds magnitudes, for networks that need no phase, or the waveform itself. The spectrogram is Spleeter's for
training: |STFT| with a periodic Hann window, no zeros put before the song and none after it, the first ``bins`` bins.
All positions are counted in samples at the rate of the specification.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np

from data.index import Index, Song, load_stem
from data.payload import payloads_for
from data.stems import CANONICAL, canonical
from runtime.errors import UserError

MARGIN = 4096  # samples read on both sides of a section that is resampled: more than the resampler's filter is long
EDGE_SECONDS = 0.5  # what the original's formula leaves out at both ends of a song
LOUDEST = 2.0**30  # a magnitude above this does not come from audio, whose full scale gives 2^11


@dataclass(frozen=True, kw_only=True)
class CacheSpec:
    """What a cached song holds; equal specifications and equal audio give the same file.

    ``kind`` is ``magnitude`` or ``waveform``. A waveform has no STFT: its frames are single samples, and
    ``frame_length``, ``frame_step`` and ``bins`` are 1 whatever is given. ``payload`` is a format of `data.payload`,
    the kind's first one if not given. ``stems`` are the targets in the order of the network's outputs; the mixture
    comes before them; waveforms may have stems that only their data set knows. Chunks of ``chunk_seconds`` follow one
    another through the whole song, the last one moved back so that it ends with the song; with ``chunks_per_song``
    there are that many, spread evenly as in the original (they may overlap or leave gaps).
    UserError for values that cannot work.
    """

    stems: tuple[str, ...]
    kind: str = "magnitude"
    frame_length: int = 4096
    frame_step: int = 1024
    bins: int = 1024
    sample_rate: int = 44100
    channels: int = 2
    chunk_seconds: float = 20.0
    chunks_per_song: int | None = None
    payload: str = ""

    def __post_init__(self) -> None:
        own = self.kind == "waveform"
        known = tuple(canonical(stem) or (stem if own else None) for stem in self.stems)
        if not known or None in known or "mixture" in known or len(set(known)) < len(known):
            targets = ", ".join(CANONICAL[1:])
            raise UserError(f"stems {list(self.stems)}: choose different ones of {targets}")
        object.__setattr__(self, "stems", known)
        self._settle_kind()
        if not 0 < self.frame_step <= self.frame_length:
            raise UserError(f"frame_step {self.frame_step} must lie in 1 … frame_length {self.frame_length}")
        available = (1 << (self.frame_length - 1).bit_length()) // 2 + 1  # the FFT is the next power of two
        if not 0 < self.bins <= available:
            raise UserError(f"{self.bins} bins: a frame of {self.frame_length} samples has {available}")
        if self.frames_in(self.chunk_samples) < 1:
            raise UserError(
                f"chunk_seconds {self.chunk_seconds} is shorter than one frame of {self.frame_length} samples"
            )
        if self.chunks_per_song is not None and self.chunks_per_song < 1:
            raise UserError(f"chunks_per_song is {self.chunks_per_song}: it must be at least 1, or null for all")

    def _settle_kind(self) -> None:
        payloads = payloads_for(self.kind)
        if not payloads:
            raise UserError(f"cache of kind {self.kind!r} is unknown; there are magnitude and waveform")
        if not self.payload:
            object.__setattr__(self, "payload", payloads[0])
        if self.payload not in payloads:
            raise UserError(f"payload {self.payload!r} is unknown; choose one of {', '.join(payloads)}")
        if self.kind == "waveform":
            for name in ("frame_length", "frame_step", "bins"):
                object.__setattr__(self, name, 1)

    @property
    def tracks(self) -> tuple[str, ...]:
        return ("mixture", *self.stems)

    @property
    def chunk_samples(self) -> int:
        return round(self.chunk_seconds * self.sample_rate)

    def frames_in(self, samples: int) -> int:
        """Whole STFT frames in so many samples."""
        return max((samples - self.frame_length) // self.frame_step + 1, 0)

    def samples_of(self, frames: int) -> int:
        """Samples that so many frames (at least one) are made of."""
        return self.frame_length + (frames - 1) * self.frame_step

    def shape(self, frames: int) -> tuple[int, ...]:
        """Shape of one track: ``[C, T, F]`` of magnitudes, ``[C, N]`` of a waveform."""
        return (self.channels, frames, self.bins) if self.kind == "magnitude" else (self.channels, frames)

    def as_dict(self) -> dict:
        return {**asdict(self), "stems": list(self.stems)}


@dataclass(frozen=True)
class Chunk:
    """A piece of a song: its first sample and how many frames it has (of a waveform: samples)."""

    start: int
    frames: int


def length_of(song: Song, spec: CacheSpec) -> int:
    """Samples of the song at the rate of the specification, an unfinished last one left out."""
    return song.frames * spec.sample_rate // song.sample_rate


def plan_chunks(song: Song, spec: CacheSpec) -> list[Chunk]:
    """Chunks of a song; none if it is shorter than one STFT frame, one if it is shorter than a chunk."""
    length = length_of(song, spec)
    total, size = spec.frames_in(length), spec.frames_in(spec.chunk_samples)
    if spec.chunks_per_song is not None:
        return _spread(length, min(total, size), spec)
    if total <= size:
        return [Chunk(0, total)] if total else []
    step = spec.chunk_samples
    count = max(-(-(length - spec.frame_length) // step), 1)  # a rest shorter than a frame is not worth a chunk
    # One after the other from the beginning; the last one ends with the song and overlaps its neighbour instead.
    starts = [*range(0, (count - 1) * step, step), length - step]
    return [Chunk(start, size) for start in starts]


def _spread(length: int, frames: int, spec: CacheSpec) -> list[Chunk]:
    """The original's choice: n chunks from half a second after the beginning to half a second before the end."""
    if not frames:
        return []
    seconds, last_start = length / spec.sample_rate, length - spec.samples_of(frames)
    if spec.chunks_per_song == 1:
        starts = [(seconds - spec.chunk_seconds) / 2]
    else:
        step = (seconds - spec.chunk_seconds - 2 * EDGE_SECONDS) / (spec.chunks_per_song - 1)
        starts = [k * step + EDGE_SECONDS for k in range(spec.chunks_per_song)]
    samples = [min(max(round(start * spec.sample_rate), 0), last_start) for start in starts]
    return [Chunk(start, frames) for start in dict.fromkeys(samples)]  # a short song would repeat its only chunk


def content(index: Index, song: Song, spec: CacheSpec, start: int, frames: int) -> np.ndarray:
    """All tracks from sample ``start`` on, the mixture first: float32 ``[track, C, T, F]`` or ``[track, C, N]``.

    UserError for a stem that is missing, too short or holds values that are no audio (NaN, infinite).
    """
    transform = _magnitudes(spec) if spec.kind == "magnitude" else np.asarray
    out = np.empty((len(spec.tracks), *spec.shape(frames)), np.float32)
    for track, stem in enumerate(spec.tracks):
        out[track] = transform(section(index, song, stem, spec, start, spec.samples_of(frames)))
        if not max(out[track].max(), -out[track].min()) < LOUDEST:
            raise UserError(f"{song.folder}: the {stem} has values that are no audio (NaN, infinite or far too large)")
    return out


def _magnitudes(spec: CacheSpec) -> Callable[[np.ndarray], np.ndarray]:
    """From a waveform ``[C, N]`` to the first bins of |STFT| ``[C, T, F]``."""
    from dsp.stft import SpleeterSTFT

    stft = SpleeterSTFT(spec.frame_length, spec.frame_step)
    return lambda wave: stft.magnitude_frames(wave)[..., : spec.bins]


def section(index: Index, song: Song, stem: str, spec: CacheSpec, start: int, samples: int) -> np.ndarray:
    """A section of a stem at the rate and with the channels of the specification, float32 ``[C, samples]``.

    Mono is doubled; of more channels than wanted the first ones stay (`dsp.audio.convert_channels`). A song at another
    rate is resampled from a point that is a sample of both rates, with a margin on both sides, so that a section is the
    same wherever it is cut from.
    """
    if song.sample_rate == spec.sample_rate:
        wave = load_stem(index, song, stem, start, samples, channels=spec.channels)
    else:
        wave = _resampled(index, song, stem, spec, start, samples)
    if wave.shape[-1] != samples:
        raise UserError(
            f"{song.folder}: the {stem} ends before the {song.seconds:.1f} s that the index tells; "
            "run `python preprocess.py` again"
        )
    return wave


def _resampled(index: Index, song: Song, stem: str, spec: CacheSpec, start: int, samples: int) -> np.ndarray:
    from dsp.resample import resample

    ratio = Fraction(song.sample_rate, spec.sample_rate)
    period, source_period = ratio.denominator, ratio.numerator  # so many samples of both take the same time
    periods = max(start // period - -(-MARGIN // source_period), 0)
    source_start = periods * source_period
    source_stop = -(-(start + samples) * source_period // period) + MARGIN
    wave = load_stem(index, song, stem, source_start, source_stop - source_start, channels=spec.channels)
    offset = start - periods * period
    return resample(wave, song.sample_rate, spec.sample_rate)[:, offset : offset + samples]
