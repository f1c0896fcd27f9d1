"""The pitch of the voice in music: ``PitchTracker("model.pt").track_file("song.mp3")``.

Songs go through the network in chunks, of which frames at the edges are thrown away, so that memory does not grow with
the length and the pitch is that of the whole song.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.pitch_labels import Pitch
from inference.engine import EagerEngine, device_in_force
from inference.pitch_decoding import FrameDecoder, PathDecoder
from inference.pitch_front import MelStream
from inference.planning import Plan
from inference.progress import Cancel, Progress, Watch
from runtime.errors import UserError

THRESHOLD = 0.03  # of the salience: what is lower is unvoiced, as in the originals
CHUNK = 3072  # frames of a chunk that are kept; a multiple of what any network's levels divide
_BLOCK = 1 << 16  # samples read at a time


@dataclass(frozen=True)
class PitchTrack(Pitch):
    """A pitch with how sure the network is: ``confidence`` float32 ``[n]``, the highest salience of each frame."""

    confidence: np.ndarray


def joined(pieces: Iterable[PitchTrack]) -> PitchTrack:
    """One track of several that follow each other."""
    pieces = [PitchTrack(np.zeros(0), np.zeros(0), np.zeros(0, np.float32)), *pieces]
    columns = ("times", "f0", "confidence")
    return PitchTrack(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in columns))


class PitchTracker:
    """Follows the pitch of the voice with one network.

    The same audio gives the same bits, however it is cut into blocks.

    Args:
        weights: what `pretrained.rmvpe` and `inference.pitch_planning.plan` understand: a checkpoint or run folder of
            ours, a file of the originals, or None for the network that was trained last, else the published one
        device: a name that `runtime.device.select` understands
        threshold: frames whose highest salience is lower are unvoiced
        viterbi: follow the likeliest path instead of the highest salience of each frame
        hop: samples at the network's rate (16 kHz) from frame to frame; None is what the network was trained with
        offline: never download

    Attributes:
        model, plan: the network and where it came from (None: it was in memory)
        sample_rate: of the network, Hz
        hop: as above
        step: seconds from frame to frame
        weights_path, weights_hash, device: what is running, as text

    Raises:
        UserError: no weights, weights of another kind of network, a device that is not there, an option out of range
    """

    def __init__(
        self,
        weights: str | Path | Plan | None = None,
        device: str = "auto",
        threshold: float = THRESHOLD,
        viterbi: bool = False,
        hop: int | None = None,
        offline: bool = False,
    ):
        from inference.pitch_planning import plan as make_plan
        from inference.separator import activate

        plan = weights if isinstance(weights, Plan) else make_plan(weights, offline)
        check_options(threshold, hop)
        self.device = activate(device, plan.network)
        from inference.loading import load

        loaded = load(plan)
        self._set_up(loaded.model, threshold, viterbi, hop)
        self.plan, self.weights_path, self.weights_hash = plan, loaded.path, loaded.hash

    @classmethod
    def from_model(
        cls, model: Any, threshold: float = THRESHOLD, viterbi: bool = False, hop: int | None = None
    ) -> PitchTracker:
        """A tracker around a network in memory, on the device in force; it follows the network when that changes."""
        self = cls.__new__(cls)
        check_options(threshold, hop)
        self.device = device_in_force()
        self.plan = self.weights_path = self.weights_hash = None
        self._set_up(model, threshold, viterbi, hop)
        return self

    def _set_up(self, model: Any, threshold: float, viterbi: bool, hop: int | None) -> None:
        config = dict(model.description.config)
        self.model, self.config = model, config
        self.threshold, self.viterbi = threshold, viterbi
        self.sample_rate, self.hop = config["sample_rate"], hop or config["hop_length"]
        self.step = self.hop / self.sample_rate
        self.context = model.description.context // config["hop_length"]
        self.network = EagerEngine(model)

    def stream(self, rate: int, watch: Callable[[np.ndarray], None] | None = None) -> PitchStream:
        """A stream for one song at ``rate`` Hz; ``watch`` gets the frames ``[mel bands, t]`` as they are computed."""
        return PitchStream(self, rate, watch)

    def track(
        self,
        blocks: Iterable[np.ndarray],
        rate: int,
        total: int | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        watch: Callable[[np.ndarray], None] | None = None,
    ) -> PitchTrack:
        """The pitch of a song that comes in blocks ``[C, n]`` of any sizes, with any C and any length, 0 included.

        Args:
            blocks: floats with full scale 1
            rate: Hz
            total: samples, if known, for ``progress``
            progress: called with the finished share, 0 … 1
            cancel: asked between blocks; True ends the work with `inference.progress.Cancelled`
            watch: as in `stream`

        Raises:
            UserError: samples that are NaN or infinite
        """
        stream, report = self.stream(rate, watch), Watch(total, progress, cancel, reading=1.0)
        pieces = []
        for block in blocks:
            for start in range(0, block.shape[-1], _BLOCK):
                part = block[:, start : start + _BLOCK]
                pieces.append(stream.push(part))
                report.took(part.shape[-1])
        pieces.append(stream.finish())
        report.end()
        return joined(pieces)

    def track_file(
        self,
        path: str | Path,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        watch: Callable[[np.ndarray], None] | None = None,
    ) -> PitchTrack:
        """The pitch of an audio file; see `track`. Raises UserError for what is no audio."""
        from dsp import audio

        info = audio.probe(path)
        blocks = audio.blocks(path, _BLOCK)
        return self.track(blocks, info.sample_rate, info.frames or None, progress, cancel, watch)


class PitchStream:
    """Blocks ``[C, n]`` of one song in, the pitch of the frames that are settled out."""

    def __init__(self, tracker: PitchTracker, rate: int, watch: Callable[[np.ndarray], None] | None = None):
        if rate < 1:
            raise ValueError(f"a sample rate must be positive, not {rate}")
        self._tracker, self._watch = tracker, watch
        self._front = MelStream(rate, tracker.config, tracker.hop)
        self._decoder = (PathDecoder if tracker.viterbi else FrameDecoder)(tracker.threshold)
        self._mel = np.zeros((tracker.config["n_mels"], 0), np.float32)
        self._known = 0  # frames at its beginning that are only heard, their salience came out before
        self._confidence = np.zeros(0, np.float32)  # of frames whose pitch is not out yet
        self._given = 0

    def push(self, block: np.ndarray) -> PitchTrack:
        """What has become settled."""
        block = np.asarray(block)
        if block.ndim != 2 or not block.shape[0]:
            raise ValueError(f"a block has the axes [channels, samples], not {list(block.shape)}")
        if not np.issubdtype(block.dtype, np.floating):
            raise ValueError(f"a waveform consists of floats with full scale 1, not of {block.dtype}")
        if not np.isfinite(block).all():
            raise UserError("the music contains samples that are not numbers (NaN or infinite)")
        self._take(self._front.push(block))
        pieces = []
        while self._mel.shape[1] >= (end := self._known + CHUNK + self._tracker.context):
            pieces.append(self._settled(self._decoder.push(self._salience(end, self._known + CHUNK))))
        return joined(pieces)

    def finish(self) -> PitchTrack:
        """The rest."""
        self._take(self._front.finish())
        rest = self._mel.shape[1]
        pieces = [self._decoder.push(self._salience(rest, rest))] if rest > self._known else []
        return self._settled(np.concatenate([*pieces, self._decoder.finish()]))

    def _take(self, mel: np.ndarray) -> None:
        if self._watch and mel.shape[1]:
            self._watch(mel)
        self._mel = np.concatenate([self._mel, mel], axis=1)

    def _salience(self, end: int, done: int) -> np.ndarray:
        """Salience ``[t, 360]`` of the frames up to ``done``, heard together with those up to ``end``."""
        salience = self._tracker.network(np.ascontiguousarray(self._mel[None, :, :end]))[0, self._known : done]
        self._known = min(done, self._tracker.context)
        self._mel = self._mel[:, done - self._known :].copy()
        self._confidence = np.concatenate([self._confidence, salience.max(axis=1)])
        return salience

    def _settled(self, f0: np.ndarray) -> PitchTrack:
        count, first = len(f0), self._given
        confidence, self._confidence = self._confidence[:count], self._confidence[count:]
        self._given += count
        times = np.arange(first, first + count) * self._tracker.hop / self._tracker.sample_rate
        return PitchTrack(times, f0, confidence)


def check_options(threshold: float, hop: int | None) -> None:
    """UserError unless the threshold is a salience and the hop a whole number of samples."""
    if not 0 <= threshold <= 1:
        raise UserError(f"the threshold {threshold:g} is no salience: choose one from 0 to 1 (default {THRESHOLD})")
    if hop is not None and hop < 1:
        raise UserError(f"a hop of {hop} samples is none: choose at least 1 (10 ms are 160)")
