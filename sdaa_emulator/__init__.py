"""An emulated SDAA card: a plug-in of Paddle that registers the device type ``sdaa`` on any Linux CPU.

It proves code paths, not speed and not the last digits: the same kernels exist as on the card, they refuse what the
card's refuse, everything else falls back to the host, and processes talk through XCCL. See `docs/en/sdaa.md`.
"""

from sdaa_emulator.build import build
from sdaa_emulator.environment import environment

__all__ = ["build", "environment"]
