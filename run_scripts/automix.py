"""New songs out of the stems of different ones: see `python run_scripts/automix.py --help` and `data.automix`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import automix
from runtime import console

if __name__ == "__main__":
    console.run(automix.main)
