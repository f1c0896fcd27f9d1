"""Melody metrics of MIREX (mir_eval.melody): how well a pitch track follows a reference."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

CENT_TOLERANCE = 50


@dataclass(frozen=True)
class PitchScores:
    """All between 0 and 1: pitch and chroma accuracy, overall accuracy, voicing recall, voicing false alarm."""

    rpa: float
    rca: float
    oa: float
    vr: float
    vfa: float

    def as_array(self) -> np.ndarray:
        """``[RPA, RCA, OA, VR, VFA]``."""
        return np.array([self.rpa, self.rca, self.oa, self.vr, self.vfa])


def pitch_scores(
    reference_times: np.ndarray, reference_f0: np.ndarray, estimate_times: np.ndarray, estimate_f0: np.ndarray
) -> PitchScores:
    """Scores of a pitch track against a reference, within 50 cents.

    Times ``[T]`` and frequencies ``[T]`` in Hz of each track; a frequency of 0 or below is unvoiced (a negative one
    keeps its pitch for RPA and RCA).  An estimate on other times is interpolated to those of the reference.  Any one
    unit of time will do.  Without a voiced reference frame RPA and RCA are 0 and VR is 1; without an unvoiced one VFA
    is 0.
    Raises ``ValueError`` where a track is empty or its two arrays differ in length.
    """
    from mir_eval import melody  # heavy; only pitch needs it

    tracks = [np.asarray(x, np.float64) for x in (reference_times, reference_f0, estimate_times, estimate_f0)]
    for times, frequencies in (tracks[:2], tracks[2:]):
        if times.shape != frequencies.shape or times.ndim != 1 or not times.size:
            raise ValueError(
                f"a pitch track needs as many times as frequencies, got {times.shape}, {frequencies.shape}"
            )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # mir_eval warns of tracks without any voice
        voicing = melody.to_cent_voicing(*tracks)
        recall, false_alarm = melody.voicing_measures(voicing[0], voicing[2])
        return PitchScores(
            rpa=float(melody.raw_pitch_accuracy(*voicing, cent_tolerance=CENT_TOLERANCE)),
            rca=float(melody.raw_chroma_accuracy(*voicing, cent_tolerance=CENT_TOLERANCE)),
            oa=float(melody.overall_accuracy(*voicing, cent_tolerance=CENT_TOLERANCE)),
            vr=float(recall),
            vfa=float(false_alarm),
        )
