"""How fast training segments arrive: from the cache (`fast_train`) beside decoded audio (`train`), in the same run.

    python -m benchmarks.feed [--dataset FOLDER] [--payload float16] [--workers 2] [--rounds 5]

Both sides serve the same segments of the same songs through the same loader, in turns; without ``--dataset`` the songs
are synthetic. A data set needs its index (`preprocess.py`). The cache is made in a temporary folder.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import Pair, Row
from data import cache
from data.chunks import CacheSpec
from data.datasets import CachedMagnitudes, DecodedMagnitudes, Magnitudes
from data.index import Index, read_index
from data.loader import BatchLoader
from data.payload import payloads_for
from data.sampler import EpochPlan
from data.scan import build_index
from data.synthetic import write_songs
from runtime import console

SONGS, SECONDS = 6, 40.0  # two chunks each
BATCH = 4
SEGMENTS = 12  # an epoch, and what is timed at once


def synthetic_index(folder: Path) -> Index:
    """Songs of the usual size: 44.1 kHz, stereo, 16 bit."""
    write_songs(folder, SONGS, SECONDS, seed=0)
    build_index(folder)
    return read_index(folder)


def seconds_per_segment(dataset: Magnitudes, epoch: int, workers: int) -> float:
    """Wall time of one epoch through the loader, nothing else being done, divided by its segments."""
    plan = EpochPlan(len(dataset), 0, epoch, batch_size=BATCH)
    started = time.perf_counter()
    for _ in BatchLoader(dataset, plan, workers=workers):
        pass
    return (time.perf_counter() - started) / (len(plan) * BATCH)


def difference(cached: Magnitudes, decoded: Magnitudes) -> float:
    """Largest difference of the mixtures of an epoch, as part of their largest magnitude."""
    pairs = [(cached.item(0, number)["mixture"], decoded.item(0, number)["mixture"]) for number in range(SEGMENTS)]
    return float(max(np.abs(a - b).max() for a, b in pairs) / max(b.max() for _, b in pairs))


def compare_feeds(index: Index, root: Path, payload: str, workers: int, rounds: int) -> tuple[Pair, float]:
    """Seconds a segment (2 stems, 512 frames, 1024 bins), cached and decoded, medians over ``rounds`` in turns.

    The second value is the `difference` of what they serve.
    """
    spec = CacheSpec(stems=("vocals", "accompaniment"), payload=payload)
    cache.build(index, spec, root, index.require("train", spec.tracks))
    cached = CachedMagnitudes(index, spec, root, "train", samples_per_epoch=SEGMENTS)
    decoded = DecodedMagnitudes(index, spec, "train", samples_per_epoch=SEGMENTS)
    error = difference(cached, decoded)
    times = [
        (seconds_per_segment(cached, epoch, workers), seconds_per_segment(decoded, epoch, workers))
        for epoch in range(rounds + 1)
    ][1:]  # the first round brings the files into memory
    ours, rival = zip(*times, strict=True)
    pair = Pair(statistics.median(ours), statistics.median(rival), statistics.median(a / b for a, b in times))
    return pair, error


def measure(quick: bool = False) -> list[Row]:
    """Rows of the table of `make bench`."""
    with tempfile.TemporaryDirectory() as folder:
        index = synthetic_index(Path(folder) / "songs")
        payloads = payloads_for("magnitude")[: 1 if quick else None]
        return [_row(index, Path(folder) / "cache", payload, 2, 3 if quick else 7) for payload in payloads]


def _row(index: Index, root: Path, payload: str, workers: int, rounds: int) -> Row:
    pair, error = compare_feeds(index, root, payload, workers, rounds)
    note = f"{1 / pair.ours:.0f} against {1 / pair.rival:.1f} segments/s: {1 / pair.ratio:.0f} times as many"
    note += f"; largest difference {error:.0e} of the peak"
    return Row(f"training segment, cached {payload} / decoded", pair, note)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feed", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--dataset", type=Path, help="folder with an index (default: synthetic songs)")
    parser.add_argument(
        "--payload", choices=payloads_for("magnitude"), default="float16", help="numbers in the cache (float16)"
    )
    parser.add_argument("--workers", type=int, default=2, help="loader threads (2); 0 loads in the main thread")
    parser.add_argument("--rounds", type=int, default=5, help="how often the sides take turns (5)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        index = read_index(args.dataset) if args.dataset else synthetic_index(Path(folder) / "songs")
        row = _row(index, Path(folder) / "cache", args.payload, args.workers, max(args.rounds, 1))
    header = ["", "cached", "decoded", "cached / decoded", "rate"]
    console.log(console.table([row.cells()], header))
    return 0


if __name__ == "__main__":
    console.run(main)
