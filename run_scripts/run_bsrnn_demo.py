"""A small BandSplitRNN trained on this machine and scored on held-out songs, before and after.

``make demo-bsrnn`` runs this: lists of where the source sounds, training by configs/bsrnn/demo.yaml, and the scores of
the untrained and of the trained network. Each step is one of the documented command lines, printed before it runs.
Everything lands in one folder (``--folder``); nothing is downloaded. A second run goes on where the first one was
stopped. Without ``--dataset`` it makes synthetic songs.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from run_scripts.learning_demo import LearningDemo, add_arguments, cpu_minutes, untrained  # noqa: E402
from run_scripts.options import Parser  # noqa: E402
from run_scripts.run_demo import songs_digest  # noqa: E402
from runtime.console import run  # noqa: E402

SCRIPT = "run_scripts/run_bsrnn.py"


class Demo(LearningDemo):
    """The chain of commands over one folder, in which each set of songs has a folder of its own."""

    def learn(self) -> tuple[Path, float]:
        """Trains; returns the run's folder and the CPU minutes that it took this time."""
        place = self.folder / songs_digest(ROOT / self.dataset)
        places = [f"train_dataset.txt_dir={place}/lists", f"data.cache={self.folder}/cache", f"model_dir={place}/model"]
        options = ["-c", "bsrnn/demo", "--dataset", f"{self.dataset}", *self.processes, *places, *self.overrides]
        before = cpu_minutes()
        self.command(SCRIPT, "-m", "fast_train", *options)
        return _run_folder([f"train.processes={self.processes[1]}", *places, *self.overrides]), cpu_minutes() - before

    def judge(self, folder: Path) -> str:
        """The scores of a run on the songs that training has not seen, as a table."""
        self.command(SCRIPT, "-m", "evaluate", "-d", f"{folder}", "--dataset", f"{self.dataset}", *self.processes)
        return (ROOT / folder / "test.log").read_text("utf-8").rstrip().rpartition("\n\n")[2]


def _run_folder(overrides: list[str]) -> Path:
    from runtime import config

    cfg = config.load("bsrnn/demo", overrides)
    return config.run_folder(cfg, cfg.model_dir)


def main(arguments: list[str]) -> int:
    parser = Parser(prog="run_bsrnn_demo.py", description=(__doc__ or "").split("\n", 1)[0])
    add_arguments(parser, "bsrnn", "train.steps=600")
    options = parser.parse(arguments)
    demo = Demo(options.folder, options.dataset, options.processes, options.overrides)
    demo.songs()
    folder, minutes = demo.learn()
    trained, before = demo.judge(folder), demo.judge(untrained(folder))
    print(f"\nheld-out songs, before training:\n\n{before}\n\nand after it:\n\n{trained}\n")
    print(demo.cost(folder, minutes))
    return 0


if __name__ == "__main__":
    run(main)
