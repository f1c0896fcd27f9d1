"""Golden cases of the reference implementations, run through this project's code: ``python -m tests.parity FILE…``."""
