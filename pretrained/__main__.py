"""Lists and fetches published weights: ``python -m pretrained list`` and ``python -m pretrained download NAME…``."""

import argparse

from models import registry
from models.apollo_config import APOLLO
from models.bsrnn_config import BSRNN
from models.rmvpe_config import RMVPE
from pretrained import apollo, bsrnn, catalogue, demucs, download, rmvpe
from runtime import console
from runtime.errors import UserError


def _state(archive: catalogue.Archive, root: str | None) -> str:
    folder = download.root_folder(root) / archive.name
    try:
        return f"in {folder}" if download.is_complete(folder) else "not here yet"
    except UserError as failure:
        return str(failure)


def _list(options: argparse.Namespace) -> None:
    rows = [
        [", ".join(archive.networks), _state(archive, options.root), catalogue.release_url(f"{archive.name}.tar.gz")]
        for archive in catalogue.ARCHIVES
    ]
    for name in demucs.names():
        places = [demucs.place(signature, options.root) for signature in demucs.members(name)]
        here = sum(path.is_file() for path in places)
        rows.append([name, f"{here} of {len(places)} in {places[0].parent}", demucs.url(demucs.members(name)[0])])
    for name, known in bsrnn.PUBLISHED.items():
        place = bsrnn.place(name)
        state = (
            f"in {place}" if place.is_file() else f"to be saved by hand as {place}: {known}; no checksum is published"
        )
        rows.append([name, state, bsrnn.ADDRESS])
    state = f"in {apollo.SAVED}" if apollo.SAVED.is_file() else f"to be saved by hand as {apollo.SAVED}"
    rows.append(["apollo", f"{state}; no checksum is published", apollo.ADDRESS])
    found = rmvpe.here(download.root_folder(options.root))
    rows.append([rmvpe.NETWORK, f"in {found}" if found else "not here yet", rmvpe.url()])
    console.log(console.table(rows, ["networks", "weights", "address"]))


def _download(options: argparse.Namespace) -> None:
    others = [name for name in options.names if not demucs.is_name(name)]
    by_hand = {name: registry.resolve(name) for name in others if registry.resolve(name) in {**BSRNN, **APOLLO}}
    pitch = [name for name in others if registry.resolve(name) in RMVPE]
    archives = list(dict.fromkeys(catalogue.find(name) for name in others if name not in {*by_hand, *pitch}))
    signatures = [sig for name in options.names if name not in others for sig in demucs.members(name)]
    if options.url and signatures:
        raise UserError("--url is for archives of Spleeter: set DEMUCS_URL to a mirror of Demucs' weights")
    if options.url and len(archives) > 1:
        named = ", ".join(archive.name for archive in archives)
        raise UserError(f"--url gives addresses of one archive, but {named} are wanted: fetch them one by one")
    for archive in archives:
        console.log(f"{archive.name}: {download.fetch(archive, options.offline, options.root, options.url)}")
    for signature in dict.fromkeys(signatures):
        console.log(f"{signature}: {demucs.fetch(signature, options.offline, root=options.root)}")
    for name, network in by_hand.items():
        console.log(f"{name}: {(bsrnn if network in BSRNN else apollo).find(network)}")
    for name in pitch:
        root = download.root_folder(options.root)
        console.log(f"{name}: {rmvpe.fetch(registry.resolve(name), options.offline, root)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pretrained", description="Published weights of the networks.")
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="what is published and what is already here")
    listing.set_defaults(run=_list)
    fetching = actions.add_parser("download", help="fetch weights, verify and unpack them")
    fetching.add_argument(
        "names", nargs="+", metavar="NAME", help="networks, such as spleeter_2stems, htdemucs_ft or 955717e8"
    )
    fetching.add_argument("--offline", action="store_true", help="never use the network, only check what is here")
    fetching.add_argument(
        "--url", nargs="+", default=[], help="mirrors of the archive, tried in this order before the published address"
    )
    fetching.set_defaults(run=_download)
    for action in (listing, fetching):
        action.add_argument(
            "--root", help=f"folder of the weights (default: $MODEL_PATH, else {download.DEFAULT_ROOT.as_posix()})"
        )
    return parser


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    options = _parser().parse_args(arguments)
    options.run(options)
    return 0


if __name__ == "__main__":
    console.run(main)
