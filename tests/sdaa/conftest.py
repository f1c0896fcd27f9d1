"""Tests on the emulated card need a C++ compiler."""

from tests.sdaa.cards import needs_compiler


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/sdaa" in item.path.as_posix():
            item.add_marker(needs_compiler)
