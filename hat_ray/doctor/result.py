"""The result of an examination: name, verdict, observation and remedy."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["good", "advice", "missing"]


@dataclass(frozen=True)
class DoctorResult:
    """One checked property.

    `missing` keeps a run from working, `advice` makes it slower or its figures worse.
    """

    name: str
    verdict: Verdict
    seen: str
    remedy: str = ""
    """Remedy, in one line; empty where all is well."""


def is_fit(findings: list[DoctorResult]) -> bool:
    """Return whether nothing is missing that a run needs."""
    return all(finding.verdict != "missing" for finding in findings)
