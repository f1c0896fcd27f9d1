"""Tests on the emulated card need a C++ compiler."""

import os
import shutil

import pytest


def pytest_collection_modifyitems(items):
    if not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")):
        for item in items:
            if "tests/sdaa" in item.path.as_posix():
                item.add_marker(pytest.mark.skip(reason="the SDAA emulator needs a C++ compiler"))
