"""Write an Apollo for Music-Source-Separation-Training, and as a program of Paddle Inference."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from run_scripts.options import Parser, add_loudness
from runtime.console import log

EPILOG = """\
Writes OUT/model_apollo.ckpt, the generator alone with its options and TEXT, in PyTorch's form, and
OUT/config_apollo.yaml, the configuration that Music-Source-Separation-Training (--model_type apollo) wants. Of a
checkpoint called epoch=E-val_loss=L.ckpt, and of a run of ours after E epochs, they are
model_apollo_ep_E_val_loss_L.ckpt and config_apollo_….yaml. MODEL is as for -m infer.

--static writes a folder OUT/<network>-static besides: the network as a program of Paddle Inference, network.json with
network.pdiparams, in float32, for one input of fixed length, and facts.json about it. It is compared with the network
first. Run it without oneDNN (Config.disable_mkldnn).

examples:
  python run_scripts/run_apollo.py -m export -m model/apollo/base/0a1b2c3d -o release_models -d "64 kbit/s MP3"
  python run_scripts/run_apollo.py -m export -m pytorch_model.bin --static --segments 4
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        prog="run_apollo.py -m export",
        description=__doc__,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("-m", "--model", metavar="MODEL", help="weights (default: saved or trained ones, as for -m infer)")
    add("-c", "--config", metavar="CONFIG", help="YAML file with the network's options (sr, win …) below model")
    text = "folder of the files (default: release_models)"
    add("-o", "--output", type=Path, default=Path("release_models"), metavar="OUT", help=text)
    text = "what to write into the file about the network"
    add("-d", "--description", "--discription", dest="description", default="", metavar="TEXT", help=text)
    add("--static", action="store_true", help="also write a program of Paddle Inference")
    add("--segments", type=float, metavar="S", help="seconds of its input (default: the network's, 10)")
    add_loudness(parser)
    return parser.parse(arguments)


def export(options: argparse.Namespace) -> int:
    """Write what the options say; returns the exit status.

    Raises:
        UserError: no weights, or nothing that can be written
    """
    from inference import restoration
    from runtime import device as devices
    from runtime.files import require_writable

    plan = restoration.plan(options.model, options.config)
    if options.segments is not None:
        plan = replace(plan, model={**plan.model, "segment": options.segments})
    require_writable(options.output)
    devices.activate(devices.select("cpu", plan.network))
    from inference.loading import load
    from pretrained import apollo_exchange

    loaded = load(plan)
    loaded.model.eval()
    paths = apollo_exchange.write(loaded.model, options.output, loaded.path, options.description)
    log(f"wrote {paths[0]} and {paths[1]} of {loaded.path} ({loaded.hash})")
    if options.static:
        from run_scripts import static_program

        folder = options.output / f"{plan.label}-static"
        error = static_program.write(loaded.model, folder, plan.label)
        log(f"wrote {folder}: deviates from the network by {error:.1e} of its largest output")
    return 0


def main(arguments: Sequence[str]) -> int:
    """``-m export`` of ``run_apollo.py``; returns the exit status."""
    return export(parse(arguments))
