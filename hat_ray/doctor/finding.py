"""What an examination found: a name, a verdict, what was seen, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["good", "advice", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    `missing` keeps a run from working, `advice` makes it slower or its figures worse.
    """

    name: str
    verdict: Verdict
    seen: str
    remedy: str = ""
    """What to do, in one line; empty where all is well."""


def is_fit(findings: list[Finding]) -> bool:
    """Return whether nothing is missing that a run needs."""
    return all(finding.verdict != "missing" for finding in findings)
