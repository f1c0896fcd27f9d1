"""Write trained networks of the Demucs family as packages, which `separator.py --repo` and others can use."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_scripts import demucs_options as demucs
from run_scripts import options as shared
from runtime.console import log, warn
from runtime.errors import UserError

if TYPE_CHECKING:
    from training.xp import Experiment

EPILOG = """\
A package, SIGNATURE.safetensors, has the best weights of an experiment in half precision, the options of the network,
the configuration of its training and its last scores; demucs.hf.load_safetensors_model of the package `demucs` 4.1
reads it, too. --bag NAME also writes NAME.yaml, which makes one model of all networks. To weigh them source by source,
add to it, for two networks of four sources: weights: [[1, 1, 0, 0], [0, 0, 1, 1]].

--static writes a folder SIGNATURE-static besides: the network as a program of Paddle Inference, network.json with
network.pdiparams, in float32, for one input of fixed length, and facts.json about it. It is compared with the network
first. Run it without oneDNN (Config.disable_mkldnn), which some PaddlePaddle versions need.

examples:
  python run_scripts/run_demucs.py export 81de367c
  python run_scripts/run_demucs.py export 9357e12e 81de367c --bag mine -o release_models
  python separator.py --repo release_models -n mine song.mp3
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = demucs.parser("export", __doc__, EPILOG)
    add = parser.add_argument
    add("signatures", metavar="SIG", nargs="+", help="experiments; dora.dir=FOLDER says where they are, if not outputs")
    text = "where packages are written (default: release_models)"
    add("-o", "--out", type=Path, default=Path("release_models"), metavar="FOLDER", help=text)
    text = "add the first digits of the file's SHA-256 to its name: SIG-CHECKSUM.safetensors"
    add("-s", "--sign", action="store_true", help=text)
    add("--bag", type=_name, metavar="NAME", help="also write NAME.yaml, a bag of all these networks")
    add("--static", action="store_true", help="also write programs of Paddle Inference")
    shared.add_common(parser)
    return parser.parse(arguments)


def _name(text: str) -> str:
    if not text or text != Path(text).name or text.startswith("."):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a file")
    return text


def trained(experiment: Experiment) -> tuple[Any, tuple[Any, Any]]:
    """The network with the best weights, in evaluation mode, and its last validation and test scores.

    Raises:
        UserError: nothing was trained yet, or a damaged checkpoint
    """
    import models
    from pretrained import load_state
    from runtime import checkpoint
    from training import xp_store
    from training.xp_network import exported

    best = checkpoint.best(experiment.folder)
    if best is None:
        raise UserError(f"{experiment.folder} has no best weights yet: train {experiment.signature} first")
    epochs = len(xp_store.history(experiment))
    if epochs < experiment.cfg.epochs:
        warn(f"{experiment.signature} has {epochs} of {experiment.cfg.epochs} epochs")
    name, options = exported(experiment.cfg)
    groups, _ = checkpoint.load(best, ["model"], network=name)
    model = models.create(name, **options)
    load_state(model, groups["model"], source=str(best))
    model.eval()
    return model, xp_store.last_scores(experiment)


def write(experiment: Experiment, out: Path, sign: bool) -> tuple[Path, Any]:
    """Write one package, in place of an earlier one of this command; returns its path and the network.

    Raises:
        UserError: there is a package of that signature from elsewhere; nothing was trained yet
    """
    from pretrained.package import write_package
    from runtime.disk import sha256
    from training.prepare import plain

    signature = experiment.signature
    if foreign := [*out.glob(f"{signature}.th"), *out.glob(f"{signature}-*.th")]:
        raise UserError(
            f"{foreign[0]} is a package of {signature}, too: move it away, or choose another folder with -o"
        )
    model, scores = trained(experiment)
    path = out / f"{signature}.safetensors"
    write_package(path, model, plain(experiment.cfg), [None if one is None else dict(one) for one in scores])
    if sign:
        path = path.rename(out / f"{signature}-{sha256(path)[:8]}.safetensors")
    for earlier in (out / f"{signature}.safetensors", *out.glob(f"{signature}-*.safetensors")):
        if earlier != path:
            earlier.unlink(missing_ok=True)
    return path, model


def write_bag(path: Path, signatures: Sequence[str]) -> None:
    """Write a bag of networks that count alike."""
    from runtime.atomic import atomic_write

    with atomic_write(path, "w") as handle:
        handle.write(f"models: [{', '.join(repr(signature) for signature in signatures)}]\n")


def main(arguments: list[str]) -> int:
    """Exports; returns the exit status."""
    options = parse(arguments)
    from runtime import device as devices
    from runtime.files import require_writable
    from training import xp

    settings = [text for text in options.signatures if text.startswith("dora.dir=")]
    signatures = [text for text in options.signatures if text not in settings]
    if not signatures:
        raise UserError("say which experiments, by their signatures (see --help)", status=2)
    experiments = [xp.load(signature, settings) for signature in signatures]
    devices.activate(devices.select(options.device or "cpu"))
    require_writable(options.out)
    for experiment in experiments:
        path, model = write(experiment, options.out, options.sign)
        log(f"wrote {path}")
        if options.static:
            from run_scripts import static_program

            folder = options.out / f"{experiment.signature}-static"
            error = static_program.write(model, folder, experiment.signature)
            log(f"wrote {folder}: deviates from the network by {error:.1e} of its largest output")
    if options.bag:
        write_bag(options.out / f"{options.bag}.yaml", signatures)
        log(f"wrote {options.out / options.bag}.yaml")
    words = ["python", "separator.py", "--repo", str(options.out), "-n", options.bag or signatures[0], "SONG"]
    log(f"use it: {shlex.join(words)}")
    return 0
