"""What the doctor says of one thing, and how it compares versions."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; whatever is not OK comes with a remedy."""

    subject: str
    text: str
    status: str = OK
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """Ready for JSON."""
        return asdict(self)


def version_numbers(version: str) -> tuple[int, ...]:
    """The first three numbers of a version, for comparing: ``3.0.0-rc1`` is (3, 0, 0)."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
