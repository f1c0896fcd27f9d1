"""A picture of a restored song: spectrograms of the original, of what the codec left, and of what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from metrics.log_spectral import FLOOR, HOP, levels
from runtime.files import atomic_write

SECONDS = 10.0  # from the middle of the song: more cannot be seen, and memory must not grow with the song


def draw(path: str | Path, title: str, sounds: Mapping[str, np.ndarray], rate: int, cutoff: float | None) -> None:
    """Write the picture as PNG, atomically.

    Args:
        path: the file
        title: above all, before the stretch that is shown
        sounds: what is shown, ``[C, N]`` each, by what is written above it; all are as long
        rate: Hz
        cutoff: a line is drawn there, Hz; None for none
    """
    from matplotlib.figure import Figure

    length = min(sound.shape[1] for sound in sounds.values())
    shown = min(round(SECONDS * rate), length)
    first = (length - shown) // 2
    begin, end = first / rate, (first + shown) / rate
    figure = Figure(figsize=(5 * len(sounds), 4.5), layout="constrained")
    figure.suptitle(f"{title}: {begin:.1f} s to {end:.1f} s of {length / rate:.1f} s")
    plots = figure.subplots(1, len(sounds), sharey=True, squeeze=False)[0]
    images = [levels(sound[:, first : first + shown]) for sound in sounds.values()]
    how = {"origin": "lower", "aspect": "auto", "cmap": "magma", "vmin": FLOOR, "vmax": max(map(np.max, images))}
    for axes, name, image in zip(plots, sounds, images, strict=True):
        half = HOP / rate / 2
        edges = (begin - half, begin + 2 * half * image.shape[1] - half, 0, rate / 2000)
        drawn = axes.imshow(image, extent=edges, interpolation="nearest", **how)
        axes.set(title=name, xlabel="time in s", xlim=(begin, end))
        if cutoff is not None:
            axes.axhline(cutoff / 1000, color="cyan", linestyle="--", linewidth=0.8)
    plots[0].set_ylabel("frequency in kHz")
    figure.colorbar(drawn, ax=plots, label="level in dB", pad=0.01)
    with atomic_write(path) as handle:
        figure.savefig(handle, format="png", dpi=110)
