"""BSS Eval v4 beside the original of museval: time, peak memory and the largest difference of any frame.

    python -m benchmarks.bss_eval [--seconds 60] [--stems 2 4] [--runs 3]

Both sides score the same estimates (level error, filtering, bleed, noise) of the same synthetic song in 1-s windows,
with one thread each.
"""

import argparse

import numpy as np

from benchmarks.harness import Pair, Row, Side, serve
from metrics.bss_eval import METRICS, bss_eval_v4
from metrics.museval_original import museval_bss_eval
from runtime import console

MODULE = "benchmarks.bss_eval"
RATE = 44100


def scene(stems: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """References and estimates of one song, ``[S, N, 2]`` float32: vocals and accompaniment, or all four stems."""
    from data.synthetic import make_song

    song = make_song(seconds, seed=0)
    names = ("vocals", "drums", "bass", "other")
    references = np.stack([song.tracks[name].T / 32768 for name in names])
    if stems == 2:
        references = np.stack([references[0], references[1:].sum(0)])
    rng = np.random.default_rng(0)
    # recordings have a noise floor; without one the projections are not unique and neither program is right
    references = references + 1e-4 * rng.standard_normal(references.shape)
    estimates = 0.8 * references + 0.05 * np.roll(references, 7, axis=1) + 0.1 * references.sum(0)
    estimates += 0.003 * rng.standard_normal(references.shape)
    return references.astype(np.float32), estimates.astype(np.float32)


def side(program: str, stems: int, seconds: float) -> None:
    """One of the two programs, as a child process."""
    references, estimates = scene(stems, seconds)
    evaluate = {"ours": bss_eval_v4, "museval": museval_bss_eval}[program]

    def unit() -> dict:
        scores = evaluate(references, estimates, RATE, RATE)
        return {"scores": [scores[name].tolist() for name in METRICS]}

    serve(unit)


def compare_programs(stems: int, seconds: float, runs: int) -> Row:
    """Takes turns ``runs`` times after one run that also tells scores and memory."""
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # `eval.py` spends cores on songs, not on threads
    call = (str(stems), str(seconds))
    sides = [Side(name, MODULE, "--side", name, *call, environment=alone) for name in ("ours", "museval")]
    try:
        answers = [one.work() for one in sides]
        pairs = [[one.work()["seconds"] for one in sides] for _ in range(runs)]
    finally:
        for one in sides:
            one.close()
    ours, rival = np.median(pairs, axis=0)
    pair = Pair(float(ours), float(rival), float(np.median([a / b for a, b in pairs])))
    difference = np.abs(np.subtract(*(np.array(answer["scores"]) for answer in answers))).max()
    memory = " and ".join(f"{answer['peak_mib']:.0f}" for answer in answers)
    note = f"{1 / pair.ratio:.0f} times as fast; largest difference {difference:.0e} dB; peak {memory} MiB"
    return Row(f"BSS Eval v4 of {seconds:g} s, {stems} stems / museval", pair, note)


def measure(quick: bool = False) -> list[Row]:
    """Rows of the table of `make bench`."""
    if quick:
        return [compare_programs(2, 30, 2)]
    return [compare_programs(stems, 60, 3) for stems in (2, 4)]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bss_eval", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--seconds", type=float, default=60, help="length of the song (60)")
    parser.add_argument("--stems", type=int, nargs="+", choices=(2, 4), default=[2, 4], help="scenarios (both)")
    parser.add_argument("--runs", type=int, default=3, help="how often the sides take turns (3)")
    parser.add_argument("--side", nargs=3, metavar=("PROGRAM", "STEMS", "SECONDS"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.side:
        side(args.side[0], int(args.side[1]), float(args.side[2]))
        return 0
    rows = [compare_programs(stems, args.seconds, max(args.runs, 1)).cells() for stems in args.stems]
    console.log(console.table(rows, ["", "ours", "museval", "ours / museval", ""]))
    return 0


if __name__ == "__main__":
    console.run(main)
