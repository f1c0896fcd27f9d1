"""Published weights: which archive a network's weights are in, where it is, and what its SHA-256 must be."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from models import registry
from runtime.errors import UserError

HOST = "https://github.com"
REPOSITORY = "deezer/spleeter"
RELEASE = "v1.4.0"


@dataclass(frozen=True)
class Archive:
    """One published archive; ``name`` is also the folder that its files are unpacked to."""

    name: str
    sha256: str
    networks: tuple[str, ...]


def _spleeter(name: str, sha256: str) -> Archive:
    # the 16 kHz variants run the same weights on more bins
    return Archive(name, sha256, (f"spleeter_{name}", f"spleeter_{name}_16khz"))


ARCHIVES: tuple[Archive, ...] = (
    _spleeter("2stems", "f3a90b39dd2874269e8b05a48a86745df897b848c61f3958efc80a39152bd692"),
    _spleeter("4stems", "3adb4a50ad4eb18c7c4d65fcf4cf2367a07d48408a5eb7d03cd20067429dfaa8"),
    _spleeter("5stems", "25a1e87eb5f75cc72a4d2d5467a0a50ac75f05611f877c278793742513cc7218"),
)


def find(name: str) -> Archive:
    """The archive with the weights of a network, under any accepted spelling of its name.

    Raises:
        UserError: unknown network, or one without published weights
    """
    network = registry.resolve(name)
    for archive in ARCHIVES:
        if network in archive.networks:
            return archive
    published = ", ".join(network for archive in ARCHIVES for network in archive.networks)
    raise UserError(f"there are no published weights for {network}; there are for {published}")


def release_url(file: str, environment: Mapping[str, str] = os.environ) -> str:
    """Address of a release file.

    GITHUB_HOST, GITHUB_REPOSITORY and GITHUB_RELEASE in the environment choose a mirror, as in the original.
    """
    host = environment.get("GITHUB_HOST", HOST).rstrip("/")
    repository = environment.get("GITHUB_REPOSITORY", REPOSITORY).strip("/")
    release = environment.get("GITHUB_RELEASE", RELEASE)
    return f"{host}/{repository}/releases/download/{release}/{file}"
