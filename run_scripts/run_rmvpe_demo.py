"""A small pitch network trained on this machine and scored on held-out voices, before and after.

``make demo-rmvpe`` runs this: songs of synthetic voices with accompaniment, training by configs/rmvpe/demo.yaml, the
scores of the untrained and of the trained network in the songs of the voices that it has not heard, and the pitch of
one of these songs as a picture. Each step is one of the documented command lines, printed before it runs. Everything
lands in one folder (``--folder``); nothing is downloaded. A second run goes on where the first one was stopped. With
``--dataset`` it trains on songs of `run_rmvpe.py -m prepare`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from run_scripts.learning_demo import LearningDemo, add_arguments, cpu_minutes, untrained  # noqa: E402
from run_scripts.options import Parser  # noqa: E402
from runtime.console import run, table  # noqa: E402
from runtime.errors import UserError  # noqa: E402

SCRIPT = "run_scripts/run_rmvpe.py"
SCORES = ("rpa", "rca", "oa", "vr", "vfa")


class Demo(LearningDemo):
    """The chain of commands over one folder, in which each set of songs has a folder of its own."""

    def songs(self) -> None:
        """Sung songs, unless there are others: 60 voices to learn from, twelve others to be judged by."""
        if self.synthetic:
            numbers = ["--songs", "240", "--test", "12", "--singers", "60", "--seconds", "6", "--seed", "0"]
            self.command("-m", "data.voice", f"{self.dataset}", *numbers)

    def learn(self) -> tuple[Path, float]:
        """Trains; returns the run's folder and the CPU minutes that it took this time."""
        from runtime import config

        place = [f"data.dataset={self.dataset}", f"model_dir={self.folder}/runs/{self._digest()}"]
        overrides = [*place, f"train.processes={self.processes[1]}", *self.overrides]
        before = cpu_minutes()
        self.command(SCRIPT, "-m", "train", "-c", "rmvpe/demo", *overrides)
        cfg = config.load("rmvpe/demo", overrides)
        return config.run_folder(cfg, cfg.model_dir), cpu_minutes() - before

    def _digest(self) -> str:
        from data.pitch_segments import songs_of

        facts = [song.fingerprint for song in songs_of(ROOT / self.dataset / "train", 160)]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]

    def judge(self, folder: Path, name: str) -> list[str]:
        """The scores of a run in the songs that training has not seen: a line of a table."""
        report = self.folder / "evaluation" / name
        which = ["-i", f"{self.dataset}", "--model", f"{folder}", "-o", f"{report}", *self.processes]
        self.command(SCRIPT, "-m", "evaluate", *which)
        mean = json.loads((ROOT / report / "summary.json").read_text("utf-8"))["means"]
        return [name, *(f"{mean[score]:.3f}" for score in SCORES)]

    def follow(self, folder: Path) -> None:
        """The pitch of the first held-out song, as numbers and as a picture."""
        song = min((ROOT / self.dataset / "test").glob("*.wav"))
        result = ["-o", f"{self.folder}/pitch/{song.stem}.csv", "--plot"]
        self.command(SCRIPT, "-m", "infer", "--model", f"{folder}", "-i", f"{song}", *result)


def labelled(text: str) -> Path:
    """A data set folder as `-m prepare` leaves it."""
    for split in ("train", "test"):
        if not any(Path(text, split).glob("*.wav")):
            raise UserError(f"{text} has no {split} songs: make the data set with run_rmvpe.py -m prepare")
    return Path(text)


def main(arguments: list[str]) -> int:
    parser = Parser(prog="run_rmvpe_demo.py", description=(__doc__ or "").split("\n", 1)[0])
    add_arguments(parser, "rmvpe", "train.steps=900", labelled, "songs of run_rmvpe.py -m prepare")
    options = parser.parse(arguments)
    demo = Demo(options.folder, options.dataset, options.processes, options.overrides)
    demo.songs()
    folder, minutes = demo.learn()
    lines = [demo.judge(untrained(folder), "step 0"), demo.judge(folder, "trained")]
    demo.follow(folder)
    print(f"\nmixtures of held-out voices and accompaniment:\n\n{table(lines, ['network', *map(str.upper, SCORES)])}\n")
    print(demo.cost(folder, minutes))
    return 0


if __name__ == "__main__":
    run(main)
