"""Networks: tensors in, tensors out. ``models.create(name)`` builds one, ``models.names()`` lists them."""

from models.description import Description
from models.registry import create, describe, names, resolve

__all__ = ["Description", "create", "describe", "names", "resolve"]
