"""What Apollo learns from and is judged by: pieces of pairs, and whole pairs. Imports no paddle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data.codec_pairs import CodecPair, Pairs, pairs_of
from data.codec_segments import CodecFiles, CodecSegments
from runtime import console
from runtime.errors import UserError

if TYPE_CHECKING:
    import paddle

    from runtime.distributed import Group
    from training.recipes import Recipe

_VALID_TYPE = 1  # of the folders that are judged by, as in the original


class PairsIndex(NamedTuple):
    """The pairs of a configuration; ``path`` says where they were found."""

    path: str
    train: tuple[CodecPair, ...]
    valid: tuple[CodecPair, ...]


def pairs(cfg: Any) -> PairsIndex:
    """The pairs of all folders of a configuration; what is wrong with others is said.

    Raises:
        UserError: no folder named, one that is missing, or no usable pair
    """
    data = cfg.data
    if not data.train.folders:
        raise UserError(
            "data.train.folders is empty: name the folders of pairs that -m generate has made, or with --dataset a "
            "folder that has them in train and valid"
        )
    learnt = _found(cfg, data.train, data.type)
    judged = _found(cfg, data.valid, _VALID_TYPE) if data.valid.folders else ()
    return PairsIndex(", ".join(map(str, data.train.folders)), learnt, judged)


def _found(cfg: Any, part: Any, kind: int) -> tuple[CodecPair, ...]:
    report: Pairs = pairs_of(
        list(part.folders),
        cfg.data.cache,
        kind,
        part.original_format,
        part.codec_format,
        int(cfg.model.sr),
        tuple(cfg.data.stems),
        max(cfg.data.workers, 1),
    )
    if report.findings:
        places = ", ".join(map(str, part.folders))
        told = ", ".join(f"{count} {reason}" for reason, count in report.reasons.items())
        console.detail(f"{places}: {told}")
        for finding in report.findings:
            if finding.severity == "error":
                console.warn(f"left out: {finding.message}")
    return tuple(report.pairs)


def codec_segments(cfg: Any, index: PairsIndex) -> tuple[CodecSegments, CodecFiles | None]:
    """Training pieces, and the pairs to be judged by (None without a folder of them).

    Raises:
        UserError: an impossible length of a piece
    """
    data, rate = cfg.data, int(cfg.model.sr)
    samples = round(data.segment * rate)
    if samples < 1:
        raise UserError(f"data.segment={data.segment}: it must be a number of seconds above 0")
    channels = int(cfg.model.channels)
    learnt = CodecSegments(index.train, samples, cfg.train.seed, data.samples_per_epoch, channels, rate)
    return learnt, CodecFiles(index.valid, channels, rate) if index.valid else None


class WholePairs:
    """Validation by whole pairs: the mean of each score over them, however many processes share them.

    Long songs pass through the network in pieces that overlap by what it hears, so that the result is that of the whole
    song while the memory stays that of a piece.

    Args:
        cfg: the configuration; ``train.valid_segments`` pairs are taken, evenly spread, or all
        songs: what is judged by
        recipe: measures a pair
        group: the processes
    """

    def __init__(self, cfg: Any, songs: CodecFiles, recipe: Recipe, group: Group):
        self.cfg, self.songs, self.recipe, self.group = cfg, songs, recipe, group
        count = min(cfg.train.valid_segments or len(songs), len(songs))
        self.places = np.linspace(0, len(songs) - 1, count).round().astype(int).tolist()

    def run(self, model: paddle.nn.Layer, asked_to_stop: Callable[[], bool]) -> dict[str, float] | None:
        """See :meth:`training.validation.Validation.run`."""
        from training.tracks import mean_scores

        unit = model.config.stride
        size = max(round(self.cfg.train.valid_piece * self.recipe.sample_rate) // unit, 1) * unit

        def restore(piece: np.ndarray) -> np.ndarray:
            return self.recipe.restored(model, piece)

        def measure(place: int) -> dict[str, float]:
            song = self.songs[place]
            return self.recipe.measure(in_pieces(restore, song.codec, size, model.config.reach), song.original)

        return mean_scores(self.places, self.recipe.scores, measure, model, self.group, asked_to_stop)


def in_pieces(restore: Callable[[np.ndarray], np.ndarray], x: np.ndarray, size: int, reach: int) -> np.ndarray:
    """What ``restore`` makes of all of ``x [C, N]``, piece by piece.

    Args:
        restore: ``[C, n] -> [C, n]``
        x: a song
        size: samples that come from one piece, whole frames
        reach: samples from which on nothing has an effect any more, whole frames
    """
    length, parts = x.shape[1], []
    for first in range(0, length, size):
        begin, end = max(first - reach, 0), min(first + size + reach, length)
        parts.append(restore(x[:, begin:end])[:, first - begin : first - begin + size])
    return np.concatenate(parts, axis=1)[:, :length]
