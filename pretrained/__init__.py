"""Published and foreign weights: names, addresses, checksums; readers of other formats; strict loading."""

from pretrained.download import resolve
from pretrained.loading import Weights, load_reference_state, load_state, load_weights, reference_state

__all__ = ["Weights", "load_reference_state", "load_state", "load_weights", "reference_state", "resolve"]
