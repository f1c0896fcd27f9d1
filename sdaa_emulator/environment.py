"""What a process needs in its environment to see the emulated cards."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sdaa_emulator.build import build


def environment(
    cards: int | None = None, memory: int | None = None, strict: bool = False, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """``given`` (default: this process's environment) with the emulator in it, which is built if need be.

    ``cards`` is their number (4), ``memory`` what each has in MiB (16384), ``strict`` makes it a crash when the host
    touches a card's memory. Which of the cards are visible is said by ``SDAA_VISIBLE_DEVICES``, as on the real system.
    Raises `UserError` if the plug-in cannot be built.
    """
    result = dict(os.environ if given is None else given)
    result["CUSTOM_DEVICE_ROOT"] = str(build())
    if cards is not None:
        result["SDAA_EMULATOR_CARDS"] = str(cards)
    if memory is not None:
        result["SDAA_EMULATOR_MEMORY"] = str(memory)
    if strict:
        result["SDAA_EMULATOR_STRICT"] = "1"
    return result
