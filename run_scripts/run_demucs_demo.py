"""Small networks of the Demucs family trained on this machine and scored on held-out songs, before and after.

``make demo-demucs`` runs this. For each network: training by a variant of configs/demucs, export, and the scores of the
mixture, of the untrained and of the trained network. Each step is one of the documented command lines, printed before
it runs. Everything lands in one folder (``--folder``); nothing is downloaded. A second run goes on where the first one
was stopped. Without ``--dataset`` it makes synthetic songs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from run_scripts.learning_demo import LearningDemo, add_arguments, cpu_minutes  # noqa: E402
from run_scripts.options import Parser  # noqa: E402
from runtime.console import run, table  # noqa: E402

NETWORKS = ("htdemucs", "hdemucs", "demucs")
SCRIPT = "run_scripts/run_demucs.py"


class Demo(LearningDemo):
    """The chain of commands over one folder."""

    def __init__(self, folder: Path, dataset: Path | None, processes: int, overrides: list[str]):
        super().__init__(folder, dataset, processes, overrides)
        self.models = self.folder / "models"
        self.changes = [f"dora.dir={self.folder}/outputs", *overrides]

    def learn(self, network: str) -> tuple[str, float]:
        """Trains; returns the signature of the experiment and the CPU minutes that it took this time."""
        overrides = [f"variant=demo_{network}", *self.changes]
        places = ["--dataset", f"{self.dataset}", "--cache", f"{self.folder}/cache"]
        places += ["--metadata", f"{self.folder}/metadata"]
        before = cpu_minutes()
        self.command(SCRIPT, "run", *overrides, *places, *self.processes)
        minutes = cpu_minutes() - before
        shown = subprocess.run(
            [sys.executable, SCRIPT, "info", *overrides], cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True
        )
        signature = shown.stdout.splitlines()[0].removeprefix("signature: ")
        self.command(SCRIPT, "export", signature, "-o", f"{self.models}", f"dora.dir={self.folder}/outputs")
        return signature, minutes

    def judge(self, name: str) -> dict:
        """The scores of a package on the songs that training has not seen."""
        report = self.folder / f"{name}.json"
        output = ["-o", f"{self.folder}/evaluation/{name}", "--json", f"{report}"]
        which = ["-n", name, "--repo", f"{self.models}", "--dataset", f"{self.dataset}", "--fraction", "1"]
        self.command("eval.py", *which, *self.processes, *output)
        return json.loads((ROOT / report).read_text())["nsdr"]

    def untrained(self, signature: str) -> str:
        """A package of the network as it was before its first step; returns its name."""
        import models
        from pretrained import read_package, write_package

        trained = read_package(ROOT / self.models / f"{signature}.safetensors")
        seed = trained.training.get("seed", 42)
        name = f"untrained_{signature}"
        network = models.create(trained.network, **{**trained.options, "seed": seed})
        write_package(ROOT / self.models / f"{name}.safetensors", network)
        return name


def rows(network: str, untrained: dict, trained: dict) -> list[list[str]]:
    """Lines of the table: nSDR in dB of the mixture, of step 0 and of the trained network, and what was gained."""
    signals = {"mixture": trained["mixture"], "step 0": untrained["estimate"], "trained": trained["estimate"]}
    means = {name: sum(scores.values()) / len(scores) for name, scores in signals.items()}
    lines = []
    for name, scores in signals.items():
        over = "" if name == "trained" else f"{means['trained'] - means[name]:+.2f}"
        lines.append([network, name, *(f"{score:.2f}" for score in scores.values()), f"{means[name]:.2f}", over])
    return lines


def _networks(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in NETWORKS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(NETWORKS)}")
    return names


def main(arguments: list[str]) -> int:
    parser = Parser(prog="run_demucs_demo.py", description=(__doc__ or "").split("\n", 1)[0])
    add_arguments(parser, "demucs", "epochs=20")
    text = f"of {', '.join(NETWORKS)} (default: all)"
    parser.add_argument("--networks", type=_networks, default=NETWORKS, metavar="A,B", help=text)
    options = parser.parse(arguments)
    demo = Demo(options.folder, options.dataset, options.processes, options.overrides)
    demo.songs()
    lines, notes = [], []
    for network in options.networks:
        began = time.monotonic()
        signature, minutes = demo.learn(network)
        trained, untrained = demo.judge(signature), demo.judge(demo.untrained(signature))
        lines += rows(network, untrained, trained)
        notes.append(f"{network}: {signature}, {minutes:.1f} CPU minutes, {(time.monotonic() - began) / 60:.1f} in all")
    stems = [*trained["estimate"]]
    print("\nheld-out songs, nSDR of whole songs in dB (mean over songs):\n")
    print(table(lines, ["network", "signal", *stems, "mean", "gain"]))
    print(*notes, sep="\n")
    return 0


if __name__ == "__main__":
    run(main)
