"""What pitch networks learn from and are judged by: segments of sung audio, and whole files. Imports no paddle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.index import Index
from data.pitch_augment import PitchAugment
from data.pitch_segments import PitchFiles, PitchSegments
from runtime.errors import UserError
from training.prepare import plain

if TYPE_CHECKING:
    import paddle

    from runtime.distributed import Group
    from training.recipes import Recipe

TRAIN, TEST = "train", "test"  # folders of a data set


def folder(cfg: Any) -> Index:
    """The data set of a configuration, which has no index: its songs are the files of its two folders.

    Raises:
        UserError: no such folder
    """
    place = Path(cfg.data.dataset)
    if not (place / TRAIN).is_dir():
        raise UserError(
            f"{place} has no folder {TRAIN}: make the data set with run_scripts/run_rmvpe.py -m prepare -o {place}, or "
            "say with --dataset where it is"
        )
    return Index(place, (), place)


def pitch_segments(cfg: Any, index: Index) -> tuple[PitchSegments, PitchFiles | None]:
    """Training segments and the songs to be judged by (None without a folder of them).

    An epoch has a segment of each song; where songs are too few for one batch of all processes, several.

    Raises:
        UserError: songs without labels or with those of another hop, or changes that cannot be
    """
    data, hop = cfg.data, int(cfg.model.hop_length)
    changes = {key: tuple(value) if isinstance(value, list) else value for key, value in plain(data.augment).items()}
    options = {"frames": int(data.frames), "seed": cfg.train.seed, "augment": PitchAugment(**changes)}
    learnt = PitchSegments(index.root / TRAIN, hop, **options, samples_per_epoch=data.samples_per_epoch)
    batch = cfg.train.batch_size * cfg.train.processes * cfg.train.accumulate
    if data.samples_per_epoch is None and len(learnt) < batch:
        learnt = PitchSegments(index.root / TRAIN, hop, **options, samples_per_epoch=batch)
    judged = PitchFiles(index.root / TEST, hop) if any((index.root / TEST).glob("*.wav")) else None
    return learnt, judged


class WholeSongs:
    """Validation by whole songs: the mean of each score over them, however many processes share them.

    Args:
        cfg: the configuration; ``train.valid_segments`` songs are taken, evenly spread, or all
        songs: what is judged by
        recipe: measures a song
        group: the processes
    """

    def __init__(self, cfg: Any, songs: PitchFiles, recipe: Recipe, group: Group):
        self.songs, self.recipe, self.group = songs, recipe, group
        count = min(cfg.train.valid_segments or len(songs), len(songs))
        self.places = np.linspace(0, len(songs) - 1, count).round().astype(int).tolist()

    def run(self, model: paddle.nn.Layer, asked_to_stop: Callable[[], bool]) -> dict[str, float] | None:
        """See :meth:`training.validation.Validation.run`."""
        from training.tracks import mean_scores

        def measure(place: int) -> dict[str, float]:
            song = self.songs[place]
            batch = {"mel": song.mel[None], "target": song.target[None], "f0": song.f0[None]}
            return {name: float(values[0]) for name, values in self.recipe.validate(model, batch).items()}

        return mean_scores(self.places, self.recipe.scores, measure, model, self.group, asked_to_stop)
