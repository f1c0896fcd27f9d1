"""Published and foreign weights: names, addresses, checksums; readers of other formats; strict loading."""

from pretrained.demucs import Bag, get_model
from pretrained.download import resolve
from pretrained.loading import load_reference_state, load_state, reference_state
from pretrained.package import Package, read_package, write_package
from pretrained.targets import Targets
from pretrained.weights import Weights, load_weights

__all__ = [
    "Bag",
    "Package",
    "Targets",
    "Weights",
    "get_model",
    "load_reference_state",
    "load_state",
    "load_weights",
    "read_package",
    "reference_state",
    "resolve",
    "write_package",
]
