"""How to say in ``CUSTOM_DEVICE_BLACK_LIST`` which registered kernels a plug-in device shall leave to the host.

Paddle reads the variable once. It wants legacy names, forward and backward each, commas and no spaces. A kernel that
the device does not register runs on the host without being named.
"""

from __future__ import annotations

from collections.abc import Iterable

from runtime.sdaa_kernels import kernels

VARIABLE = "CUSTOM_DEVICE_BLACK_LIST"


def spelled(names: Iterable[str], gradients: bool = True) -> str:
    """The list for the kernels ``names`` and, unless ``gradients`` is false, their registered gradients; maybe empty.

    What a forward pass leaves for its gradient differs between the card and the host, so that both go together.
    """
    wanted: dict[str, None] = {}  # a set that keeps the order
    for name in names:
        for each in (name, f"{name.removesuffix('_grad')}_grad") if gradients else (name,):
            if each in kernels():
                wanted[kernels()[each].black_list_name] = None
    return ",".join(wanted)
