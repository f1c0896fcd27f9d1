"""What models there are: published ones of the Demucs family, and those in a folder of packages and bags."""

from __future__ import annotations

from pathlib import Path

from models.apollo_config import APOLLO
from pretrained import bsrnn, catalogue, demucs
from runtime import console


def listing(repo: str | Path | None = None) -> str:
    """What ``--list-models`` says: names with published weights, or those in a folder."""
    bags, singles = demucs.contents(repo)
    groups = {"bag": bags, "single network": sorted(singles)}
    if repo is None:
        groups = {"spleeter": [name for archive in catalogue.ARCHIVES for name in archive.networks], **groups}
        groups["single stem; python -m pretrained list says where its weights are"] = list(bsrnn.PUBLISHED)
        groups["restores what a codec took; the same"] = list(APOLLO)[:1]
    return console.table([[name, kind] for kind, names in groups.items() for name in names], ["name", "kind"])
