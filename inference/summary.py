"""What an evaluation found: aggregated scores, times, memory and the protocol, printed and as a structure for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from inference.scoring import Job
from metrics.report import Protocol, SongScore, aggregate, scores_table
from runtime import console
from runtime.errors import UserError


def conclude(job: Job, scores: Sequence[SongScore], drawn: dict[str, Any], elapsed: float) -> dict[str, Any]:
    """Print the table, times, memory and protocol; returns them as a structure for JSON.

    ``drawn``: split, fraction and seed; ``elapsed``: s that the command took.
    """
    weights = {score.details["identity"]["weights"] for score in scores}
    if len(weights) != 1:
        raise UserError(f"{job.folder} holds scores of different weights ({', '.join(sorted(weights))}): use --restart")
    found = {
        "estimate": aggregate(score.estimates for score in scores),
        "mixture": aggregate(score.mixture for score in scores),
    }
    details = [score.details for score in scores]
    protocol = Protocol(
        window=job.window,
        hop=job.hop,
        over_frames="median",
        over_songs="median",
        songs=len(scores),
        weights=f"{job.plan.label} {weights.pop()}",
        bss=job.bss,
        **drawn,
    )
    each = [facts["separation_seconds"] + facts["scoring_seconds"] for facts in details]
    separation = sum(facts["separation_seconds"] for facts in details)
    speed = {
        "seconds_per_song": float(np.mean(each)),
        "seconds_per_song_range": [min(each), max(each)],
        "separation_seconds_per_song": separation / len(details),
        "real_time_factor": separation / max(sum(facts["seconds"] for facts in details), 1e-9),
        "peak_memory_mib": max(facts["peak_memory_mib"] for facts in details),
    }
    whole = {label: _mean(facts["nsdr"][label] for facts in details) for label in found}
    _say(job, scores, found, whole, protocol, speed, elapsed)
    return {
        **{label: {stem: _plain(row) for stem, row in table.items()} for label, table in found.items()},
        "nsdr": whole,
        **speed,
        "elapsed": elapsed,
        "protocol": {**asdict(protocol), "line": protocol.line()},
        "network": job.plan.network,
        "weights": str(job.plan.weights),
        "songs": {
            score.song: {stem: _plain(row) for stem, row in aggregate([score.estimates]).items()} for score in scores
        },
    }


def _mean(songs: Iterable[dict[str, float]]) -> dict[str, float]:
    """Stem -> mean of a score over songs, as Demucs reports nSDR."""
    songs = list(songs)
    return {stem: round(float(np.mean([song[stem] for song in songs])), 5) for stem in songs[0]}


def _plain(row: dict[str, float]) -> dict[str, float | None]:
    """Rounded like the scores of the songs; nothing is ``null``, since JSON has no NaN."""
    return {name: round(value, 5) if np.isfinite(value) else None for name, value in row.items()}


def _say(
    job: Job,
    scores: Sequence[SongScore],
    found: dict[str, Any],
    whole: dict[str, dict[str, float]],
    protocol: Protocol,
    speed: dict[str, Any],
    elapsed: float,
) -> None:
    deaf = [score.song for score in scores if not any(np.isfinite(f["SDR"]).any() for f in score.estimates.values())]
    if deaf:
        console.warn(f"no window of these songs has sound in all stems, so they do not count: {', '.join(deaf)}")
    console.log(f"\n{scores_table(found)}\n")
    rows = [[stem, *(f"{table[stem]:.3f}" for table in whole.values())] for stem in whole["estimate"]]
    console.log("nSDR of whole songs, dB, mean over songs:")
    console.log(f"{console.table(rows, ['stem', *whole])}\n")
    low, high = speed["seconds_per_song_range"]
    console.log(
        f"{speed['seconds_per_song']:.2f} s per song ({low:.2f} … {high:.2f}), "
        f"of which separation {speed['separation_seconds_per_song']:.2f} s"
    )
    console.log(f"real-time factor of the separation {speed['real_time_factor']:.3f} (time per length of music)")
    console.log(f"peak memory of a process {speed['peak_memory_mib']:.0f} MiB")
    console.log(f"protocol: {protocol.line()}")
    console.log(f"scores of {len(scores)} songs in {job.folder}; {elapsed:.1f} s")
