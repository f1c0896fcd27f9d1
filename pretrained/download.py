"""Finds published weights on this machine, or fetches them."""

import os
from collections.abc import Sequence
from pathlib import Path

from models import registry
from models.apollo_config import APOLLO
from models.bsrnn_config import BSRNN
from models.rmvpe_config import RMVPE
from pretrained import apollo, bsrnn, catalogue, rmvpe, tf_checkpoint
from pretrained.catalogue import Archive
from runtime import files
from runtime.console import log
from runtime.errors import UserError

DEFAULT_ROOT = Path("model/pretrained")


def root_folder(root: str | Path | None = None) -> Path:
    """Where published weights live: ``root``, else the environment's MODEL_PATH, else ``model/pretrained``."""
    return Path(root or os.environ.get("MODEL_PATH") or DEFAULT_ROOT)


def resolve(name: str | Path, offline: bool = False, root: str | Path | None = None) -> Path:
    """The weights that a name stands for: an existing path as it is, else the local copy, else a download.

    A bare name of a network means its published weights even where a folder happens to have that name.

    Args:
        name: a path, or a network with published weights in any accepted spelling
        offline: never use the network
        root: folder of published weights, see :func:`root_folder`

    Returns:
        a path for :func:`pretrained.load_weights`

    Raises:
        UserError: no such path or network, an incomplete local copy, or nothing local while ``offline``
    """
    path = Path(name)
    explicit = isinstance(name, Path) or path.name != name
    known = _is_network(str(name))
    if path.exists() and (explicit or not known):
        return path
    if not known and (explicit or path.suffix):
        raise UserError(f"there is no file or folder {name}")
    if known and registry.resolve(str(name)) in BSRNN:
        return bsrnn.find(registry.resolve(str(name)))
    if known and registry.resolve(str(name)) in APOLLO:
        return apollo.find(registry.resolve(str(name)))
    if known and registry.resolve(str(name)) in RMVPE:
        return rmvpe.fetch(registry.resolve(str(name)), offline, root_folder(root))
    return fetch(catalogue.find(str(name)), offline, root)


def _is_network(name: str) -> bool:
    try:
        registry.resolve(name)
    except UserError:
        return False
    return True


def fetch(archive: Archive, offline: bool = False, root: str | Path | None = None, mirrors: Sequence[str] = ()) -> Path:
    """The folder of a published archive's weights, downloaded if it is not there; arguments and errors as above.

    ``mirrors`` are other addresses of the same archive (http, https, file), tried in order before the published one.
    """
    folder = root_folder(root) / archive.name
    if is_complete(folder):
        return folder
    if offline:
        raise UserError(f"there are no weights in {folder}, and downloading is off: {_by_hand(archive, folder)}")
    return _download(archive, folder, mirrors)


def is_complete(folder: Path) -> bool:
    """Whether a checkpoint with all its data files lies in the folder.

    Raises:
        UserError: there is a file of this name, or files in the folder that are no complete checkpoint
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file where the folder of the weights should be: move it away")
    if not folder.exists() or not any(folder.iterdir()):
        return False
    bundle = tf_checkpoint.open_bundle(folder)
    for path in map(bundle.shard_path, range(bundle.shards)):
        if not path.is_file():
            raise UserError(
                f"{folder} is incomplete: {path.name} is missing; add it, or remove the folder and try again"
            )
    return True


def _download(archive: Archive, folder: Path, mirrors: Sequence[str]) -> Path:
    urls = [*mirrors, catalogue.release_url(f"{archive.name}.tar.gz")]
    target = folder.with_name(f"{archive.name}.tar.gz")
    log(f"downloading {urls[0]}")
    try:
        files.download(urls, target, sha256=_checksum(archive, folder.parent))
    except UserError as failure:
        raise UserError(f"{failure}. Without a connection, {_by_hand(archive, folder)}") from failure
    if not is_complete(folder):  # another process may have been faster
        files.unpack(target, folder)
    # the original tool only believes a folder that has this file
    (folder / ".probe").write_text("OK")
    target.unlink(missing_ok=True)
    log(f"unpacked to {folder}")
    return folder


def _checksum(archive: Archive, folder: Path) -> str:
    """Known here for the published release; another release has a list of its own."""
    if os.environ.get("GITHUB_RELEASE", catalogue.RELEASE) == catalogue.RELEASE:
        return archive.sha256
    listing = folder / "checksum.json"
    files.download([catalogue.release_url("checksum.json")], listing, progress=False)
    known = files.read_json(listing)
    listing.unlink()
    if not isinstance(known, dict) or archive.name not in known:
        raise UserError(f"{catalogue.release_url('checksum.json')} has no checksum for {archive.name}")
    return known[archive.name]


def _by_hand(archive: Archive, folder: Path) -> str:
    published = os.environ.get("GITHUB_RELEASE", catalogue.RELEASE) == catalogue.RELEASE
    checksum = f" (sha256 {archive.sha256})" if published else ""
    url = catalogue.release_url(f"{archive.name}.tar.gz")
    return (
        f"fetch {url}{checksum} on another machine and unpack it to {folder}, so that {folder / 'checkpoint'} exists; "
        "or give the path of weights"
    )
