"""Any command on emulated SDAA cards: ``python -m sdaa_emulator -- python separator.py --device sdaa song.mp3``."""

from __future__ import annotations

import os
import shlex
import sys

from run_scripts.options import Parser
from runtime.console import log, run
from runtime.errors import UserError
from sdaa_emulator import environment


def main(arguments: list[str]) -> int:
    place = arguments.index("--") if "--" in arguments else len(arguments)
    own, command = arguments[:place], arguments[place + 1 :]
    text = "Run a command on emulated SDAA cards; without one, build the emulator and say where it is."
    usage = "python -m sdaa_emulator [--cards N] [--memory MIB] [--strict] [-- COMMAND …]"
    parser = Parser(prog="python -m sdaa_emulator", usage=usage, description=text)
    parser.add_argument("--cards", type=int, metavar="N", help="number of cards (default 4)")
    parser.add_argument("--memory", type=int, metavar="MIB", help="memory of each (default 16384)")
    parser.add_argument("--strict", action="store_true", help="crash where the host touches a card's memory")
    options = parser.parse(own)
    variables = environment(options.cards, options.memory, options.strict)
    if not command:
        print(variables["CUSTOM_DEVICE_ROOT"])
        return 0
    log(f"emulated SDAA cards (code paths, not speed): {shlex.join(command)}")
    if command[0] == "python":
        command[0] = sys.executable  # the Python that the plug-in was built for
    try:
        os.execvpe(command[0], command, variables)
    except OSError as error:
        raise UserError(f"{command[0]}: {error.strerror}") from error


if __name__ == "__main__":
    run(main)
