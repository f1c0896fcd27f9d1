"""The scores of test songs as Demucs reports them: nSDR always, BSS Eval v4 at the end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from data.sampler import generator
from dsp.audio_write import AudioWriter
from dsp.chunks import draw_delays
from metrics.bss_eval import bss_eval_v4
from metrics.sdr import nsdr
from runtime.distributed import Group
from training.recipes.demucs import DemucsRecipe
from training.tracks import each_song

SHIFTS = 12  # stream of `data.sampler.generator`: delays of the test songs
_BITRATE = "320k"

Scores = dict[str, dict[str, float]]
"""Of one song: metric -> source -> dB."""


def test_scores(
    songs: Any,
    recipe: DemucsRecipe,
    model: paddle.nn.Layer,
    group: Group,
    asked_to_stop: Callable[[], bool],
    folder: Path | None,
    bss: bool,
) -> dict[str, float] | None:
    """Means and medians over the test songs, which are shared out to all processes.

    Args:
        songs: with ``name``, ``mixture [C, N]``, ``stems [S, C, N]`` in their own level, ``mean`` and ``std``
        recipe: of the experiment; ``test.shifts``, ``test.overlap``, ``test.split`` and ``test.workers`` count
        model: the network
        group: the processes
        asked_to_stop: called before every song
        folder: write the estimates below it as MP3; None: do not
        bss: compute SDR, SIR, ISR and SAR, too; a song counts with the median of its frames

    Returns:
        ``nsdr`` (mean over sources and songs), ``nsdr_drums`` …, ``nsdr_med`` (median over the songs, mean over the
        sources), ``nsdr_med_drums`` … and the same of the other metrics; None if it was asked to stop.
    """
    test, found = recipe.cfg.test, {}
    with ThreadPoolExecutor(max(int(test.workers), 1), "score") as pool:

        def work(k: int) -> None:
            song = songs[k]
            estimates = _estimates(song, k, recipe, model)
            if folder is not None:
                _write(folder / song.name, estimates, recipe)
            found[k] = pool.submit(song_scores, song.stems, estimates, recipe.sources, recipe.sample_rate, bss)

        if not each_song(len(songs), work, model, group, asked_to_stop):
            return None
        return summary(_gathered(found, group), recipe.sources)


def song_scores(stems: np.ndarray, estimates: np.ndarray, sources: list[str], rate: int, bss: bool) -> Scores:
    """The metrics of a song ``[S, C, N]``, those of BSS Eval in frames of a second."""
    rows = {"nsdr": nsdr(stems, estimates)}
    if bss:
        frames = bss_eval_v4(stems.swapaxes(1, 2), estimates.swapaxes(1, 2), window=rate, hop=rate)
        rows |= {name.lower(): _medians(values) for name, values in frames.items()}
    return {name: dict(zip(sources, map(float, values), strict=True)) for name, values in rows.items()}


def summary(songs: list[Scores], sources: list[str]) -> dict[str, float]:
    """Over the songs; see `test_scores`. A song where a metric is undefined does not count for it."""
    result: dict[str, float] = {}
    for metric in songs[0]:
        for suffix, total in (("", np.mean), ("_med", np.median)):
            defined = [[s[metric][source] for s in songs if not np.isnan(s[metric][source])] for source in sources]
            values = [float(total(column)) if column else float("nan") for column in defined]
            result |= {f"{metric}{suffix}_{source}": value for source, value in zip(sources, values, strict=True)}
            result[f"{metric}{suffix}"] = float(np.mean(values))
    return result


def _estimates(song: Any, number: int, recipe: DemucsRecipe, model: paddle.nn.Layer) -> np.ndarray:
    """Stems ``[S, C, N]`` in the song's level; the same delays at every test."""
    test = recipe.cfg.test
    draws = generator(int(recipe.cfg.seed), SHIFTS, number)
    delays = draw_delays(draws, recipe.sample_rate, int(test.shifts))
    mean, std = np.float32(song.mean), np.float32(song.std)
    mixture = (song.mixture - mean) / std
    return recipe.separate(model, mixture, float(test.overlap), bool(test.split), delays) * std + mean


def _medians(values: np.ndarray) -> list[float]:
    """Of each source's frames ``[S, frames]`` that are defined."""
    return [float(np.median(row[~np.isnan(row)])) if not np.isnan(row).all() else float("nan") for row in values]


def _write(folder: Path, estimates: np.ndarray, recipe: DemucsRecipe) -> None:
    for name, estimate in zip(recipe.sources, estimates, strict=True):
        with AudioWriter(folder / f"{name}.mp3", recipe.sample_rate, len(estimate), "mp3", _BITRATE) as writer:
            writer.write(estimate)


def _gathered(found: dict[int, Future], group: Group) -> list[Scores]:
    """The scores of all processes in the order of the songs."""
    shares = group.gather_objects({k: future.result() for k, future in found.items()})
    together = {k: scores for share in shares for k, scores in share.items()}
    return [together[k] for k in sorted(together)]
