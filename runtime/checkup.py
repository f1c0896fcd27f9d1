"""Looks at everything on this machine that the program depends on."""

from __future__ import annotations

import functools
import os
import textwrap
from collections.abc import Sequence

from runtime import doctor_environment, doctor_machine, doctor_paddle
from runtime.finding import ERROR, OK, WARNING, Finding

__all__ = ["ERROR", "OK", "WARNING", "Finding", "everything", "text"]

_WIDTH = 118


def everything() -> list[Finding]:
    """All findings, the software first. Nothing is changed, and Paddle is imported by another process only."""
    card = doctor_paddle.has_plugin()
    return [
        *doctor_paddle.software(),
        *doctor_paddle.devices(),
        *doctor_environment.variables(os.environ, card),
        *doctor_machine.machine(),
    ]


def text(findings: Sequence[Finding]) -> str:
    """The findings for people: a line each, the remedy below, and a last line that counts what is wrong."""
    width = max(len(finding.subject) for finding in findings)
    lines, margin = [], " " * (10 + width)
    fill = functools.partial(
        textwrap.fill, width=_WIDTH, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )
    for finding in findings:
        lines.append(fill(finding.text, initial_indent=f"{finding.status:<8}{finding.subject:<{width}}  "))
        if finding.remedy:
            lines.append(fill(finding.remedy, initial_indent=f"{margin}remedy: "))
    counts = {status: sum(finding.status == status for finding in findings) for status in (ERROR, WARNING)}
    return "\n".join([*lines, "", f"{counts[ERROR]} errors, {counts[WARNING]} warnings"])
