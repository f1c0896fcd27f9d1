"""A small Apollo trained on this machine and scored on held-out pairs, before and after.

``make demo-apollo`` runs this: pairs of songs and of what MP3 at 32 kbit/s leaves of them, training by
configs/apollo/demo.yaml, the scores of the untrained and of the trained network on songs that training has not seen,
and a picture of each of these. Each step is one of the documented command lines, printed before it runs. Everything
lands in one folder (``--folder``); nothing is downloaded. A second run goes on where the first one was stopped. Without
``--dataset`` it makes synthetic songs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from run_scripts.learning_demo import LearningDemo, add_arguments, cpu_minutes, untrained  # noqa: E402
from run_scripts.options import Parser  # noqa: E402
from run_scripts.run_demo import songs_digest  # noqa: E402
from runtime.console import run, table  # noqa: E402

SCRIPT, CONFIG = "run_scripts/run_apollo.py", "apollo/demo"
BITRATE = "32k"
SCORES = ("lsd_high", "sdr", "si_sdr")


class Demo(LearningDemo):
    """The chain of commands over one folder, in which each set of songs has a folder of its own."""

    def pairs(self) -> Path:
        """Pairs to learn from and to be judged by; returns the folder of all that is made of these songs."""
        place = self.folder / songs_digest(ROOT / self.dataset)
        self.command("-m", "data.mixtures", f"{self.dataset}", f"{place}/songs", "--splits", "train", "test")
        for split, flag in (("train", "-gt"), ("test", "-gv")):
            folders = ["-i", f"{place}/songs/{split}", "-o", f"{place}/pairs/{split}"]
            self.command(SCRIPT, "-m", "generate", *folders, flag, "--bitrates", BITRATE)
        return place

    def learn(self, place: Path) -> tuple[Path, float]:
        """Trains; returns the run's folder and the CPU minutes that it took this time."""
        from runtime import config

        places = [f"data.train.folders=[{place}/pairs/train]", f"data.cache={place}/cache", f"model_dir={place}/model"]
        before = cpu_minutes()
        self.command(SCRIPT, "-m", "train", "-c", CONFIG, *self.processes, *places, *self.overrides)
        cfg = config.load(CONFIG, [f"train.processes={self.processes[1]}", *places, *self.overrides])
        return config.run_folder(cfg, cfg.model_dir), cpu_minutes() - before

    def judge(self, place: Path, network: Path, name: str, *options: str) -> dict:
        """The scores of a network on the pairs that training has not seen, and of what the codec left."""
        report = place / "evaluation" / name
        folders = ["-m", f"{network}", "-i", f"{place}/pairs/test", "-o", f"{report}"]
        self.command(SCRIPT, "-m", "validate", *folders, "--metrics", *SCORES, *options, *self.processes)
        return json.loads((ROOT / report / "summary.json").read_text("utf-8"))


def _line(name: str, scores: dict) -> list[str]:
    return [name, *(f"{scores[score]['mean']:.2f}" if score in scores else "n/a" for score in SCORES)]


def main(arguments: list[str]) -> int:
    parser = Parser(prog="run_apollo_demo.py", description=(__doc__ or "").split("\n", 1)[0])
    add_arguments(parser, "apollo", "train.steps=600")
    options = parser.parse(arguments)
    demo = Demo(options.folder, options.dataset, options.processes, options.overrides)
    demo.songs()
    place = demo.pairs()
    folder, minutes = demo.learn(place)
    before = demo.judge(place, untrained(folder), "untrained")
    after = demo.judge(place, folder, "trained", "--plot")
    lines = [("codec", after["codec"]), ("untrained", before["restored"]), ("trained", after["restored"])]
    print(
        f"\nheld-out pairs ({after['songs']} songs, MP3 at {BITRATE}bit/s, means in dB; of lsd_high less is better):\n"
    )
    print(table([_line(*line) for line in lines], ["", *SCORES]))
    print(f"\npictures: {place}/evaluation/trained/*.png")
    print(demo.cost(folder, minutes))
    return 0


if __name__ == "__main__":
    run(main)
