"""The C++ compiler of this machine, which the SDAA emulator is built with."""

from __future__ import annotations

import os
import shutil


def cxx_compiler() -> str | None:
    """Path of the compiler that ``CXX`` names, else of the first usual one; None if it is not there."""
    named = os.environ.get("CXX")
    names = [named] if named else ["g++", "c++", "clang++"]
    return next((path for name in names if (path := shutil.which(name))), None)
