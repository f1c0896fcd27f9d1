"""What is wrong with this machine, and what an SDAA card would not compute of a network.

python -m runtime.doctor [--json]
python -m runtime.doctor audit NETWORK [--train | --infer] [--json] [key=value…]
"""

from __future__ import annotations

import argparse
import json

from runtime import console

AUDIT = "audit"  # the word that makes it one


def main(arguments: list[str]) -> int:
    """0 if nothing is wrong and the audit could be done, else 1."""
    options = parse(arguments)
    return _audit(options) if arguments[:1] == [AUDIT] else _checkup(options)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line of the check-up, or of the audit if that is its first word."""
    return _parse_audit(arguments[1:]) if arguments[:1] == [AUDIT] else _parse_checkup(arguments)


def _parse_checkup(arguments: list[str]) -> argparse.Namespace:
    from run_scripts.options import Parser

    parser = Parser(
        prog="python -m runtime.doctor",
        description="Versions, devices, environment, memory, disk and codecs of this machine, what is wrong with them, "
        "and the remedy. Ends with status 1 if there is an error.",
        epilog="audit NETWORK: which operators of a network an SDAA card leaves to its host (audit --help)",
    )
    _add_json(parser)
    return parser.parse(arguments)


def _checkup(options: argparse.Namespace) -> int:
    from runtime import checkup

    findings = checkup.everything()
    if options.json:
        print(json.dumps([finding.as_dict() for finding in findings], indent=1, ensure_ascii=False))
    else:
        print(checkup.text(findings))
    return int(any(finding.status == checkup.ERROR for finding in findings))


def _parse_audit(arguments: list[str]) -> argparse.Namespace:
    from run_scripts.options import Parser, positive

    parser = Parser(
        prog="python -m runtime.doctor audit",
        description="Take one real step of a network on random data and list its operators: launches, share of time, "
        "operations, which of them an SDAA card leaves to its host, and the CUSTOM_DEVICE_BLACK_LIST that it needs.",
    )
    parser.add_argument("network", metavar="NETWORK", help="name in the registry, for example spleeter_2stems")
    step = parser.add_mutually_exclusive_group()
    step.add_argument("--train", action="store_true", help="a training step of the network's recipe (default)")
    step.add_argument("--infer", action="store_true", help="the network's part of a separation")
    text = "compute on cpu, gpu or sdaa (default: an emulated SDAA card, which shows the card's own operators)"
    parser.add_argument("--device", metavar="NAME", help=text)
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="segments in the step (default: 1)")
    text = "length of a segment, frames for networks that eat spectrograms, else samples (default: 64 frames, 1 s)"
    parser.add_argument("--segment", type=positive, metavar="N", help=text)
    _add_json(parser)
    text = "change a value of the network's configuration, for example train.amp=true"
    parser.add_argument("overrides", metavar="key=value", nargs="*", help=text)
    return parser.parse(arguments)


def _audit(options: argparse.Namespace) -> int:
    from runtime.doctor_audit import audit

    if options.json:
        console.set_verbosity(-1)  # JSON and nothing else
    found = audit(options.network, not options.infer, options.device, options.batch, options.segment, options.overrides)
    print(json.dumps(found.as_dict(), indent=1) if options.json else found)
    return 0


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs instead of people")


if __name__ == "__main__":
    console.run(main)
