"""The whole way of a song on this machine: synthetic songs, index, cache, training, evaluation, separation.

``make demo`` runs this. Each step is one of the documented command lines, printed before it runs so that it can be
repeated by hand. Everything lands in one folder (``--folder``); nothing is downloaded.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from runtime.console import run, table  # noqa: E402
from runtime.errors import UserError  # noqa: E402

METRICS = ("SDR", "SIR", "SAR", "ISR")


class Demo:
    """The chain of commands over one folder."""

    def __init__(self, folder: Path):
        self.folder, self.started = folder, time.monotonic()  # the folder is seen from the repository
        self.config = ["-c", "spleeter/demo", "--dataset", f"{folder}/dataset", f"data.cache={folder}/cache"]
        self.model = ["--model-dir", f"{folder}/model"]

    def command(self, *arguments: str) -> None:
        """Runs one of the repository's commands and stops the demo when it fails."""
        elapsed = time.monotonic() - self.started
        print(f"\n[{elapsed:5.0f} s] $ python {shlex.join(arguments)}", flush=True)
        status = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"})
        if status.returncode:
            raise UserError(f"the demo stopped: the command above ended with status {status.returncode}")

    def learn(self) -> None:
        """Songs, index, cache, training."""
        script = "run_scripts/run_spleeter.py"
        dataset = f"{self.folder}/dataset"
        self.command("-m", "data.synthetic", dataset, "--songs", "12", "--test", "2", "--seconds", "20", "--seed", "0")
        self.command("preprocess.py", "--dataset", dataset)
        self.command(script, "-m", "process_data", *self.config)
        self.command(script, "-m", "fast_train", "-lm", "False", *self.config, *self.model)

    def judge(self) -> None:
        """Evaluation on the songs that training has not seen."""
        report = ["-o", f"{self.folder}/evaluation", "--json", f"{self.folder}/evaluation.json"]
        everything = ["--fraction", "1", "-seed", "123456", "-npn", "2"]
        self.command("eval.py", *self.config, *self.model, *everything, *report)

    def separate(self, songs: list[Path]) -> list[Path]:
        """Stems of ``songs``; returns the files written."""
        report = self.folder / "separation.json"
        output = ["-o", f"{self.folder}/separated", "--residual", "--json", str(report)]
        filename = ["--filename", "{foldername} {track}/{stem}.{ext}"]
        self.command("separator.py", *map(str, songs), "-n", f"{self.folder}/model", *output, *filename)
        songs = json.loads((ROOT / report).read_text())["files"]
        return [Path(path) for song in songs for path in song["outputs"].values()]

    def summary(self) -> str:
        """Scores of the held-out songs: mixture, estimate, and the gain in SDR."""
        scores = json.loads((ROOT / self.folder / "evaluation.json").read_text())
        rows = []
        for stem, estimate in scores["estimate"].items():
            mixture = scores["mixture"][stem]
            gain = f"{estimate['SDR'] - mixture['SDR']:+.2f}"
            rows.append([stem, "mixture", *(f"{mixture[metric]:.2f}" for metric in METRICS), ""])
            rows.append([stem, "estimate", *(f"{estimate[metric]:.2f}" for metric in METRICS), gain])
        return table(rows, ["stem", "signal", *METRICS, "SDR gain"])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where everything is written (default: demo)")
    parser.add_argument("--song", type=Path, help="separate this file, too, with the network that the demo trains")
    options = parser.parse_args(arguments)
    if options.song and not options.song.is_file():
        raise UserError(f"--song {options.song}: there is no such file")
    demo = Demo(options.folder)
    demo.learn()
    demo.judge()
    held_out = sorted((ROOT / options.folder / "dataset" / "test").glob("*/mixture.wav"))
    stems = demo.separate([*held_out, *([options.song.resolve()] if options.song else [])])
    print(f"\nheld-out songs (dB, medians):\n\n{demo.summary()}")
    print("\nstems:", *stems, sep="\n  ")
    print(f"\nthe demo took {time.monotonic() - demo.started:.0f} s")
    return 0


if __name__ == "__main__":
    run(main)
