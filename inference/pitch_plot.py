"""A picture of a pitch over the mel spectrogram that it was heard in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.errors import UserError
from runtime.files import atomic_write

if TYPE_CHECKING:
    from inference.pitch import PitchTrack

SUFFIXES = (".png", ".pdf", ".svg")
_COLUMNS = 4096  # of the spectrogram at most: more cannot be seen, and memory must not grow with the song
_TICKS = (50, 100, 200, 400, 800, 1600, 3200, 6400)  # Hz
_RANGE = 7.0  # of the colours: natural logarithm, 60 dB


class MelPicture:
    """Collects the frames of a spectrogram; neighbours are averaged once there are too many."""

    def __init__(self) -> None:
        self._columns: np.ndarray | None = None  # [bands, columns]
        self._rest: np.ndarray | None = None  # frames that are too few for a column
        self.frames = 0
        self.each = 1  # frames in a column

    def add(self, mel: np.ndarray) -> None:
        """Takes the next frames ``[bands, t]``."""
        self.frames += mel.shape[1]
        mel = mel if self._rest is None else np.concatenate([self._rest, mel], axis=1)
        whole = mel.shape[1] // self.each * self.each
        self._rest = mel[:, whole:].copy()
        new = _means(mel[:, :whole], self.each)
        self._columns = new if self._columns is None else np.concatenate([self._columns, new], axis=1)
        while self._columns.shape[1] >= 2 * _COLUMNS:
            even = self._columns.shape[1] // 2 * 2
            odd = np.repeat(self._columns[:, even:], self.each, axis=1)
            self._rest = np.concatenate([odd, self._rest], axis=1)
            self._columns, self.each = _means(self._columns[:, :even], 2), 2 * self.each

    def image(self) -> np.ndarray:
        """``[bands, columns]``, of which each stands for `each` frames; the last frames may be missing."""
        return np.zeros((1, 0)) if self._columns is None else self._columns


def _means(mel: np.ndarray, each: int) -> np.ndarray:
    return mel.reshape(len(mel), -1, each).mean(axis=2) if each > 1 else mel


def check_name(path: str | Path) -> None:
    """UserError unless the file is of a form that pictures are written in."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a picture is written as {', '.join(SUFFIXES)}")


def draw(path: str | Path, track: PitchTrack, picture: MelPicture, config: dict[str, Any], title: str = "") -> None:
    """Write the picture, atomically.

    Args:
        path: ``.png``, ``.pdf`` or ``.svg``
        track: the pitch
        picture: the spectrogram that it was heard in
        config: options of the network, see :class:`models.rmvpe_config.RMVPEConfig`
        title: above it
    """
    check_name(path)
    from matplotlib.figure import Figure

    image, step = picture.image(), track.step
    seconds = len(track) * step
    figure = Figure(figsize=(min(40.0, max(9.0, seconds / 3)), 5), layout="constrained")
    axes = figure.add_subplot(xlabel="time in s", ylabel="frequency in Hz", title=title)
    if image.size:
        top = float(image.max())
        edges = (-step / 2, image.shape[1] * picture.each * step - step / 2, -0.5, len(image) - 0.5)
        how = {"origin": "lower", "aspect": "auto", "cmap": "magma", "vmin": top - _RANGE, "vmax": top}
        axes.imshow(image, extent=edges, interpolation="nearest", **how)
    sung = np.where(track.voiced, track.f0, np.nan)
    axes.plot(track.times, _band(sung, config), color="cyan", linewidth=1.2, label="f0")
    ticks = [tick for tick in _TICKS if config["f_min"] <= tick <= config["f_max"]]
    axes.set_yticks(_band(np.array(ticks, float), config), labels=[f"{tick:g}" for tick in ticks])
    axes.set_xlim(-step / 2, max(seconds - step / 2, 0.01))
    axes.set_ylim(-0.5, config["n_mels"] - 0.5)
    axes.legend(loc="upper right")
    with atomic_write(path) as handle:
        figure.savefig(handle, format=Path(path).suffix[1:].lower(), dpi=110)


def _band(frequency: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Which mel band is centred on a frequency in Hz; a number that may lie between two."""
    low, high, here = (np.log1p(np.asarray(hertz) / 700) for hertz in (config["f_min"], config["f_max"], frequency))
    return (here - low) / (high - low) * (config["n_mels"] + 1) - 1
