"""Random weights that both sides of a benchmark load, written once by a process of its own."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np


def write(name: str, path: Path, **options: Any) -> Path:
    """Fresh weights of a network in the reference's names and layout, as ``.npz``; this process imports no paddle."""
    subprocess.run([sys.executable, "-m", "benchmarks.weights", name, str(path), json.dumps(options)], check=True)
    return path


def read(path: Path) -> dict[str, np.ndarray]:
    """Reference name -> array."""
    with np.load(path) as arrays:
        return dict(arrays)


def _create(name: str, options: dict[str, Any]) -> Any:
    """A network of the registry, or Apollo's discriminator, which is none."""
    import models
    from models.apollo_config import DiscriminatorConfig
    from models.apollo_discriminator import MultiFrequencyDiscriminator

    if name == "apollo_discriminator":
        return MultiFrequencyDiscriminator(DiscriminatorConfig(**options), name)
    return models.create(name, **options)


if __name__ == "__main__":
    from pretrained import reference_state

    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("path", type=Path)
    parser.add_argument("options", type=json.loads)
    arguments = parser.parse_args()
    np.savez(arguments.path, **reference_state(_create(arguments.name, arguments.options)))
