"""How to separate: everything that can be chosen but the network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from inference.cutting import WINDOWS
from inference.spectral import MASK_EXTENSIONS
from inference.windowed import NORMALISED
from runtime.errors import UserError

MAX_SEGMENT = 600  # s; a call of the network takes memory in proportion, a gigabyte or two for so much
# what only one kind of network has -> what leaves it as it is
_MASKS = {"mwf": False, "mask_extension": None, "exponent": None}
_WAVES = {"split": True, "jobs": 1}
_CHUNKS = {"window": None}


@dataclass(frozen=True)
class Options:
    """How to separate; everything but the network.

    Attributes:
        segment: s of one network input; None is the network's own (Spleeter 11.9 s, HTDemucs 7.8 s). Networks on
            magnitudes round it to 64 frames, networks of fixed length take no more than their own
        overlap: share of a segment that overlaps the next, 0 … 0.95; predictions are cross-faded. None is what the
            original does: 0 for magnitudes (side by side), 0.25 for waveforms, 0.82 for BandSplitRNN (every 0.54 s);
            for Apollo what it hears beyond a sample at both ends, and a short cross-fade
        shifts: average so many passes over randomly delayed copies of the song; 0 is a single pass without delay. None
            is what the original does: 0 for magnitudes and BandSplitRNN, 1 for other waveforms
        seed: of the delays
        split: False for the whole song at once, in memory (waveforms)
        mwf: multichannel Wiener filter instead of the ratio mask (magnitudes)
        mask_extension: ``zeros`` or ``average`` above the network's bins; None is what its configuration says
        exponent: power of the magnitudes in the ratio mask; None is what its configuration says
        batch: segments per call of the network; None is 1 on a CPU and for waveforms, elsewhere 4, 8 for BandSplitRNN
        jobs: calls of the network at the same time, in threads of the CPU (waveforms)
        window: how overlapping chunks are added (BandSplitRNN, Apollo): ``normalised`` (which None is), or as the
            reference does it, ``reference``, ``reference:hann`` … (BandSplitRNN) or ``reference:linear`` (Apollo); see
            `inference.windowed.Windowing` and `inference.apollo_chunked`
    """

    segment: float | None = None
    overlap: float | None = None
    shifts: int | None = None
    seed: int = 0
    split: bool = True
    mwf: bool | None = None
    mask_extension: str | None = None
    exponent: float | None = None
    batch: int | None = None
    jobs: int = 1
    window: str | None = None

    def __post_init__(self) -> None:
        if self.segment is not None and not 0 < self.segment <= MAX_SEGMENT:
            raise UserError(f"segment={self.segment} must be positive, {MAX_SEGMENT} s of music per call at most")
        if self.overlap is not None and not 0 <= self.overlap <= 0.95:
            raise UserError(f"overlap={self.overlap} must lie in 0 … 0.95, a share of the segment")
        if self.shifts is not None and self.shifts < 0:
            raise UserError(f"shifts={self.shifts} must not be negative")
        if self.seed < 0:
            raise UserError(f"seed={self.seed} must not be negative")
        if self.exponent is not None and not 0 < self.exponent < math.inf:
            raise UserError(f"exponent={self.exponent} must be a positive number")
        if self.batch is not None and self.batch < 1:
            raise UserError(f"batch={self.batch} must be at least 1")
        if self.jobs < 1:
            raise UserError(f"jobs={self.jobs} must be at least 1")
        if self.mask_extension not in (None, *MASK_EXTENSIONS):
            raise UserError(f"mask_extension={self.mask_extension!r} is none of {', '.join(MASK_EXTENSIONS)}")
        if self.window not in (None, *WINDOWS):
            raise UserError(f"window={self.window!r} is none of {', '.join(WINDOWS)}")
        if not self.split and self.segment is not None:
            raise UserError("a segment and the whole song at once (--segment and --no-split) exclude each other")

    def for_magnitudes(self, defaults: dict[str, Any], on_host: bool) -> Options:
        """All that is open filled in, from the ``defaults`` of a configuration first. UserError for other wishes."""
        self._refuse({**_WAVES, **_CHUNKS}, "a network on magnitudes")
        return replace(
            self,
            overlap=_first(self.overlap, 0.0),
            shifts=_first(self.shifts, 0),
            mwf=_first(self.mwf, defaults.get("mwf"), False),
            mask_extension=_first(self.mask_extension, defaults.get("mask_extension"), "zeros"),
            exponent=_first(self.exponent, defaults.get("exponent"), 2.0),
            batch=_first(self.batch, 1 if on_host else 4),
        )

    def for_waveforms(self) -> Options:
        """All that is open filled in as Demucs does. UserError for wishes that concern masks."""
        self._refuse(_MASKS, "a network on waveforms, which makes no masks")
        self._refuse(_CHUNKS, "a network that hears the song at its level as a whole")
        return replace(
            self,
            overlap=_first(self.overlap, 0.25),
            shifts=_first(self.shifts, 1),
            batch=_first(self.batch, 1),
        )

    def for_chunks(self, on_host: bool) -> Options:
        """All that is open filled in as BandSplitRNN does, but for segment and overlap, which are each network's own.

        UserError for wishes that concern masks or whole songs.
        """
        self._refuse({**_MASKS, "split": True}, "a network on overlapping chunks of a stream")
        return replace(
            self,
            shifts=_first(self.shifts, 0),
            batch=_first(self.batch, 1 if on_host else 8),
            window=_first(self.window, NORMALISED),
        )

    def _refuse(self, neutral: dict[str, Any], where: str) -> None:
        for name, nothing in neutral.items():
            if getattr(self, name) not in (None, nothing):
                raise UserError(f"{name} has no meaning for {where}: leave it out")


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
