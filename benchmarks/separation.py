"""Separating a song from its file to its stems with Spleeter, beside the same U-Nets in PyTorch eager mode.

Both sides read a 16-bit WAV file, separate it into two stems at the published size with the same weights and the same
number of threads, and write two 16-bit WAV files. The stems are compared before anything is timed. A second part
separates a long and a short file and compares the peak memory of the two processes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from benchmarks import weights
from benchmarks.harness import Row, Side, compare, serve

MODULE, RATE = "benchmarks.separation", 44100
INSTRUMENTS = ("vocals", "accompaniment")


def write_song(path: Path, seconds: float) -> Path:
    """A deterministic stereo file: chords and noise bursts, written in blocks so that an hour needs no memory."""
    rng = np.random.default_rng(1)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for second in range(int(np.ceil(seconds))):
            count = min(RATE, round(seconds * RATE) - second * RATE)
            time = np.arange(count) / RATE
            notes = 110 * 2 ** (rng.integers(0, 36, 4) / 12)
            chord = sum(np.sin(2 * np.pi * note * time + rng.uniform(0, 6)) for note in notes) * 0.08
            noise = rng.standard_normal((count, 2)) * 0.1 * np.exp(-8 * (time % 0.5))[:, None]
            file.write(np.clip(chord[:, None] * rng.uniform(0.6, 1, 2) + noise, -1, 1))
    return path


def paddle_side(arguments: argparse.Namespace) -> None:
    """Our separator as the command line uses it."""
    from runtime import device

    device.activate(device.select("cpu"))
    import models
    from inference import Separator
    from inference.files import separate_file
    from pretrained import load_reference_state

    model = models.create("spleeter_2stems")
    load_reference_state(model, weights.read(arguments.weights))
    separator = Separator.from_model(model, engine=arguments.engine, precision=arguments.precision)
    serve(lambda: separate_file(separator, arguments.song, arguments.output, template="{stem}.{ext}") and None)


def torch_side(arguments: argparse.Namespace) -> None:
    """The twin, with the whole song as one batch as its users have it."""
    from benchmarks.torch_spleeter import TorchSpleeter, separate

    model = TorchSpleeter(weights.read(arguments.weights), INSTRUMENTS, elu=False, softmax=False).eval()
    arguments.output.mkdir(parents=True, exist_ok=True)

    def song() -> None:
        mix, rate = soundfile.read(arguments.song, dtype="float32")
        stems = separate(model, np.ascontiguousarray(mix.T))
        for name, stem in zip(INSTRUMENTS, stems, strict=True):
            soundfile.write(arguments.output / f"{name}.wav", stem.T, rate, "PCM_16")

    serve(song)


def difference(ours: Path, rival: Path) -> float:
    """Largest difference of the stems in two folders, full scale 1."""
    pairs = [[soundfile.read(folder / f"{name}.wav")[0] for folder in (ours, rival)] for name in INSTRUMENTS]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def measure(quick: bool = False) -> list[Row]:
    """Ratios of the exported program, of eager mode and of bfloat16; then the memory of a long song."""
    rows, runs = [], 3 if quick else 5
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        state = weights.write("spleeter_2stems", folder / "weights.npz")
        seconds = 24 if quick else 180
        song = write_song(folder / "song.wav", seconds)
        for engine, precision in (("program", "float32"), ("eager", "float32"), ("program", "bf16")):
            if precision == "bf16" and not _has_bf16():
                continue
            options = [str(state), str(song), str(folder / engine / precision), engine, precision]
            ours = Side("paddle", MODULE, "paddle", *options)
            rival = Side("torch", MODULE, "torch", *options[:2], str(folder / "torch"))
            ours.work(), rival.work()
            error = difference(folder / engine / precision, folder / "torch")
            pair = compare(ours, rival, runs, warmup=0)
            note = f"{seconds} s of music, {seconds / pair.ours:.1f} times real time, stems differ by {error:.1e}"
            rows.append(Row(f"separation, 2 stems, {engine} {precision}", pair, note))
        rows.append(memory(folder, state, [60, 300] if quick else [180, 3600]))
    return rows


def memory(folder: Path, state: Path, lengths: list[int]) -> Row:
    """Peak memory of two processes that separate a short and a long song."""
    peaks = []
    for seconds in lengths:
        song = write_song(folder / f"{seconds}.wav", seconds)
        side = Side("paddle", MODULE, "paddle", str(state), str(song), str(folder / "long"), "program", "float32")
        peaks.append(side.work()["peak_mib"])
        side.close()
        song.unlink()
    sizes = " and ".join(
        f"{peak:.0f} MiB for {seconds / 60:g} min" for peak, seconds in zip(peaks, lengths, strict=True)
    )
    return Row("peak memory", note=f"{sizes}: ratio {peaks[1] / peaks[0]:.3f}")


def _has_bf16() -> bool:
    """Asked in a process of its own, so that this one stays free of paddle."""
    code = "import sys; from inference.engine import cpu_has_bf16; sys.exit(not cpu_has_bf16())"
    return subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("side", choices=["paddle", "torch"])
    parser.add_argument("weights", type=Path)
    parser.add_argument("song", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("engine", nargs="?", default="program")
    parser.add_argument("precision", nargs="?", default="float32")
    parsed = parser.parse_args()
    {"paddle": paddle_side, "torch": torch_side}[parsed.side](parsed)
