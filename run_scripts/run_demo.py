"""The whole way of a song on this machine: synthetic songs, index, cache, training, evaluation, separation.

``make demo`` runs this. Each step is one of the documented command lines, printed before it runs so that it can be
repeated by hand. Everything lands in one folder (``--folder``); nothing is downloaded. A second run finds what the
first one did: each set of songs has a folder of models of its own, in which training goes on where it was stopped.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from run_scripts.options import Parser, positive  # noqa: E402
from runtime.console import run, table  # noqa: E402
from runtime.errors import UserError  # noqa: E402

METRICS = ("SDR", "SIR", "SAR", "ISR")


class Commands:
    """Commands of this repository, one after the other, whose results land in one folder."""

    def __init__(self, folder: Path):
        folder = folder.resolve()
        self.folder = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder  # as the commands see it
        self.started = time.monotonic()

    def command(self, *arguments: str) -> None:
        """Runs one of the repository's commands and stops the demo when it fails."""
        elapsed = time.monotonic() - self.started
        print(f"\n[{elapsed:5.0f} s] $ python {shlex.join(arguments)}", flush=True)
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        with subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment) as running:
            try:
                status = running.wait()
            except KeyboardInterrupt:  # the command has got it, too, and saves what it has; nothing follows it
                status = running.wait() or 130
            except BaseException:
                running.terminate()
                raise
        if status:
            status = 128 - status if status < 0 else status
            raise UserError(f"the demo stopped: the command above ended with status {status}", status)


class Demo(Commands):
    """The chain of commands over one folder."""

    def __init__(self, folder: Path, steps: int | None = None):
        super().__init__(folder)
        self.dataset = self.folder / "dataset"
        self.config = ["-c", "spleeter/demo", "--dataset", f"{self.dataset}", f"data.cache={self.folder}/cache"]
        self.length = ["--steps", str(steps)] if steps else []

    def learn(self) -> None:
        """Songs, index, cache, training."""
        script, dataset = "run_scripts/run_spleeter.py", f"{self.dataset}"
        self.command("-m", "data.synthetic", dataset, "--songs", "12", "--test", "2", "--seconds", "20", "--seed", "0")
        self.command("preprocess.py", "--dataset", dataset)
        self.command(script, "-m", "process_data", *self.config)
        self.command(script, "-m", "fast_train", "-lm", "False", *self.config, *self.model_dir(), *self.length)

    def model_dir(self) -> list[str]:
        """The option for the folder of the models of just these songs: a run refuses to go on with others."""
        return ["--model-dir", f"{self.folder}/model/{songs_digest(ROOT / self.dataset)}"]

    def judge(self) -> None:
        """Evaluation on the songs that training has not seen."""
        report = ["-o", f"{self.folder}/evaluation", "--json", f"{self.folder}/evaluation.json"]
        everything = ["--fraction", "1", "-seed", "123456", "-npn", "2"]
        self.command("eval.py", *self.config, *self.model_dir(), *everything, *report)

    def separate(self, songs: list[Path]) -> list[Path]:
        """Stems of ``songs``; returns the files written."""
        report = self.folder / "separation.json"
        output = ["-o", f"{self.folder}/separated", "--residual", "--json", str(report)]
        filename = ["--filename", "{foldername} {track}/{stem}.{ext}"]
        self.command("separator.py", *map(str, songs), "-n", self.model_dir()[1], *output, *filename)
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


def songs_digest(dataset: Path) -> str:
    """Eight hexadecimal digits that name the songs of an indexed data set."""
    from data.index import read_index

    fingerprints = sorted(song.fingerprint for song in read_index(dataset / "index.jsonl").songs)
    return hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()[:8]


def checked(song: Path) -> Path:
    """``song``, or `UserError` if it cannot be separated: better said before the training than after it."""
    from dsp.audio import probe

    probe(song)
    return song


def main(arguments: list[str]) -> int:
    parser = Parser(prog="run_demo.py", description=(__doc__ or "").split("\n", 1)[0])
    text = "where everything is written (default: demo in the repository)"
    parser.add_argument("--folder", type=Path, default=ROOT / "demo", help=text)
    parser.add_argument("--song", type=Path, help="separate this file, too, with the network that the demo trains")
    parser.add_argument("--steps", type=positive, metavar="N", help="steps of training (default: as configured)")
    options = parser.parse(arguments)
    more = [checked(options.song.expanduser().resolve())] if options.song else []
    demo = Demo(options.folder, options.steps)
    demo.learn()
    demo.judge()
    held_out = sorted((ROOT / demo.dataset / "test").glob("*/mixture.wav"))
    stems = demo.separate([*held_out, *more])
    print(f"\nheld-out songs (dB, medians):\n\n{demo.summary()}")
    print("\nstems:", *stems, sep="\n  ")
    print(f"\nthe demo took {time.monotonic() - demo.started:.0f} s")
    return 0


if __name__ == "__main__":
    run(main)
