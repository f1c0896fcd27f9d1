"""The tensors of a network, each of them once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import paddle


def tensors(model: paddle.nn.Layer) -> dict[str, paddle.Tensor]:
    """Parameters and persistent buffers by structured name, in the order of the layers.

    ``state_dict`` lists every tensor of a recurrent layer a second time, under the name of the cell that it belongs to;
    here it has only the first name, which is also PyTorch's.
    """
    found: dict[int, tuple[str, paddle.Tensor]] = {}
    for name, tensor in model.state_dict().items():
        found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())
